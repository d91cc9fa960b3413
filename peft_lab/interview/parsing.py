"""Parse numbers as people type them: ``4,587,520``, ``4.6M``, ``0.14%``, ``13.6 GiB``, ``1/2``, ``2e5``, ``2^-7``,
``three``, ``3 ms``, ``ln 5``, ``√3``, ``r = 17``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Dimension = Literal["", "percent", "bytes", "bits", "seconds", "operations"]
_NOTHING = (
    "none",
    "no",
    "zero",
    "nothing",
    "null",
    "none at all",
    "no parameters",
    "no biases",
    "nothing to train",
)
MAX_LENGTH = 80  # characters; longer texts are not parsed

_COUNTS = {
    "dozen": 12, "hundred": 1e2,
    "k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "mio": 1e6, "million": 1e6, "millions": 1e6,
    "mil": 1e6, "mln": 1e6, "g": 1e9, "b": 1e9, "bn": 1e9, "billion": 1e9, "billions": 1e9,
    "t": 1e12, "tn": 1e12, "trillion": 1e12, "trillions": 1e12,
}  # fmt: skip
_PREFIXES = {
    "": 1.0,
    "k": 1e3,
    "m": 1e6,
    "g": 1e9,
    "t": 1e12,
    "ki": 2.0**10,
    "mi": 2.0**20,
    "gi": 2.0**30,
    "ti": 2.0**40,
}
_LONG = {
    "kilo": "k", "mega": "m", "giga": "g", "tera": "t", "kibi": "ki", "mebi": "mi", "gibi": "gi", "tebi": "ti",
}  # fmt: skip
_LONG_UNIT = re.compile(rf"^({'|'.join(_LONG)})(?=(?:bytes?|bits?)$)")
_SECONDS = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3, "": 1.0}  # micro sign and Greek mu
_LONG_SECONDS = {"nano": "n", "micro": "u", "milli": "m", "": ""}
_MINUTES = {
    "min": 60.0,
    "mins": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "h": 3600.0,
}
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {
    **{word: number for number, word in enumerate(_UNITS)},
    **{f"{ten}{between}{unit}": 20 + 10 * index + number
       for index, ten in enumerate(_TENS) for between in "- " for number, unit in enumerate(_UNITS[1:10], 1)},
    **{word: 20 + 10 * index for index, word in enumerate(_TENS)},
}  # fmt: skip
_WORD = re.compile(rf"^(?:{'|'.join(sorted(_WORDS, key=len, reverse=True))})(?![\w-])", re.IGNORECASE)
_MORE = re.compile(rf"\b(?:and|{'|'.join(_WORDS)})\b")  # words that would add to the number before them
_PARTS = {
    "half": "1/2",
    "a half": "1/2",
    "one half": "1/2",
    "a third": "1/3",
    "a quarter": "1/4",
    "one quarter": "1/4",
    "once": "1",
    "twice": "2",
}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT = re.compile(r"(?<=\d)\s?([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
MOST_POWER = 400  # larger powers exceed a float
_PERCENT = re.compile(r"(?:%|per ?cent|pct|prozent)(?:\s[^\d%]*)?")  # with any words after it
_OPERATIONS = re.compile(r"(kilo|mega|giga|tera|peta|exa|zetta|[kmgtpez])?flops?")
_THOUSANDS = "kmgtpez"  # each letter is one more power of a thousand
_NUMBER = r"\d[\d,._'\u00a0\u2009\u202f ]*|[.,]\d+"
_TEXT = re.compile(
    rf"""^(?P<sign>[-+\u2212])?\s*(?P<number>{_NUMBER}?)
    (?:\s*e(?P<e>[-+]?\d+))?
    (?:\s*/\s*(?P<below>\d[\d,.]*))?
    \s*(?P<rest>[^\d]*)$""",
    re.VERBOSE | re.IGNORECASE,
)
_POWER = re.compile(
    rf"""^(?P<sign>[-+\u2212])?\s*(?:(?P<number>{_NUMBER}?)\s*[x*\u00d7\u00b7]\s*)?(?P<base>{_NUMBER}?)
    \s*(?:\^|\*\*)\s*(?P<open>[({{])?\s*(?P<power>[-+\u2212]?\s?\d+)\s*(?(open)[)}}])\s*(?P<rest>[^\d]*)$""",
    re.VERBOSE | re.IGNORECASE,
)
_FUNCTION = re.compile(
    rf"""^(?P<sign>[-+\u2212])?\s*(?P<name>ln|log|sqrt|√)\s*(?P<open>\()?\s*(?P<number>{_NUMBER}?)\s*(?(open)\))
    \s*(?P<rest>[^\d]*)$""",
    re.VERBOSE | re.IGNORECASE,
)
_HEDGES = re.compile(
    r"^(?:(?:~|≈|[=<>≤≥]+|[x×](?=\s?\d)|[$€]|(?:about|approx(?:imately)?\.?|around|roughly|circa|ca\.?|c\.|at least|"
    r"at most|(?:a )?factor(?: of)?|(?:a )?rank(?: of)?)(?![\w]))\s*)+",
    re.IGNORECASE,
)
_MINUS = re.compile(r"^minus\s+(?=\d)", re.IGNORECASE)
_CONCLUDED = re.compile(r"[=≈]")  # the result follows it: "4·8·2 = 64", "r = 17"
_ASIDE = re.compile(r"(?<=\S)\s+\([^()]*\)$")


@dataclass(frozen=True)
class Reading:
    """A number as typed.

    Attributes:
        value: including its multiplier: ``4.6M`` is 4600000, ``2 kB`` is 2000, ``3%`` is 3.
        dimension: the kind of unit written with it; empty for none.
        step: half the place value of the last significant digit, so 50000 for ``4.6M``.
        digits: significant digits as written; trailing zeros of a whole number do not count.
    """

    value: float
    dimension: Dimension
    step: float
    digits: int


def read(text: str, expects_bytes: bool = False) -> Reading | None:
    """Parse one number; return ``None`` if there is none.

    Args:
        expects_bytes: a bare ``B`` or ``G`` means bytes rather than billions.

    >>> found = read("4.6M")
    >>> found.value, found.step, found.digits
    (4600000.0, 50000.0, 2)
    >>> read("1.5 kB").dimension, read("2^-7").value, read("lots")
    ('bytes', 0.0078125, None)
    >>> read("8B").value, read("8B", expects_bytes=True).value
    (8000000000.0, 8.0)
    >>> read("4·8·2 = 64").value, read("4.6M (0.14%)").value
    (64.0, 4600000.0)
    """
    text = text.strip()
    if not text or len(text) > MAX_LENGTH:
        return None
    said = (text, _CONCLUDED.split(text)[-1], _ASIDE.sub("", text))
    return next((found for each in said if (found := _read(each, expects_bytes)) is not None), None)


def _read(text: str, expects_bytes: bool) -> Reading | None:
    """Parse one number, hedges and unit included."""
    text = _MINUS.sub("-", _HEDGES.sub("", text.strip()))
    if text.casefold() in _NOTHING:
        return Reading(0.0, "", 0.0, 1)
    text = _SUPERSCRIPT.sub(lambda raised: "^" + raised[1].translate(_RAISED), _spelt(text))
    if power := _POWER.match(text):
        return _read_power(power, expects_bytes)
    if function := _FUNCTION.match(text):
        return _read_function(function, expects_bytes)
    found = _TEXT.match(text)
    if not found:
        return None
    plain = _digits(found["number"])
    unit = _unit(found["rest"].strip().rstrip(".!").strip(), expects_bytes)
    if plain is None or unit is None:
        return None
    factor, dimension = unit
    exponent = int(found["e"] or 0)
    if abs(exponent) > 30:
        return None
    factor *= 10.0**exponent
    digits, step = _precision(plain)
    value = float(plain)
    if found["below"]:
        below = _digits(found["below"])
        if below is None or float(below) == 0:
            return None
        value, step, digits = float(Fraction(plain) / Fraction(below)), 0.0, 15
    value, step = value * factor * (-1 if found["sign"] in ("-", "\u2212") else 1), step * factor
    return Reading(value, dimension, step, digits) if math.isfinite(value) else None


def _spelt(text: str) -> str:
    """Replace a number word at the beginning by digits: ``twenty-four layers`` becomes ``24 layers``."""
    if text.casefold() in _PARTS:
        return _PARTS[text.casefold()]
    return _WORD.sub(lambda word: str(_WORDS[word[0].casefold()]), text)


def _read_power(found: re.Match[str], expects_bytes: bool) -> Reading | None:
    """Return a power: ``2^-7`` is exact; ``3 x 10^5`` is as precise as its three."""
    base, unit = _digits(found["base"]), _unit(found["rest"].strip().rstrip(".!").strip(), expects_bytes)
    times = _digits(found["number"]) if found["number"] else "1"
    exponent = int(found["power"].replace("\u2212", "-").replace(" ", ""))
    if base is None or times is None or unit is None or abs(exponent) > MOST_POWER:
        return None
    try:
        raised = float(base) ** exponent * unit[0]
    except (OverflowError, ZeroDivisionError):
        return None
    value = float(times) * raised * (-1 if found["sign"] in ("-", "\u2212") else 1)
    digits, step = _precision(times) if found["number"] else (15, 0.0)
    return Reading(value, unit[1], step * raised, digits) if math.isfinite(value) else None


def _read_function(found: re.Match[str], expects_bytes: bool) -> Reading | None:
    """Return the value of ``ln 5`` or ``√3``; ``log`` is the natural logarithm, as in a loss. Exact."""
    number, unit = _digits(found["number"]), _unit(found["rest"].strip().rstrip(".!").strip(), expects_bytes)
    if number is None or unit is None or float(number) <= 0:
        return None
    worked = math.sqrt(float(number)) if found["name"].lower() in ("sqrt", "√") else math.log(float(number))
    value = worked * unit[0] * (-1 if found["sign"] in ("-", "\u2212") else 1)
    return Reading(value, unit[1], 0.0, 15) if math.isfinite(value) else None


def _digits(text: str) -> str | None:
    """Return the number with a point and without thousands separators; ``None`` if they are misplaced."""
    text = re.sub(r"[_'\s\u00a0\u2009\u202f]", "", text.strip())
    text = text.rstrip(",.") if text[:-1].count(text[-1:]) == 0 else text
    commas, points = text.count(","), text.count(".")
    if commas and points:
        # The last of the two is the decimal sign.
        decimal = max(",.", key=text.rfind)
        group = "," if decimal == "." else "."
        whole, _, rest = text.rpartition(decimal)
        if decimal in whole or group in rest or not _grouped(whole, group):
            return None
        return f"{whole.replace(group, '')}.{rest}"
    if commas > 1 or (commas == 1 and re.fullmatch(r"[1-9]\d{0,2},\d{3}", text)):
        return text.replace(",", "") if _grouped(text, ",") else None
    if commas:
        return text.replace(",", ".")
    if points > 1:
        return text.replace(".", "") if _grouped(text, ".") else None
    return text or None


def _grouped(text: str, sign: str) -> bool:
    return bool(re.fullmatch(rf"\d{{1,3}}(?:{re.escape(sign)}\d{{3}})*", text))


def _precision(plain: str) -> tuple[int, float]:
    """Return the significant digits and half of the last one's place value."""
    whole, _, fraction = plain.partition(".")
    if fraction:
        return len((whole + fraction).lstrip("0")) or 1, 0.5 * 10.0 ** -len(fraction)
    stripped = whole.rstrip("0")
    zeros = len(whole) - len(stripped) if stripped else 0
    return len(stripped.lstrip("0")) or 1, 0.5 * 10.0**zeros


