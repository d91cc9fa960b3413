"""What is asked after the questions on bottleneck adapters."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.working import block_entries, told

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
