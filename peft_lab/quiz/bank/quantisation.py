"""Questions on number formats and quantisation."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.quiz.calculations import quantisation as calc
from peft_lab.quiz.follow_ups.quantisation import FOLLOW_UPS
from peft_lab.quiz.question import Question, followed

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
