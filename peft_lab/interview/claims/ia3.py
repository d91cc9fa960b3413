"""What the source text says about IA³ alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from functools import partial

from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.interview.claims.base import Claim, Found, Subject, counted, holds, within
from peft_lab.interview.claims.figures import query_value, share
from peft_lab.interview.question import one_stack
from peft_lab.methods import get_method

read = partial(Claim, source=Source.COUNTED)


def _ia3_share(model: Subject) -> Found:
    value = model.share("ia3")
    return Found(
        within(value, 0, 0.01),
        f"{units.count(model.trained('ia3'))} numbers in its vectors, {share(value)} of {model.shape.title}",
        "One number per feature over one number per weight: the share falls with the width of the model.",
        {"share": value},
    )


def _ia3_below_lora(model: Subject) -> Found:
    """At the same maps, where LoRA has its smallest rank; beside it the smallest LoRA there is, on the value map."""
    shape = model.shape
    scaled = list(get_method("ia3").defaults(shape)["target_modules"])
    ia3, lora = model.trained("ia3"), model.trained("lora")
    same = model.trained("lora", r=1, target_modules=scaled)
    least = model.trained("lora", r=1, target_modules=query_value(shape)[-1:])
    return Found(
        holds(ia3 < same),
        f"{units.count(ia3)} against {units.count(same)} of LoRA at rank 1 on the same maps; LoRA at its defaults has "
        f"{units.count(lora)}, and at rank 1 on {query_value(shape)[-1]} alone {units.count(least)}",
        "On the same maps LoRA always has more: two vectors for each rank and matrix against one. On fewer maps it can "
        "get below.",
        {"ia3": ia3, "lora": lora, "same": same, "least": least},
    )


def _ia3_cost(model: Subject) -> Found:
    ia3 = get_method("ia3")
    return Found(
        "imprecise" if ia3.mergeable else "right",
        f"{units.count(model.trained('ia3'))} multiplications a token if they are kept apart, none when merged",
        "l⊙(Wx) = (l⊙W)x: the vectors can be multiplied into the weights, and nothing is left of them.",
        {"vectors": model.trained("ia3")},
    )


CLAIMS = (
    counted(
        id="ia3-share", topic="ia3", check=_ia3_share, fits=one_stack,
        claim="IA³ trains less than 0.01% of the parameters.", quote="IA³ | <0.01%",
    ),
    counted(
        id="ia3-below-lora", topic="ia3", check=_ia3_below_lora, fits=one_stack,
        claim="IA³ has fewer parameters than LoRA on the same maps.",
        quote="Extremely parameter-efficient — even fewer parameters than LoRA.",
    ),
    read(
        id="ia3-scaling-cost", topic="ia3", check=_ia3_cost, fits=one_stack,
        how="the method's formula and whether it merges",
        claim="IA³ costs scaling vectors at inference.", quote="IA³ | <0.01% | Scaling vectors",
    ),
)  # fmt: skip
