"""What the source text says about LoRA alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from peft_lab.core import units
from peft_lab.interview.claims.base import FIRST, Found, Subject, both, counted, holds
from peft_lab.interview.claims.figures import RANK, query_value, share
from peft_lab.interview.question import separate_attention, takes
from peft_lab.methods.lora.spec import METHOD
from peft_lab.models.shapes import ModelShape

STATED_TRAINABLE, STATED_TOTAL = 4_718_592, 3_216_749_568
LOW, HIGH = 0.1, 1.0  # percent, as the text has it for both
ALPHA = 32


def _lora_count(model: Subject) -> Found:
    targets = query_value(model.shape)
    values = {"r": RANK, "target_modules": targets}
    trained, total = model.trained("lora", **values), model.total("lora", **values)
    shape = model.shape
    square = RANK * 2 * shape.hidden * len(targets)  # in one layer
    why = (
        "Grouped-query attention makes the value map narrower than the query map, but that alone does not explain it: "
        f"with square maps in all {shape.num_layers} layers it would be {units.count(square * shape.num_layers)}."
    )
    if square * shape.heads == STATED_TRAINABLE:
        why += (
            f" What is stated is the count of square maps over {shape.heads} layers, and {shape.heads} is the number "
            "of the model's heads."
        )
    return Found(
        holds(trained == STATED_TRAINABLE and total == STATED_TOTAL),
        f"{units.count(trained)} trainable of {units.count(total)}, {share(100 * trained / total)}",
        why,
        {"trainable": trained, "total": total},
    )


def _is_meant(shape: ModelShape) -> bool:
    """The one model that the figures are about."""
    return shape.name == FIRST


def _lora_share(model: Subject) -> Found:
    small = model.share("lora", r=RANK, target_modules=query_value(model.shape))
    large = model.share("lora", r=RANK, target_modules=["all-linear"])
    return Found(
        both(LOW <= small <= HIGH, LOW <= large <= HIGH),
        f"rank {RANK}: {share(small)} on query and value, {share(large)} on every linear map",
        "The share follows from rank, targets and width: it falls as models get wider and rises with the targets.",
        {"query_value": small, "all": large},
    )


def _has_lora(shape: ModelShape) -> bool:
    return takes("lora", shape)


def _scale(model: Subject) -> Found:
    values = METHOD.complete(model.shape, {"r": RANK, "lora_alpha": ALPHA})
    factor = METHOD.scale(values)
    return Found(
        "right" if factor == 1 else "imprecise",
        f"with the snippet's own α = {ALPHA} and r = {RANK} the product is multiplied by {factor:g}",
        "The formula leaves out the scale α/r, which the paper and PEFT have.",
        {"factor": factor},
    )


def _break_even(model: Subject) -> Found:
    query = model.shape.block["q"]
    inputs, outputs = query.in_features, query.out_features
    rank = inputs * outputs / (inputs + outputs)
    return Found(
        "right",
        f"at rank {rank:,.0f} A and B hold as many numbers as the query map itself; rank {RANK} holds "
        f"{share(100 * RANK / rank)} of them",
        "ΔW can have no higher rank than r. At full rank it can be any matrix, as in full fine-tuning of that matrix.",
        {"rank": rank},
    )


CLAIMS = (
    counted(
        id="lora-count", topic="lora", check=_lora_count, fits=_is_meant,
        claim="LoRA at rank 16 on q and v of Llama 3.2 3B trains 4,718,592 of 3,216,749,568 parameters.",
        quote="# trainable params: 4,718,592 || all params: 3,216,749,568 || trainable%: 0.15%",
    ),
    counted(
        id="lora-share", topic="lora", check=_lora_share, fits=_has_lora,
        claim="LoRA trains 0.1 to 1% of the parameters.", quote="LoRA | 0.1–1%",
    ),
    counted(
        id="lora-formula", topic="lora", check=_scale, fits=_has_lora,
        claim="LoRA computes W + BA.", quote="W' = W + ΔW = W + BA",
    ),
    counted(
        id="lora-rank", topic="lora", check=_break_even, fits=separate_attention,
        claim="A higher rank is more expressive and approaches full fine-tuning.",
        quote="higher r = more expressive but approaches full fine-tuning",
    ),
)  # fmt: skip
