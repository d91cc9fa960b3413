"""What is asked after the questions on quantisation."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview import computed
from peft_lab.interview.calculations import quantisation as calc
from peft_lab.interview.computed import BITS, Answer, Case, told
from peft_lab.interview.question import Challenge, FollowUp, Question, followed, give_way, hold, lab, then

SMOL = "smollm2-135m"
LARGE, LARGER = 128, 256  # weights of a block
WIDTHS = (16, 4)


def _larger_blocks(case: Case) -> Answer:
    return told(computed.nf4_bits(LARGER), "bits", block=LARGER, now=f"{computed.nf4_bits(case['block']):g}")


def _other_widths(case: Case) -> Answer:
    half, four = (told(case["billions"] * 1e9 * width / BITS, "bytes").shown for width in WIDTHS)
    return told(0, "", half=half, four=four)


def _third_level(case: Case) -> Answer:
    """Bits that are left in the second constants, which is all that a third level could touch."""
    return told(computed.CONSTANT_BITS / (computed.NF4_BLOCK * computed.SECOND_BLOCK), "bits")


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


# ----------------------------------------
# Questions on number formats and quantisation.


ask = partial(Question, topic="quantisation", model=None)
CODES = calc.code_book()

_ASKED = (
    ask(
        id="quant-levels", level="basic", kind="numeric", calculate=calc.levels, given={"width": 4},
        question="How many different values can a {{width}}-bit code take?",
        answer="{{value}}. NF4 and FP4 differ in where they put them, integers space them evenly.",
        listen_for=("two to the power of the bits", "the code is an index into a table"),
        wrong=("one fewer: zero is one of them",),
        sources=(src.QLORA,),
    ),
    ask(
        id="quant-single-level", level="basic", kind="numeric", calculate=calc.single_level, given={"block": 64},
        question="4-bit weights in blocks of {{block}}, each block with one float32 constant. How many bits does a "
        "weight cost?",
        answer="{{value}}: the constant is shared by the block. That is {{more}} more than the code alone.",
        listen_for=("adds the constant's bits divided by the block's size",),
        wrong=("four",),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="quant-width-bytes", level="basic", kind="numeric", calculate=calc.seven_billion,
        given={"billions": 7, "width": 8},
        question="{{billions}} billion weights in {{width}} bits each, constants neglected: how many bytes?",
        answer="{{value}}.",
        listen_for=("one byte holds eight bits", "order of magnitude at once"),
        wrong=("bits for bytes",),
        sources=(src.LLM_INT8,),
    ),
    ask(
        id="quant-why-blocks", level="basic", kind="free",
        question="Why are weights quantised in blocks, each with its own constant?",
        answer="A tensor is scaled by its largest magnitude before rounding, so one large weight coarsens the grid "
        "for all others. In blocks the damage stays in the block, and each block uses its own range. Smaller "
        "blocks are more accurate and cost more bits for constants.",
        listen_for=(
            "Numbers are scaled by the largest magnitude before rounding, so one large weight coarsens the grid of "
            "all.", "In blocks the damage of an outlier stays in its block.",
            "Smaller blocks are more accurate and cost more bits for constants.",
        ),
        wrong=("'for speed on GPUs' as the only reason", "'larger blocks are more accurate'"),
        sources=(src.BLOCKWISE, src.QLORA),
    ),
    ask(
        id="quant-double-level", level="medium", kind="numeric", calculate=calc.double_level,
        given={"block": 64, "group": 256},
        question="Double quantisation: 4-bit weights in blocks of {{block}}, block constants in 8 bits, and one "
        "float32 constant for each {{group}} of those. How many bits does a weight cost?",
        answer="{{value}}.",
        listen_for=("three terms", "the last one is tiny but there"),
        wrong=("stops at the 8-bit constants", "divides the second constant by the group only"),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="quant-double-saving", level="medium", kind="numeric", calculate=calc.double_saving,
        given={"billions": 65},
        question="How many bytes does double quantisation (8-bit constants, groups of 256) save on {{billions}} "
        "billion NF4 weights in blocks of 64?",
        answer="{{value}}: {{bits}} bits for each weight.",
        listen_for=("difference of the two overheads", "bits to bytes"),
        wrong=("reports bits as bytes: eight times too much",),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="quant-negative", level="medium", kind="numeric", calculate=calc.negative_values,
        question="NF4 has sixteen values. How many of them are negative?",
        answer="{{value}}, with zero and {{positive}} positive ones: an exact zero is wanted, so the two sides "
        "cannot be equal.",
        listen_for=("exact zero, for padding and for pruned weights", "asymmetric by one"),
        wrong=("half of them",),
        sources=(f"{src.QLORA}, section 3 and appendix E",),
    ),
    ask(
        id="quant-round-trip", level="medium", kind="numeric", calculate=calc.round_trip,
        given={"weight": 0.03, "largest": 0.08, "codes": CODES},
        question="The NF4 values are {{codes}}. A block's largest magnitude is {{largest}}. What does a weight of "
        "{{weight}} come back as?",
        answer="As {{value}}, an error of {{error}}.",
        listen_for=("divide by the constant, take the nearest code, multiply back",),
        wrong=("reports the code value without the constant",),
        sources=(f"{src.QLORA}, section 3 and appendix E",),
    ),
    ask(
        id="quant-why-nf4", level="medium", kind="free",
        question="Why does NF4 place its values at quantiles of the normal distribution? When is that the wrong "
        "choice?",
        answer="Trained weights of a block are close to normal, so values at quantiles are used about equally "
        "often and the code carries the most information. Measured on normal numbers its error is below that of "
        "4-bit integers and FP4. It is wrong for other distributions, activations with outliers above all, and "
        "equal use is not quite the same as least squared error.",
        listen_for=(
            "Trained weights are close to normally distributed.",
            "With values at quantiles each code is used about equally often, so no code is wasted.",
            "It is wrong for other distributions: activations with outliers, for example.",
        ),
        wrong=(
            "'because it is symmetric'", "'because it is a floating-point format'", "'it is best for activations'",
            "'weights are uniformly distributed'",
        ),
        sources=(f"{src.QLORA}, section 3", src.RUN),
    ),
    ask(
        id="quant-outlier", level="hard", kind="numeric", calculate=calc.outlier,
        given={"factor": 10, "codes": CODES},
        question="One weight of a block is {{factor}} times larger in magnitude than any other. The NF4 values are "
        "{{codes}}. To how many different values can the others still be rounded?",
        answer="To {{value}}: everything else is squeezed into the middle of the range. This is why blocks are "
        "small.",
        listen_for=("scaled by the outlier", "few codes near zero are left"),
        wrong=("fifteen: the outlier takes one code only",),
        sources=(src.BLOCKWISE, f"{src.LLM_INT8}, section 3"),
    ),
    ask(
        id="quant-group-format", level="hard", kind="numeric", calculate=calc.group_format,
        given={"group": 128, "scale": 16, "zero": 4},
        question="Another 4-bit format stores a {{scale}}-bit scale and a {{zero}}-bit zero point for each group "
        "of {{group}} weights. How many bits does a weight cost?",
        answer="{{value}}. Formats are compared at bits per weight, constants included, not at 'four bits'.",
        listen_for=("both constants over the group",),
        wrong=("forgets the zero point",),
        sources=(f"{src.GPTQ}, section 5", src.ALGEBRA),
    ),
    ask(
        id="quant-nf4-error", level="hard", kind="numeric", calculate=calc.gaussian_error, needs="torch",
        question="Normal random numbers are stored in NF4 (blocks of 64) and read back. How large is the error's "
        "norm, as a percentage of the numbers' norm? An estimate within a tenth of it counts.",
        answer="{{value}} when run here, against {{fp4}}% for FP4.",
        listen_for=(
            "an order of magnitude: about a tenth, far from negligible",
            "networks tolerate it because errors of many weights average out",
        ),
        wrong=("well under one percent",),
        sources=(src.RUN, f"{src.QLORA}, section 3"),
    ),
    ask(
        id="quant-double-cost", level="hard", kind="free",
        question="What does double quantisation cost in accuracy, and why so little?",
        answer="It rounds the block constants to 8 bits after subtracting their mean. Its error is a fraction of a "
        "percent on a scale factor, while each weight already has an error of several percent from its 4-bit code; "
        "the two add in squares. On normal weights the relative error grows by 0.00003.",
        listen_for=(
            "Only the block constants are rounded to 8 bits, not the weights again.",
            "The error of a constant is a fraction of a percent, small against that of the 4-bit code.",
            "Independent errors add in squares.", "The mean is subtracted first, as constants are all positive.",
        ),
        wrong=("'it halves the precision'", "'it quantises the weights twice'"),
        sources=(f"{src.QLORA}, section 3", src.RUN),
    ),
    ask(
        id="quant-int8-activations", level="medium", kind="free",
        question="Weight-only 4-bit and LLM.int8() are both 'quantisation'. What is different in the "
        "multiplication?",
        answer="Weight-only schemes rebuild the weights to 16 bits and multiply in 16 bits: memory is saved, "
        "arithmetic is not. LLM.int8() quantises activations as well and multiplies integers, with the few outlier "
        "features handled apart in 16 bits. The first suits memory-bound generation, the second needs care for "
        "outliers.",
        listen_for=(
            "what is quantised: weights or activations, too",
            "where the multiplication happens",
            "outlier features",
        ),
        wrong=("that 4-bit weights mean 4-bit arithmetic",),
        sources=(f"{src.LLM_INT8}, section 3", f"{src.QLORA}, section 3"),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on quantisation.


CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "quant-single-level",
        "{{value}}.",
        "It is called four-bit, so it is four.",
        "The code is. Each block has a constant as well, shared by its weights, and that is {{more}} more.",
        f"{src.QLORA}, section 3",
    ),
    hold(
        "quant-negative",
        "{{value}}.",
        "Sixteen values, a symmetric distribution: eight.",
        "An exact zero takes one place, so the sides cannot be equal; there are {{positive}} positive ones.",
        f"{src.QLORA}, section 3 and appendix E",
    ),
    give_way(
        "quant-why-nf4",
        "NF4 is the best four-bit format for everything.",
        "For activations, too?",
        "No: it is made for values that are normally distributed, as weights of a block are about. Activations have "
        "outliers, and then most codes are wasted.",
        f"{src.QLORA}, section 3", f"{src.LLM_INT8}, section 3", opens=lab("fact_check", claim="nf4-better"),
    ),
    hold(
        "quant-double-cost",
        "It costs next to no accuracy.",
        "Eight bits instead of thirty-two for the scale: that is a quarter of the precision.",
        "Of the scale's precision. A scale that is off by a fraction of a percent stands beside weights that are off "
        "by "
        "several percent, and the errors add in squares.",
        f"{src.QLORA}, section 3", src.RUN,
    ),
    give_way(
        "quant-int8-activations",
        "A 4-bit model runs four times faster, since it multiplies four bits.",
        "What is multiplied, in a weight-only scheme?",
        "Sixteen bits: the weights are rebuilt first. Generation can gain because fewer bytes are read; arithmetic "
        "does "
        "not become cheaper.",
        f"{src.QLORA}, section 3", f"{src.GPTQ}, section 5",
    ),
    hold(
        "quant-outlier",
        "To {{value}}.",
        "Fifteen: the outlier takes one code and leaves the others.",
        "It leaves them where they are, spread over the whole range. The rest of the block is squeezed into the middle "
        "of it and reaches only the codes next to zero.",
        src.BLOCKWISE, src.ALGEBRA,
    ),
)  # fmt: skip
