"""What is asked after the questions on memory."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz import fourbit
from peft_lab.quiz.calculations.memory import HALF, MIXED, MOMENTS, SINGLE
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.working import block_entries, told

LLAMA = "llama-3.2-3b"
BYTE, BITS = 1, 8
GPUS = 8


def _adapter(case: Case) -> int:
    names = [case.shape.target_name(case.matrix(role)) for role in ("q", "v")]
    return case.trained("lora", r=case["r"], target_modules=names)


def _pure(case: Case) -> Answer:
    return told(case.shape.total * HALF * (2 + MOMENTS), "bytes")


def _split(case: Case) -> Answer:
    return told(case.shape.total * MIXED / GPUS, "bytes", gpus=GPUS)


def _narrowed(case: Case) -> Answer:
    """The weights that grouped-query attention saves in keys and values, as a share of the model with full ones."""
    shape = case.shape
    k, v = case.matrix("k"), case.matrix("v")
    saved = sum((shape.heads * shape.head_dim - m.out_features) * m.in_features * m.count for m in (k, v))
    return told(100 * saved / (shape.total + saved), "percent")


def _eight_bit(case: Case) -> Answer:
    trained = _adapter(case)
    saved = trained * MOMENTS * (SINGLE - BYTE)
    return told(saved, "bytes", share=told(100 * saved / (case.shape.total * HALF), "percent").shown)


def _matters_from(case: Case) -> Answer:
    """The rank at which the adapter's training state is a tenth of the base, and by how much sooner on NF4."""
    per_rank = _adapter(case) / case["r"] * (2 + MOMENTS) * SINGLE
    base, blocks = case.shape.total * HALF, block_entries(case.shape)
    in_four_bits = base - blocks * HALF + blocks * fourbit.bits(double=True) / BITS
    return told(round(0.1 * base / per_rank), sooner=base / in_four_bits)


