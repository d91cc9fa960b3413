"""A plan as its settings: each with its value, its band, and where it comes from."""

from __future__ import annotations

from typing import Any

from peft_lab import references as src
from peft_lab.choose.room import StepPlan
from peft_lab.recipes.recipe import LAB, Setting
from peft_lab.units import Source

_STEP = "simulated training step"


def settings(plan: StepPlan) -> dict[str, dict[str, Any]]:
    """Every setting of a plan by name: the recipe, what the simulated step decides, and the method's other knobs."""
    found = {name: setting.as_dict() for name, setting in plan.recipe.settings.items()}
    simulated = str(Source.SIMULATED)
    found["accumulation"] = _plain(plan.accumulate, _STEP, simulated)
    found["quantization"] = _plain(quantization(plan), f"{_STEP}; {src.QLORA}, section 3", simulated)
    found["sharding"] = _plain("none", "one device", LAB)
    for name, value in plan.values.items():
        if name not in found:
            found[name] = _plain(
                list(value) if isinstance(value, tuple) else value, "the method's default", LAB
            )
    return found


def quantization(plan: StepPlan) -> str:
    """How the frozen base is stored."""
    kind = plan.values.get("bnb_4bit_quant_type")
    if kind is None:
        return "none"
    return f"{kind}, double" if plan.values.get("bnb_4bit_use_double_quant") else str(kind)


def _plain(value: Any, source: str, kind: str) -> dict[str, Any]:
    return {"value": value, "band": None, "source": source, "kind": kind}


def short(reference: str) -> str:
    """A reference's title without authors and address.

    >>> short(src.QLORA), short(src.BENCH)
    ('QLoRA', 'PEFT library')
    """
    first, *rest = reference.split(", ")
    return rest[0] if rest and first[-4:].isdigit() else first


def told_by(setting: Setting) -> str:
    """Whose value it is, in a cell."""
    names = list(dict.fromkeys(short(reference) for reference in setting.agreeing))
    if setting.kind != Source.CITED or not names:
        return setting.why
    more = len(names) - 2
    text = ", ".join(names[:2]) + (f" and {more} more" if more > 0 else "")
    return f"{text}. {setting.why}" if setting.why and setting.name == "learning_rate" else text
