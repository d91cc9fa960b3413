"""Whose value a setting of a plan is, said in a cell."""

from __future__ import annotations

from peft_lab.recipes.recipe import Setting
from peft_lab.units import Source


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
