"""Questions on LoRA's relatives: MiSS and RandLoRA, which add, and OFT and BOFT, which rotate."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import lora_small as calc
from peft_lab.interview.question import Question, any_model, separate_attention, then

MODEL = "llama-3.2-3b"
OFT = f"{src.PEFT}, OFTConfig"
ask = partial(Question, model=MODEL, fits=separate_attention)

QUESTIONS = (
    ask(
        id="lora-miss-count", topic="lora", level="medium", kind="numeric", calculate=calc.miss, given={"r": 64},
        question="MiSS of rank {{r}} on the query and value maps of {{model}} ({{layers}} layers, outputs {{q_out}} "
        "and {{v_out}}): how many parameters are trained?",
        answer="{{value}}: one matrix of r rows per map, as wide as the outputs. LoRA of that rank trains {{lora}}.",
        listen_for=("one trained matrix instead of two", "it starts at zero, so the model starts unchanged"),
        wrong=("A and B as in LoRA",),
        follow_ups=(
            then("What replaces A?", to="lora-miss-how"),
            then(
                "Where does it save most?",
                "On maps with many inputs and few outputs, such as value maps under grouped-query attention: the "
                "inputs cost nothing.",
                f"{src.PEFT}, MissConfig",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, MissConfig",),
    ),
    ask(
        id="lora-miss-how", topic="lora", level="hard", kind="free", model=None, fits=any_model,
        question="MiSS trains a single matrix that starts at zero, and yet is a low-rank change that can be turned "
        "into LoRA exactly. How?",
        answer="The input is cut into shards and summed into r numbers, which the trained r × d_out matrix maps to "
        "the outputs. The summing is a fixed matrix of zeros and ones, so the change of W is a product of that and "
        "the trained matrix: rank at most r, with a fixed A. PEFT therefore converts the standard and mini modes to "
        "LoRA factors without an SVD; the `bat` mode depends on W and needs one. Only one matrix has gradients, and "
        "it may start at zero, because the fixed one does not.",
        listen_for=(
            "fixed aggregation as A",
            "rank at most r",
            "one factor zero is harmless if the other is fixed and not zero",
            "which mode is nonlinear in W",
        ),
        wrong=("'a zero start cannot learn'",),
        follow_ups=(
            then(
                "What does a fixed A give up?",
                "The choice of directions in the input: inputs of one shard position are always summed, whatever "
                "the task needs. A higher rank makes the shards finer.",
                src.ALGEBRA,
            ),
            then(
                "Which LoRA variant also trains B only?",
                "LoRA-FA freezes A (at random values), which also saves the activations that A's gradient would "
                "need.",
                f"{src.PEFT}, LoRA-FA optimizer",
            ),
        ),
        sources=(f"{src.PEFT}, MissConfig and LoRA conversion",),
    ),
    ask(
        id="lora-randlora-count", topic="lora", level="hard", kind="numeric", calculate=calc.randlora,
        given={"r": 32},
        question="RandLoRA with r = {{r}} on one query map of {{model}} ({{q_in}} inputs, {{q_out}} outputs): how "
        "many parameters does PEFT train?",
        answer="{{value}}: {{bases}} random bases, so that their sum can have full rank, each with one diagonal of "
        "length r and one as long as the narrow side. LoRA at that rank trains {{lora}}.",
        listen_for=(
            "as many bases as the narrow side needs",
            "diagonals are trained, bases are random and shared",
            "full rank, unlike LoRA",
        ),
        wrong=("counts the random bases", "one basis only"),
        follow_ups=(
            then("What does a larger r do?", to="lora-randlora-rank"),
            then(
                "What does full rank cost?",
                "Compute: every forward pass builds the change from all bases, a product as large as W itself.",
                f"{src.PEFT}, RandLoraConfig",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, RandLoraConfig",),
    ),
    ask(
        id="lora-randlora-rank", topic="lora", level="basic", kind="choice", correct=1, model=None,
        fits=any_model,
        options=(
            "More parameters are trained",
            "Fewer parameters are trained",
            "The number stays, only the start differs",
            "The change gets a higher rank",
        ),
        because=(
            "That is LoRA's r. Here r is the size of each basis, and fewer bases are needed.",
            "",
            "The number of bases follows from r.",
            "The sum of bases has full rank at every r.",
        ),
        question="You double r of RandLoRA. What happens?",
        answer="Fewer parameters are trained: r is the rank of each random basis, and half as many bases reach full "
        "rank.",
        listen_for=("r is inversely related to the count here",),
        wrong=("more, as in LoRA",),
        follow_ups=(
            then(
                "Which knob is most like LoRA's rank then?",
                "The inverse of r: smaller bases mean more of them, and more diagonals to train.",
                f"{src.PEFT}, RandLoraConfig",
            ),
            then(
                "What else about its defaults is unusual?",
                "`randlora_alpha` is about twenty times r, so the scale is large; PEFT advises a lower rate or "
                "alpha where training is unstable.",
                f"{src.PEFT}, RandLoraConfig, randlora_alpha",
            ),
        ),
        sources=(f"{src.PEFT}, RandLoraConfig",),
    ),
    ask(
        id="choose-oft-count", topic="choosing", level="medium", kind="numeric", calculate=calc.oft, given={"b": 32},
        question="OFT with blocks of {{b}} on the query and value maps of {{model}} ({{layers}} layers, {{q_in}} "
        "inputs): how many parameters?",
        answer="{{value}}. A rotation of b dimensions has as many free numbers as a b × b matrix has entries above its "
        "diagonal: it is made of a skew-symmetric one.",
        listen_for=(
            "blocks along the inputs",
            "skew-symmetric: half of a square without its diagonal",
            "larger blocks, more parameters",
        ),
        wrong=("b² per block", "larger blocks, fewer parameters"),
        follow_ups=(
            then(
                "How does a skew-symmetric matrix become a rotation?",
                "By the Cayley transform (I + Q)(I − Q)⁻¹, exact but with an inverse, or by its Neumann series, "
                "faster and approximate (`use_cayley_neumann`).",
                OFT,
            ),
            then(
                "What is OFT's `r`?",
                "The number of blocks: r times the block size is the width, so a larger r means smaller blocks and "
                "fewer parameters, the other way round than in LoRA.",
                OFT,
            ),
        ),
        sources=(OFT,),
    ),
    ask(
        id="choose-oft-why", topic="choosing", level="hard", kind="free", model=None, fits=any_model,
        question="OFT multiplies W by an orthogonal matrix instead of adding to it. What does that keep, and when "
        "would you prefer it to LoRA?",
        answer="With R orthogonal, (WR)(WR)ᵀ = WWᵀ: the lengths of the weight rows and all angles between them stay "
        "as pretrained, only their common orientation changes, block by block. That bounds how far a map can be "
        "bent and suits tasks where the pretrained structure must survive, such as subject-driven image generation, "
        "where it comes from. It merges, since WR is a matrix. It cannot change lengths, and the rotations cost "
        "more time than LoRA's two thin products.",
        listen_for=(
            "shows what is invariant",
            "multiplicative, mergeable",
            "cannot scale",
            "cost of building rotations",
        ),
        wrong=("'orthogonal means A and B are orthogonal'", "'it cannot be merged'"),
        follow_ups=(
            then(
                "What does BOFT add?",
                "Butterfly factors: a product of sparse block rotations in permuted order reaches a dense rotation "
                "with fewer parameters than one large block.",
                f"{src.PEFT}, BOFTConfig",
            ),
            then(
                "Would a rank-r addition keep angles?",
                "No: W + BA changes lengths and angles wherever BA is not zero.",
                src.ALGEBRA,
            ),
        ),
        sources=(OFT, src.ALGEBRA),
    ),
    ask(
        id="choose-boft-count", topic="choosing", level="hard", kind="numeric", calculate=calc.boft, given={"b": 4},
        question="BOFT in PEFT with blocks of {{b}} and one factor on a query map of {{model}} ({{q_in}} inputs, "
        "{{q_out}} outputs): how many parameters are trained?",
        answer="{{value}}: full square blocks, of which only the skew-symmetric part acts, and a scale for each "
        "output.",
        listen_for=("counts what the library trains, not what the theory needs", "a scale per output"),
        wrong=("half of a square per block, as in theory",),
        follow_ups=(
            then(
                "Why does the scale matter?",
                "A rotation keeps lengths; one factor for each output lets the map change them.",
                f"{src.PEFT}, BOFTConfig",
                src.ALGEBRA,
            ),
            then(
                "What would a second factor cost?",
                "As many block parameters again: they grow linearly with the number of factors, while the "
                "rotation's reach doubles.",
                f"{src.PEFT}, BOFTConfig",
            ),
        ),
        sources=(f"{src.PEFT}, BOFTConfig",),
    ),
)  # fmt: skip
