"""Define and format figures: :class:`Finding`, number formats, and names and values of settings as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

TINY_PERCENT = 1e-5  # below it zeros would only be counted wrong


class Source(StrEnum):
    """Where a figure comes from. Every page shows it as the same badge."""

    COUNTED = "counted"
    SIMULATED = "simulated"
    MEASURED = "measured"
    CITED = "cited"


SOURCE_HELP = {
    Source.COUNTED: "counted on the real model, or on the same model built without its weights",
    Source.SIMULATED: "the real training step, run on tensors that have shapes but no data",
    Source.MEASURED: "measured in a real run, on this machine unless another is named",
    Source.CITED: "from a paper or a published benchmark",
}


@dataclass(frozen=True)
class Finding:
    """One displayed figure: ``value`` in ``unit`` (``parameters``, ``bytes``, ``percent`` ...), where it comes from,
    and in ``note`` what it was taken from (a run, a reference, a model)."""

    value: float
    unit: str
    source: Source
    note: str = ""

    def __str__(self) -> str:
        return show(self.value, self.unit)

    def as_dict(self) -> dict[str, Any]:
        """Return the figure as a dictionary that JSON can hold."""
        return {"value": self.value, "unit": self.unit, "source": str(self.source), "note": self.note}


def count(number: float) -> str:
    """Return a number with thousands separators: '4,587,520'."""
    return f"{round(number):,}"


def short_count(number: float) -> str:
    """Return a number with three significant digits and a suffix ('4.59M'); exact below 10,000."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= limit:
            scale = 1e3 if suffix == "k" else limit
            return f"{number / scale:.3g}{suffix}"
    return f"{round(number):,}"


def size(number: float) -> str:
    """Return bytes in decimal units, as disks and papers state them: '1.84 MB'."""
    sign, number = ("-" if number < 0 else ""), abs(number)
    limit, suffix, digits = _scale(number)
    return f"{sign}{number / limit:.{digits}f} {suffix}" if limit > 1 else f"{sign}{round(number)} B"


