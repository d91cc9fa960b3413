"""Names and values of settings as text."""

from __future__ import annotations

from typing import Any

from peft_lab.core import units

_LABELS = {
    "group": "answers to a prompt",
    "warmup": "warm-up, share of the steps",
    "batch": "rows of a step",
    "dtype": "precision",
}


def label(name: str) -> str:
    """Return the name of a setting for a table."""
    return _LABELS.get(name, name.replace("_", " "))


def told_rows(rows: int, group: int) -> str:
    """Return the number of rows of the data, with the answers to each that are trained on.

    >>> told_rows(1000, 1), told_rows(1000, 64)
    ('1,000 rows', '1,000 rows with 64 answers to each')
    """
    return units.several(rows, "row") + (f" with {group:,} answers to each" if group > 1 else "")


def written_figure(value: Any) -> str:
    """Return a value as text for a sentence.

    >>> written_figure(0.0002), written_figure(16), written_figure(True), written_figure(("q_proj", "v_proj"))
    ('2e-4', '16', 'yes', 'q_proj, v_proj')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return _number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def band(limits: tuple[float, float] | None) -> str:
    """Return a range as text for a table cell; empty without a range.

    >>> band((5e-05, 5e-4)), band((8, 8)), band(None)
    ('5e-5 to 5e-4', '8', '')
    """
    if limits is None:
        return ""
    low, high = limits
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    """Return a number as papers write learning rates: 2e-4, not 0.0002."""
    if not 0 < abs(value) < 1e-2:
        return f"{value:g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
