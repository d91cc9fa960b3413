"""What is asked after the questions on bottleneck adapters."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import MERGES, fact
from peft_lab.interview.calculations import adapters as calc
from peft_lab.interview.computed import Answer, Case, block_entries, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    followed,
    gated,
    give_way,
    hold,
    lab,
    separate_attention,
    then,
)

LLAMA, MINILM = "llama-3.2-3b", "minilm-l6"


def _placements(case: Case) -> Answer:
    layers = case.shape.num_layers
    return told(2 * layers, houlsby=2 * layers, pfeiffer=layers)


def _twice_as_wide(case: Case) -> Answer:
    """By how much the adapters' share of the layers' matrices falls where the model is twice as wide."""
    shape, m = case.shape, case["m"]
    adapters = shape.num_layers * (2 * m * shape.hidden + shape.hidden + m)
    wider = shape.num_layers * (4 * m * shape.hidden + 2 * shape.hidden + m)
    matrices = block_entries(shape)
    return told((adapters / matrices) / (wider / (4 * matrices)), "", times=f"{4 * adapters / wider:.2g}")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "adapters-one": (
        then(
            "How many of them are in a model with Houlsby's placement? With Pfeiffer's?",
            "{{houlsby}} in {{model}} with Houlsby's, two in each layer; {{pfeiffer}} with Pfeiffer's.",
            f"{src.HOULSBY}, section 2.1", f"{src.PFEIFFER}, section 4.1 and appendix A.2", calculate=_placements,
            opens=lab("adapters", model=LLAMA, placement="pfeiffer", bottleneck=64, tab="modules"),
        ),
        then("So how many parameters is that with Houlsby's?", to="adapters-houlsby"),
    ),
    "adapters-reduction": (
        then(
            "Which is easier to compare between models: a factor or a width?",
            "The factor keeps the adapter's share of the layer alike, the width keeps its capacity alike. So say "
            "both, and give the count; a factor alone hides that the same number means another width on every model.",
            src.ALGEBRA, f"{src.PFEIFFER}, section 4.1 and appendix A.2",
        ),
        then("What does a width mean as a share of a model?", to="adapters-pfeiffer-share"),
    ),
    "adapters-not-mergeable": (
        then(
            "What would happen with f = identity?",
            "Then h + UDh = (I + UD)h is linear, and it could be multiplied into the map before it: a low-rank change, "
            "close to LoRA. It would also lose what the nonlinearity gave.",
            src.ALGEBRA, f"{src.UNIFIED}, section 3.2",
        ),
        then(
            "Is the residual connection an obstacle to merging?",
            "No, adding h is linear. Nor is the bias. The function f between the two matrices is all that stands in "
            "the way.",
            src.ALGEBRA,
        ),
        then("Which methods do leave no trace, then?", to="serve-which-merge"),
    ),
    "adapters-houlsby": (
        then("How do the placements compare?", to="adapters-placements"),
        then(
            "Show me one block with both adapters in it.",
            "The drawing shows where each sits, and halves when you choose Pfeiffer's placement.",
            f"{src.HOULSBY}, section 2.1",
            opens=lab("adapters", model=LLAMA, placement="houlsby", bottleneck=64),
        ),
    ),
    "adapters-pfeiffer-share": (
        then(
            "How does the share change on a model twice as wide, with the same depth and bottleneck?",
            "In the layers it falls by a factor of about {{times}}: adapters grow with the width, the matrices with "
            "its square. The embeddings grow with the width, too, so over the whole model it falls a little less.",
            src.ALGEBRA, calculate=_twice_as_wide,
        ),
        then(
            "And how did the paper come to its few percent?",
            "By its own width on its own BERT, and it swept the width by task. A percentage belongs to a model, a "
            "placement and a width; the Lab's check of that sentence counts several.",
            f"{src.HOULSBY}, section 3", opens=lab("fact_check", claim="adapters-share"),
        ),
    ),
    "adapters-three-domains": (
        then(
            "How can one batch hold requests of different domains?",
            "Run the base for the whole batch and send each row through its own adapter, with the rows sorted by "
            "domain or the matrices gathered by row. All adapters have the same shapes, so it is a batched product.",
            f"{src.PUNICA}, section 4", src.ALGEBRA,
        ),
        then("Is that how servers do it for LoRA?", to="serve-heterogeneous"),
    ),
    "adapters-placements": (
        then(
            "Where would you put one on an encoder-decoder model?",
            "In both stacks, after or beside the feed-forward part; in the decoder cross-attention is a further place. "
            "If the budget is short, begin with the decoder for generation. Count both stacks when you report it.",
            f"{src.HOULSBY}, section 2.1", src.ALGEBRA,
        ),
        then(
            "Why should the parallel place be better?",
            "It reads what the feed-forward part reads, so it is a second, small feed-forward part beside the first, "
            "not a correction of its output. The comparison found it better there; the reason is an interpretation.",
            f"{src.UNIFIED}, sections 3 and 4.3",
            opens=lab("adapters", model=MINILM, placement="parallel", tab="train"),
        ),
        then("And what does each cost in latency?", to="adapters-latency"),
    ),
    "adapters-near-identity": (
        then(
            "How do you measure in one forward pass whether your start is harmless?",
            "Compare logits or loss with the adapters in place against those of the bare model on the same batch. "
            "They should agree to within rounding or a few thousandths.",
            src.RUN, opens=lab("adapters", model=MINILM, init_std=0.01, tab="train"),
        ),
        then(
            "LoRA sets one side to exactly zero. Why not here?",
            "One could: with U = 0 the adapter is exactly the identity, and D gets its gradient one step later. Both "
            "at zero would not do, as the gradient of each contains the other. Tiny random values are the paper's "
            "choice.",
            src.ALGEBRA, f"{src.HOULSBY}, section 2.1",
        ),
        then("Derive why both at zero never learn.", to="lora-both-zero"),
    ),
    "adapters-extra-work": (
        then(
            "Why did measured latency rise by 20 to 30% at batch 1 in the LoRA paper?",
            "Each adapter is several small operations in sequence that the rest has to wait for, and at batch 1 a GPU "
            "is limited by the start of operations and by memory traffic, not by arithmetic.",
            f"{src.LORA}, section 3 and table 1",
        ),
        then("Say what you would try against it.", to="adapters-latency"),
    ),
    "adapters-matching-width": (
        then(
            "Equal parameters: what else should be equal in a fair comparison?",
            "The data, the steps, the base, the effort of tuning the learning rate for each, the number of seeds. And "
            "what cannot be made equal is reported: memory, time, latency.",
            src.BENCH,
        ),
        then("You have one learning rate for both. What is wrong with that?", to="choose-fair-comparison"),
    ),
    "adapters-latency": (
        then(
            "At which batch size would you expect the difference to vanish?",
            "Where the GPU's arithmetic is busy: at some hundreds of tokens computed at once, so in prefill or with "
            "large batches. In the LoRA paper's table the loss was a few percent at batch 32 and length 512. Measure "
            "it on your device.",
            f"{src.LORA}, section 3 and table 1",
        ),
        then(
            "The latency budget is hard. What do you change to?",
            "A method that merges: LoRA, or IA³ where a small capacity is enough. Then there is nothing left to wait "
            "for.",
            f"{src.LORA}, section 4.1", f"{src.IA3}, section 3.3",
            opens=lab("choose", latency=0),
        ),
    ),
    "adapters-adaption-prompt": (
        then(
            "Why does a gate that starts at zero make training start smoothly?",
            "With the gate at zero the learnt prompts contribute nothing, so the model starts as it was. The gate gets "
            "a gradient at once and opens as far as that helps: the same idea as B = 0.",
            src.PEFT, src.ALGEBRA,
        ),
        then("Put B = 0 into the same words.", to="lora-why-b-zero"),
        then(
            "And where is a real bottleneck adapter to be had?",
            "On the Adapters page, written as a hook and checked against its formula; the snippet from the tutorial is "
            "judged by the fact check.",
            src.PEFT, opens=lab("fact_check", claim="adapters-snippet"),
        ),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on bottleneck adapters.


MODEL = "llama-3.2-3b"
ask = partial(Question, topic="adapters", model=MODEL, fits=separate_attention)

_ASKED = (
    ask(
        id="adapters-one", level="basic", kind="numeric", calculate=calc.one, given={"m": 64},
        question="One bottleneck adapter of width {{m}} in {{model}} (hidden size {{hidden}}), with biases: how "
        "many parameters?",
        answer="$2md + d + m$: down and up matrices and a bias for each, {{value}}.",
        listen_for=("two matrices, two biases", "linear in the width"),
        wrong=("one matrix", "d² somewhere"),
        sources=(f"{src.HOULSBY}, section 2.1",),
    ),
    ask(
        id="adapters-reduction", level="basic", kind="numeric", calculate=calc.reduction, model="bert-base",
        given={"factor": 16},
        question="An adapter library asks for a reduction factor instead of a width. What bottleneck width does a "
        "factor of {{factor}} give on {{model}} (hidden size {{hidden}})?",
        answer="{{value}}; with one adapter per layer that makes {{trained}} parameters.",
        listen_for=(
            "width = hidden size divided by the factor",
            "the same factor means different widths on different models",
        ),
        wrong=("takes the feed-forward width",),
        sources=(f"{src.PFEIFFER}, section 4.1 and appendix A.2",),
    ),
    ask(
        id="adapters-not-mergeable", level="basic", kind="free", model=None,
        facts=(
            fact("adapters", MERGES, "", "never"),
            fact("lora", MERGES),
        ),
        question="Why can LoRA be merged into the weights and a bottleneck adapter not?",
        answer="LoRA's correction is linear in x, so $W_0x + BAx = (W_0 + BA)x$. An adapter has a nonlinear "
        "function between its two matrices: $h + U f(Dh)$ is no linear map of h, so no matrix can stand for it. It "
        "stays in the forward pass, in sequence, for every token.",
        listen_for=(
            "LoRA's correction is linear in x, so W and BA add up to one matrix.",
            "An adapter has a nonlinear function between its two matrices, so no matrix can stand for it.",
            "It stays in the forward pass, so it costs time for every token.",
        ),
        wrong=(
            "'because adapters are between layers': a linear layer there could be merged",
            "'an adapter can be merged too'",
        ),
        sources=(f"{src.HOULSBY}, section 2.1", f"{src.LORA}, section 4.1"),
    ),
    ask(
        id="adapters-houlsby", level="medium", kind="numeric", calculate=calc.houlsby, given={"m": 64},
        question="Houlsby adapters of width {{m}} on {{model}} ({{layers}} layers, hidden size {{hidden}}): how "
        "many parameters?",
        answer="{{value}}, {{share}} of all: two per layer.",
        listen_for=("two per layer, after attention and after the feed-forward part", "biases included"),
        wrong=("one per layer: that is Pfeiffer's placement",),
        sources=(f"{src.HOULSBY}, section 2.1",),
    ),
    ask(
        id="adapters-pfeiffer-share", level="medium", kind="numeric", calculate=calc.pfeiffer_share,
        model="roberta-base", given={"m": 48},
        question="Adapters of width {{m}} in Pfeiffer's placement on {{model}} ({{layers}} layers, hidden size "
        "{{hidden}}, {{total}} parameters). Which share of all parameters is trained?",
        answer="{{value}}, {{trained}} numbers. A range such as 'one to four percent' means nothing without the "
        "width and the model.",
        listen_for=("one per layer", "share = trained / (base + trained)"),
        wrong=("quotes the paper's percentage for another width and model",),
        sources=(f"{src.PFEIFFER}, section 4.1 and appendix A.2", f"{src.HOULSBY}, section 3"),
    ),
    ask(
        id="adapters-three-domains", level="medium", kind="numeric", calculate=calc.three_domains,
        model="minilm-l6", given={"m": 64, "domains": 3},
        question="One {{model}} serves {{domains}} domains, each with its Pfeiffer adapters of width {{m}}, all in "
        "float32. How many bytes of parameters are in memory?",
        answer="{{value}}: one base and {{domains}} adapters of {{adapter}} each. Fine-tuned copies would take "
        "{{copies}}.",
        listen_for=("base once", "adapters switch by name, no weights move"),
        wrong=("counts the base for each domain",),
        sources=(src.HOULSBY,),
    ),
    ask(
        id="adapters-placements", level="medium", kind="free", model=None,
        question="Compare the placements of Houlsby, Pfeiffer and parallel adapters.",
        answer="Houlsby: in sequence after attention and after the feed-forward part, two per layer. Pfeiffer: the "
        "second of them only, half the parameters and time, about as good. Parallel: beside the feed-forward part, "
        "reading its input and added to its output with a scale (4 in the paper); it came out best there, and it "
        "need not wait for the part it stands beside.",
        listen_for=(
            "what each reads and where it adds",
            "cost",
            "parallel placement relates adapters to LoRA and prefix",
        ),
        wrong=("that they differ in the number of parameters only",),
        sources=(
            f"{src.HOULSBY}, section 2.1",
            f"{src.PFEIFFER}, section 4.1 and appendix A.2",
            f"{src.UNIFIED}, sections 3 and 4",
        ),
    ),
    ask(
        id="adapters-near-identity", level="medium", kind="free", model=None,
        question="How are adapters initialised, and what goes wrong otherwise?",
        answer="Both matrices start near zero (a normal deviation of a hundredth in the paper, of a thousandth in its "
        "code), so with the skip connection the adapter is close to the identity and the pretrained model works from "
        "the first step. With a large deviation every layer's output is disturbed at once and training starts from a "
        "broken model; the paper saw steady scores up to a hundredth and lower ones beyond.",
        listen_for=(
            "They start near zero, so with the skip connection the adapter is about the identity.",
            "So the pretrained model works from the first step.",
            "With a large start every layer's output is disturbed, and training begins with a broken model.",
        ),
        wrong=("'Xavier, as always'",),
        sources=(f"{src.HOULSBY}, sections 2.1 and 3.6",),
    ),
    ask(
        id="adapters-extra-work", level="hard", kind="numeric", calculate=calc.extra_work, given={"m": 64},
        question="By which percentage do Houlsby adapters of width {{m}} raise the multiplications per token in "
        "the linear maps of {{model}}'s {{layers}} layers? (hidden size {{hidden}})",
        answer="By {{value}}. Measured time grows more than that at small batches, because many tiny steps in sequence "
        "leave a GPU waiting.",
        listen_for=("one multiplication per weight and token", "arithmetic is not latency"),
        wrong=("takes the share of parameters including the embeddings",),
        sources=(f"{src.LORA}, section 3 and table 1", src.ALGEBRA),
    ),
    ask(
        id="adapters-matching-width", level="hard", kind="numeric", calculate=calc.matching_width, fits=gated,
        given={"r": 16},
        question="Which width must Pfeiffer adapters have on {{model}} to hold as many parameters as LoRA of rank "
        "{{r}} on every linear map? (one layer: inputs and outputs of the seven maps are {{q_in}}/{{q_out}}, "
        "{{k_in}}/{{k_out}}, {{v_in}}/{{v_out}}, {{o_in}}/{{o_out}}, {{gate_in}}/{{gate_out}}, "
        "{{up_in}}/{{up_out}}, {{down_in}}/{{down_out}})",
        answer="About {{value}}. A fair comparison of two methods fixes such a budget first.",
        listen_for=("equates the counts of one layer", "biases barely matter"),
        wrong=("sets m = r",),
        sources=(f"{src.HOULSBY}, section 2.1", f"{src.LORA}, section 4.1"),
    ),
    ask(
        id="adapters-latency", level="hard", kind="free", model=None,
        question="An adapter adds under one percent of arithmetic, yet your service became a quarter slower. "
        "Explain, and say what you would try.",
        answer="At batch 1 and short inputs a GPU waits for kernels, not arithmetic. Each adapter adds several "
        "small kernels in sequence that nothing can overlap with; sharding adds communication for each. Remedies: "
        "larger batches, one adapter per layer or parallel placement, fused kernels or graph capture, adapters in "
        "the upper layers only, or a mergeable method if the latency budget is hard.",
        listen_for=(
            "At small batches the time goes into launching kernels and reading memory, not into arithmetic.",
            "Adapters add steps in sequence, which nothing can overlap with.",
            "Remedies: larger batches, fewer or parallel adapters, fused kernels or graph capture, or a mergeable "
            "method.", "Measure or profile before choosing.",
        ),
        wrong=("'adapters are small, so it must be something else'", "'the extra arithmetic explains it'"),
        sources=(f"{src.LORA}, section 3 and table 1",),
    ),
    ask(
        id="adapters-adaption-prompt", level="hard", kind="free", model=None,
        question="A tutorial says that adapters are `AdaptionPromptConfig` in PEFT. What is wrong, and what would "
        "you use?",
        answer="That class is LLaMA-Adapter: learned prompts in the upper layers' attention behind a gate that "
        "starts at zero. It is a prompt method, not a bottleneck. PEFT has no bottleneck adapter; the `adapters` "
        "library has, with its own requirements on the transformers version, or one writes the few lines as a "
        "hook.",
        listen_for=("gated prompts against bottleneck networks", "checks the class instead of trusting the name"),
        wrong=("that it is only another placement",),
        sources=(src.PEFT, src.RUN),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on adapters.


CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "adapters-not-mergeable",
        "The nonlinearity is what prevents merging.",
        "No, it is the place: they stand between layers.",
        "A linear layer between two others could be multiplied out. It is the function between the adapter's two "
        "matrices that no matrix can stand for.",
        f"{src.HOULSBY}, section 2.1", src.ALGEBRA,
    ),
    give_way(
        "adapters-latency",
        "They add less than a percent of arithmetic, so the service cannot be slower for them.",
        "What does a GPU wait for at batch 1?",
        "For kernels to start and for memory, in sequence. Small steps that nothing overlaps with cost far more time "
        "than arithmetic. The LoRA paper measured 20 to 30% at batch 1.",
        f"{src.LORA}, section 3 and table 1",
    ),
    hold(
        "adapters-houlsby",
        "{{value}}: two per layer.",
        "One adapter per layer, so half of that.",
        "One is Pfeiffer's placement. Houlsby has one after attention and one after the feed-forward part.",
        f"{src.HOULSBY}, section 2.1", opens=lab("adapters", model="llama-3.2-3b", placement="houlsby"),
    ),
    give_way(
        "adapters-pfeiffer-share",
        "Adapters are one to four percent of a model.",
        "At which width, on which model?",
        "That is the point: without both the sentence means nothing. Here it is {{value}}.",
        f"{src.HOULSBY}, section 3", opens=lab("fact_check", claim="adapters-share"),
    ),
    hold(
        "adapters-adaption-prompt",
        "`AdaptionPromptConfig` is no bottleneck adapter.",
        "It says adapter in the paper's title. Of course it is one.",
        "It is LLaMA-Adapter: learnt prompts in the upper layers' attention behind a gate. There is no bottleneck in "
        "it. "
        "Look at the modules, not at the name.",
        src.PEFT, opens=lab("fact_check", claim="adapters-snippet"),
    ),
)  # fmt: skip
