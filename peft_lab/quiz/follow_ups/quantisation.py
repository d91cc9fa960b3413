"""What is asked after the questions on quantisation."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz import fourbit
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.working import BITS, told

SMOL = "smollm2-135m"
LARGE, LARGER = 128, 256  # weights of a block
WIDTHS = (16, 4)


def _larger_blocks(case: Case) -> Answer:
    return told(fourbit.bits(LARGER), "bits", block=LARGER, now=f"{fourbit.bits(case['block']):g}")


def _other_widths(case: Case) -> Answer:
    half, four = (told(case["billions"] * 1e9 * width / BITS, "bytes").shown for width in WIDTHS)
    return told(0, "", half=half, four=four)


def _third_level(case: Case) -> Answer:
    """Bits that are left in the second constants, which is all that a third level could touch."""
    return told(fourbit.CONSTANT_BITS / (fourbit.BLOCK * fourbit.SECOND_BLOCK), "bits")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "quant-levels": (
        then("Where would you put the values, knowing the distribution of weights?", to="quant-why-nf4"),
        then(
            "And how is it used when the model runs?",
            "The code is looked up in the table of values and multiplied by its block's constant; then the product is "
            "computed in 16 bits.",
            f"{src.QLORA}, section 3", opens=lab("qlora", model=SMOL, tab="look inside"),
        ),
    ),
    "quant-single-level": (
        then(
            "What is better and what is worse about larger blocks?",
            "Fewer bits for constants: {{value}} with blocks of {{block}}, instead of {{now}}. But a block's largest "
            "weight sets the grid for all of them, and in more weights the largest is larger.",
            src.BLOCKWISE, calculate=_larger_blocks,
        ),
        then("What does one outlier do to its block?", to="quant-outlier"),
    ),
    "quant-width-bytes": (
        then(
            "And in 16 bits? In 4?",
            "{{half}} and {{four}}, constants left out.",
            src.ALGEBRA, calculate=_other_widths,
        ),
        then(
            "Which parts of a model are usually left out of it?",
            "Embeddings, norms, biases and the output layer stay in 16 bits. On small models with large vocabularies "
            "that is a good part of the whole.",
            src.RUN, f"{src.QLORA}, section 3", opens=lab("qlora", model="llama-3.2-1b", tab="parameters"),
        ),
        then("How much is that on a 1B model?", to="qlora-left-in-half"),
    ),
    "quant-why-blocks": (
        then("What does one large weight do inside a block?", to="quant-outlier"),
        then(
            "What does double quantisation change in this trade?",
            "It makes the constants cheap, so that small blocks can be afforded: the overhead falls to about a quarter "
            "while the grid stays as fine.",
            f"{src.QLORA}, section 3",
            opens=lab("qlora", model=SMOL, bnb_4bit_use_double_quant=True, tab="look inside"),
        ),
    ),
    "quant-double-level": (
        then("How much does that save on a model of 65 billion parameters?", to="quant-double-saving"),
        then(
            "Would a third level make sense?",
            "No. All that is left of the second constants is {{value}} a weight; a third level could save only a part "
            "of that.",
            src.ALGEBRA, calculate=_third_level,
        ),
    ),
    "quant-double-saving": (
        then("Does it cost accuracy?", to="quant-double-cost"),
        then(
            "Would you switch it off on a card with room to spare?",
            "It makes little difference either way: a little memory against a second look-up when weights are rebuilt. "
            "On is the usual choice.",
            f"{src.QLORA}, section 3", opens=lab("fact_check", claim="double-quantisation"),
        ),
    ),
    "quant-negative": (
        then(
            "How are the quantiles of both sides chosen?",
            "For each side apart: evenly spaced probabilities of the normal distribution, eight values upwards and "
            "seven downwards, joined at an exact zero and divided by the largest so that both ends are one.",
            f"{src.QLORA}, section 3 and appendix E", opens=lab("qlora", model=SMOL, tab="look inside"),
        ),
        then("Then quantise one weight with it by hand.", to="quant-round-trip"),
    ),
    "quant-round-trip": (
        then(
            "Which weights of a block come back exactly?",
            "The one with the largest magnitude, as it is divided by itself and both ends are code values; zero; and "
            "whatever happens to be a code value times the constant. With double quantisation the constant itself is "
            "rounded, and then only zero is sure.",
            src.ALGEBRA, f"{src.QLORA}, section 3",
        ),
        then("And how large is the error over many weights?", to="quant-nf4-error"),
    ),
    "quant-why-nf4": (
        then(
            "How would you design a code book for your own weights?",
            "Take their histogram after scaling by block. For the least squared error place the values by Lloyd's "
            "algorithm (each the mean of what is rounded to it), with zero and both ends kept; then test the loss, not "
            "the error alone.",
            src.ALGEBRA,
        ),
        then(
            "Rank NF4, FP4 and evenly spaced integers on normal numbers.",
            "Guess, then let the Lab measure them on blocks of the usual size.",
            src.RUN, opens=lab("misconceptions", belief="predict-four-bit-types"),
        ),
    ),
    "quant-outlier": (
        then(
            "What do LLM.int8() and other schemes do with outliers?",
            "LLM.int8() takes the few feature dimensions with outliers out and multiplies them in 16 bits. Others "
            "scale channels before rounding, or give small blocks a constant of their own.",
            f"{src.LLM_INT8}, section 3", src.BLOCKWISE,
        ),
        then("Weight-only 4 bits and LLM.int8(): what is different in the product?", to="quant-int8-activations"),
    ),
    "quant-group-format": (
        then(
            "What does a zero point buy?",
            "A grid that need not be centred: a group whose weights are all positive uses all its codes. For weights "
            "that are spread around zero it buys little, for activations after a nonlinearity a lot.",
            src.ALGEBRA,
        ),
        then("Compare with NF4 and double quantisation: what does a weight cost there?", to="quant-double-level"),
    ),
    "quant-nf4-error": (
        then(
            "How large is a LoRA correction compared with that?",
            "Often smaller: the Lab shows ‖ΔW‖/‖W‖ of its own runs. That is why rounding W + ΔW to 4 bits again can "
            "swallow the correction.",
            src.RUN, opens=lab("lora", model=SMOL, tab="look inside"),
        ),
        then("So how would you merge it?", to="qlora-merge"),
    ),
    "quant-double-cost": (
        then(
            "How would you measure it on your own model?",
            "Load it with and without, and compare the loss on the same held-out text. The difference has to stand out "
            "from that of another sample of text, or it is none.",
            src.RUN, opens=lab("qlora", model=SMOL, bnb_4bit_use_double_quant=False, tab="train"),
        ),
        then("Then what is the whole saving worth, on 65 billion weights?", to="quant-double-saving"),
    ),
    "quant-int8-activations": (
        then(
            "Which of them can speed up generation at batch 1, and why?",
            "Weight-only 4 bits: at batch 1 the time goes into reading weights, and there are a quarter as many bytes, "
            "provided that a kernel rebuilds them on the way. Integer arithmetic helps where the arithmetic is the "
            "limit, in prefill and large batches.",
            f"{src.GPTQ}, section 5", src.ALGEBRA,
        ),
        then("And what does QLoRA not save, in training?", to="qlora-not-saved"),
    ),
}  # fmt: skip