def _time(unit: str) -> float | None:
    """Return the seconds of a unit of time; ``None`` for other units."""
    if unit in _MINUTES:
        return _MINUTES[unit]
    if short := re.fullmatch(r"([nuµμm]?)(?:s|sec|secs)", unit):
        return _SECONDS[short[1]]
    if long := re.fullmatch(r"(nano|micro|milli|)seconds?", unit):
        return _SECONDS[_LONG_SECONDS[long[1]]]
    return None


def _size(unit: str, expects_bytes: bool) -> tuple[float, Dimension] | None:
    """Return the bits or bytes of a unit of memory; ``None`` for other units."""
    if bits := re.fullmatch(r"([kmgt]i?)?bits?", unit):
        return _PREFIXES[bits[1] or ""], "bits"
    size = re.fullmatch(r"([kmgt]i?)?(?:b|byte|bytes)", unit)
    if size and (size[1] or unit != "b" or expects_bytes):
        return _PREFIXES[size[1] or ""], "bytes"
    return (_PREFIXES[unit], "bytes") if expects_bytes and unit in ("k", "m", "g", "t") else None


def _unit(text: str, expects_bytes: bool) -> tuple[float, Dimension] | None:
    """Return the multiplier and dimension of the text after a number; ``None`` if it is no unit."""
    words = text.lower().strip(" $€")
    if _MORE.search(words):
        return None
    if _PERCENT.fullmatch(words):
        return 1.0, "percent"
    first, _, rest = words.partition(" ")
    first = _LONG_UNIT.sub(lambda long: _LONG[long[1]], first)  # megabytes as mbytes
    time = _time(first)
    if time is not None:
        return time, "seconds"
    size = _size(first, expects_bytes)
    if size is not None:
        return size
    if operations := _OPERATIONS.fullmatch(first):
        prefix = operations[1]
        return 1000.0 ** (_THOUSANDS.index(prefix[0]) + 1 if prefix else 0), "operations"
    if first in _COUNTS:
        further = _unit(rest, expects_bytes) if rest else (1.0, "")
        return None if further is None else (_COUNTS[first] * further[0], further[1])
    if "%" in words:
        return None
    # Any other words name what was counted: parameters, tokens, times ...
    return (1.0, "") if re.fullmatch(r"[^\W\d_²³/ .×*-]*[\w ²³/.×*'()-]*", words) else None