def said(number: int, up: bool) -> int:
    """Round bytes up or down so that :func:`size` writes them exactly."""
    limit, _, digits = _scale(number)
    grain = max(1, round(limit / 10**digits))
    return -(-number // grain) * grain if up else number // grain * grain


def _scale(number: float) -> tuple[float, str, int]:
    """Return the unit for that many bytes: its size in bytes, its name, and the decimals to write."""
    for limit, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit * 0.9995:
            scaled = number / limit
            return limit, suffix, 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return 1, "B", 0


def unlike(
    number: float, limit: float, write: Callable[[float], str] = size, unit: str = " B"
) -> tuple[str, str]:
    """Return a number and the limit that it violates as text; exactly, in ``unit``, where rounding makes them equal."""
    said, most = write(number), write(limit)
    return (said, most) if said != most else (f"{round(number):,}{unit}", f"{round(limit):,}{unit}")


def percent(number: float) -> str:
    """Return a percentage with three significant digits; tiny ones keep two: '0.000093%'."""
    if number == 0:
        return "0%"
    if abs(number) >= 99.95:
        return f"{number:.0f}%"
    if abs(number) >= 1e-4:
        return f"{number:.3g}%"
    text = f"{number:.1e}"
    if abs(number) >= TINY_PERCENT:
        text = f"{Decimal(text):f}".rstrip("0")
    return f"{text}%"


def seconds(number: float) -> str:
    """Return seconds in suitable units: '12 µs', '4.2 ms', '0.42 s', '4 min 10 s', '3 h 20 min', '2 days 4 h'."""
    for limit, unit, scale in ((1e-3, "µs", 1e6), (0.1, "ms", 1e3)):
        if 0 < number < limit:
            scaled = number * scale
            return f"{scaled:.0f} {unit}" if scaled >= 10 else f"{scaled:.2g} {unit}"
    if number < 10:
        return f"{number:.2g} s"
    if number < 90:
        return f"{number:.0f} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, rest = divmod(round(number / 60), 60)
    if hours < 48:
        return f"{hours} h {rest} min"
    days, rest = divmod(round(number / 3600), 24)
    return f"{days:,} days {rest} h"


def roughly(number: float) -> str:
    """Return an estimate of seconds, to tens of seconds from a minute on, to minutes from ten minutes on."""
    if number < 59.5:
        return f"{max(1, round(number))} s"
    if number < 595:
        return seconds(10 * round(number / 10))
    minutes = round(number / 60)
    return f"{minutes} min" if minutes < 60 else seconds(60 * minutes)


def span(low: float, high: float, to: str = " to ") -> str:
    """Return a range of seconds; both ends take the unit and the decimals that suit the larger: '0.4 to 2.2 h'."""
    unit, each = next((name, size) for name, size, least in _SPANS if high >= least)
    digits = 1 if high / each < 9.95 else 0
    ends = []
    for end in (low / each, high / each):
        text = f"{end:,.{digits}f}"
        # A small end is not none.
        ends.append(f"{end:.1g}" if end and not float(text.replace(",", "")) else text)
    return f"{ends[1]} {unit}" if ends[0] == ends[1] else f"{ends[0]}{to}{ends[1]} {unit}"


#: Units of a span, the seconds of each, and from how many on it is used: two of the next smaller one's.
_SPANS = (
    ("days", 86_400, 172_800), ("h", 3600, 7200), ("min", 60, 120), ("s", 1, 1), ("ms", 1e-3, 1e-3), ("µs", 1e-6, 0.0),
)  # fmt: skip


def coarse(number: float) -> str:
    """Return a length of time in one whole unit, a minute at least: '6 min', '3 h', '12 days'."""
    minutes = max(1, round(number / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours = round(minutes / 60)
    if hours < 24:
        return f"{hours} h"
    days = round(hours / 24)
    return f"{days} day" if days == 1 else f"{days:,} days"


def spread_seconds(mean: float, deviation: float) -> str:
    """Return a mean and its deviation in one unit, with the decimals of the deviation: '8.000 ± 0.024 s'."""
    unit, scale = ("µs", 1e6) if 0 < mean < 1e-3 else ("ms", 1e3) if 0 < mean < 0.1 else ("s", 1.0)
    mean, deviation = mean * scale, abs(deviation) * scale
    # two digits of the deviation; of one that is a millionth there is nothing to be seen
    digits = min(max(0, 1 - math.floor(math.log10(deviation))), 6) if deviation else 1
    return f"{mean:,.{digits}f} ± {deviation:,.{digits}f} {unit}"


_FORMATS = {"parameters": count, "bytes": size, "percent": percent, "seconds": seconds}


def show(value: float, unit: str) -> str:
    """Return a value in the format of its unit; an unknown unit is appended unchanged."""
    if unit in _FORMATS:
        return _FORMATS[unit](value)
    return f"{value:,.4g} {unit}".strip()


def several(number: float | str, noun: str) -> str:
    """Return a number, or one written as text, with its noun, in the plural unless it is one: '10,000 rows'."""
    said = number if isinstance(number, str) else f"{number:,}"
    return f"{said} {noun}{'' if said == '1' else 's'}"


_WORDS = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


def in_words(number: int) -> str:
    """Return a whole number as a word up to twelve, such as ``eight``; else in digits."""
    return _WORDS[number] if 0 <= number < len(_WORDS) else f"{number:,}"


_LABELS = {
    "group": "answers to a prompt", "warmup": "warm-up, share of the steps", "batch": "rows of a step",
    "dtype": "precision",
}  # fmt: skip


def label(name: str) -> str:
    """Return a setting's name as a table shows it."""
    return _LABELS.get(name, name.replace("_", " "))


def told_rows(rows: int, group: int) -> str:
    """Return the number of the data's rows in words, with the answers to each row that are trained on, if several."""
    return several(rows, "row") + (f" with {group:,} answers to each" if group > 1 else "")


def written_figure(value: Any) -> str:
    """Return a value as text for a sentence: '2e-4', '16', 'yes', 'q_proj, v_proj'."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return _number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def band(limits: tuple[float, float] | None) -> str:
    """Return a range as text for a table cell, '5e-5 to 5e-4'; empty without a range."""
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