def _against_mixed(case: Case) -> Answer:
    own = _adapter(case) * (2 + MOMENTS) * SINGLE
    return told(case.shape.total * (MIXED - HALF) - own, "bytes")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "memory-weights": (
        then(
            "What comes on top to run it?",
            "The key/value cache, which grows with every token and every sequence, the activations of one step, and "
            "what the runtime itself needs.",
            src.ALGEBRA, f"{src.GQA}, section 2",
        ),
        then("And to train all of it?", to="memory-mixed-adam"),
    ),
    "memory-gqa-factor": (
        then(
            "Does it change the size of the weights much?",
            "By {{value}} of what the model would have with full key and value maps. The gain is in the cache, and it "
            "is "
            "there for every token of every request.",
            f"{src.GQA}, section 2", calculate=_narrowed,
        ),
        then("So how large is the cache?", to="memory-cache"),
    ),
    "memory-not-saved": (
        then("Which activations does a frozen linear map not need to keep?", to="memory-frozen-activations"),
        then(
            "So what dominates a LoRA run with long sequences?",
            "Activations, and at its peak the logits. Turn the tokens up on the Memory page and see which part grows.",
            src.RUN, opens=lab("memory", model=LLAMA, method="lora", batch=4, seq=2048, tab="curves"),
        ),
    ),
    "memory-parts": (
        then(
            "Why is the second step's peak higher than the first's?",
            "Adam's moments are made in the first update, after the first backward pass. From the second step on they "
            "are there already when the activations are at their largest.",
            src.RUN, f"{src.ADAM}, algorithm 1",
            opens=lab("memory", model=LLAMA, method="full", batch=4, seq=768, tab="timeline"),
        ),
        then("A monitor shows more than the sum of all parts. Why?", to="memory-reserved"),
    ),
    "memory-mixed-adam": (
        then(
            "And in pure bfloat16?",
            "{{value}}: weight, gradient and two moments of two bytes. What is lost is the float32 copy, and with it "
            "small updates.",
            src.ALGEBRA, f"{src.MIXED}, section 3.1", calculate=_pure,
        ),
        then(
            "How is this split over several GPUs?",
            "ZeRO gives each GPU a part of the moments and the copy, then of the gradients, then of the weights. With "
            "everything split over {{gpus}} each holds {{value}}, and activations on top.",
            f"{src.ZERO}, sections 3 and 3.1", calculate=_split,
        ),
        then("How many GPUs would a 70B model need at least?", to="choose-gpus-for-full"),
    ),
    "memory-pure-half": (
        then(
            "What does stochastic rounding do about the lost updates?",
            "It rounds up or down at random, with the nearer neighbour more likely, so that a small update survives "
            "with a chance in proportion to its size: right on average, where rounding to nearest loses it every time.",
            src.PURE_BF16,
        ),
        then("How far apart are bfloat16 numbers, and so which updates are lost?", to="train-bf16-spacing"),
    ),
    "memory-adapter-moments": (
        then(
            "Would an 8-bit optimizer still be worth it?",
            "It would save {{value}}, {{share}} of the base's bytes. Not here; with a large rank on all maps of a "
            "4-bit "
            "base it can be.",
            src.BLOCKWISE, calculate=_eight_bit,
            opens=lab("memory", model=LLAMA, optimizer="adamw8bit", tab="timeline"),
        ),
        then("All that belongs to the adapter: which share of the base is it?", to="memory-adapter-share"),
    ),
    "memory-cache": (
        then(
            "Which PEFT methods make it larger?",
            "Those with virtual tokens, prefix, Prompt and P-Tuning: each token takes what a real one takes, in every "
            "sequence. LoRA, IA³, BitFit and adapters leave it as it is.",
            src.ALGEBRA, src.PEFT,
        ),
        then("How many bytes is one virtual token?", to="prefix-cache"),
    ),
    "memory-adapter-share": (
        then(
            "From which rank on would it be a tenth of the base?",
            "From about {{value}} on. With the layers in 4 bits that point comes {{sooner}} times sooner: embeddings "
            "stay in 16 bits, and sooner still with all linear maps as targets.",
            src.ALGEBRA, calculate=_matters_from, opens=lab("memory", model=LLAMA, targets="all-linear", tab="why"),
        ),
        then("Then calculate it for QLoRA on every map.", to="qlora-adapter-against-base"),
    ),
    "memory-fewer-parameters": (
        then(
            "How would you predict a peak before running?",
            "List the parts: weights, gradients, moments by counting; activations from the shapes and what each "
            "backward pass needs; logits from batch, length and vocabulary. Or simulate the step on tensors without "
            "data, as the Memory page does, and compare with published peaks.",
            src.RUN, opens=lab("memory", model=LLAMA, tab="published"),
        ),
        then("Then explain why IA³ peaks above LoRA.", to="ia3-peak"),
    ),
    "memory-saved-by-lora": (
        then(
            "How does the answer change against mixed precision?",
            "{{value}}: full fine-tuning then keeps a float32 copy and float32 moments as well, LoRA's side is the "
            "same.",
            f"{src.ZERO}, section 3.1", calculate=_against_mixed,
        ),
        then("Say it in words: what does LoRA save, and what does it not?", to="memory-not-saved"),
    ),
    "memory-logits": (
        then(
            "Which PEFT method reduces this?",
            "None: logits come after the model, whatever is trained in it. What helps is code: logits for labelled "
            "positions only, a loss computed in chunks or fused with the output layer.",
            f"{src.FUSED_LOSS}, abstract", opens=lab("memory", model=LLAMA, batch=4, seq=768, tab="timeline"),
        ),
        then("The loss is taken on the answers only. Which share of the tokens counts?",
             to="train-labelled-share"),
    ),
    "memory-checkpoints": (
        then(
            "By how much does the step's arithmetic grow?",
            "By one forward pass: from three units (forward, and two in backward) to four in full fine-tuning. With "
            "LoRA the backward pass is nearly one unit, so two become three and the share is larger.",
            f"{src.CHECKPOINTING}, section 4", f"{src.SCALING}, section 2.1",
            opens=lab("memory", model=LLAMA, checkpointing=True, batch=4, seq=768, tab="timeline"),
        ),
        then("Which trap waits when embeddings are frozen?", to="train-checkpointing-frozen"),
    ),
    "memory-frozen-activations": (
        then(
            "Why does adapting more maps raise memory beyond its parameters?",
            "Each adapted map needs its input again, for the gradient of A. Maps that read the same input share it; "
            "the "
            "down map reads the wide inner activations, which nobody else keeps in that form.",
            src.ALGEBRA, src.RUN, opens=lab("memory", model=LLAMA, targets="all-linear", tab="why"),
        ),
        then(
            "Guess the share that LoRA on queries and values keeps.",
            "The Lab measures the saved tensors of both on a small model.",
            src.RUN, opens=lab("misconceptions", belief="predict-saved-activations"),
        ),
    ),
    "memory-reserved": (
        then(
            "What does emptying the cache do, and what does it not?",
            "It gives unused segments back to the driver, so that other processes can have them. It frees no tensor, "
            "cannot lower the peak of a step, and slows the next allocations down.",
            "PyTorch documentation, CUDA semantics, memory management",
        ),
        then(
            "Out of memory, although gigabytes are reserved and unused. What do you try?",
            "That is fragmentation. Keep lengths alike, by padding to a few sizes or sorting; let segments grow "
            "(`expandable_segments`); lower the peak itself.",
            "PyTorch documentation, CUDA semantics, memory management",
            opens=lab("memory", model=LLAMA, tab="published"),
        ),
    ),
}  # fmt: skip
