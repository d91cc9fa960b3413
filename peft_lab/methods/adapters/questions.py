"""Questions on bottleneck adapters."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import MERGES, fact
from peft_lab.methods.adapters import calculations as calc
from peft_lab.methods.adapters.follow_ups import FOLLOW_UPS
from peft_lab.quiz.fits import gated, separate_attention
from peft_lab.quiz.question import Question, followed

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
