"""Judge what a learner typed: parse numbers, then right, close, a near miss that names the slip, wrong, or
unreadable."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from peft_lab.core import units
from peft_lab.core.content import read_entry
from peft_lab.interview.computed import Answer, Case, NearMiss, Whole
from peft_lab.interview.question import CONTENT, Question

Dimension = Literal["", "percent", "bytes", "bits", "seconds", "operations"]


@dataclass(frozen=True)
class _Numbers:
    """Words that stand for numbers and units, as ``numbers.yaml`` lists them."""

    nothing: tuple[str, ...]
    counts: Mapping[str, float]
    prefixes: Mapping[str, float]
    long: Mapping[str, str]
    seconds: Mapping[str, float]
    long_seconds: Mapping[str, str]
    minutes: Mapping[str, float]
    times: Mapping[str, float]
    units: tuple[str, ...]
    tens: tuple[str, ...]
    parts: Mapping[str, str]


_NUMBERS = read_entry(CONTENT / "numbers.yaml", _Numbers)
MAX_LENGTH = 80  # characters; longer texts are not parsed

_LONG_UNIT = re.compile(rf"^({'|'.join(_NUMBERS.long)})(?=(?:bytes?|bits?)$)")
_WORDS = {
    **{word: number for number, word in enumerate(_NUMBERS.units)},
    **{f"{ten}{between}{unit}": 20 + 10 * index + number for index, ten in enumerate(_NUMBERS.tens)
       for between in "- " for number, unit in enumerate(_NUMBERS.units[1:10], 1)},
    **{word: 20 + 10 * index for index, word in enumerate(_NUMBERS.tens)},
}  # fmt: skip
_WORD = re.compile(rf"^(?:{'|'.join(sorted(_WORDS, key=len, reverse=True))})(?![\w-])", re.IGNORECASE)
_MORE = re.compile(rf"\b(?:and|{'|'.join(_WORDS)})\b")  # words that would add to the number before them
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
class TypedNumber:
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


def read_number(text: str, expects_bytes: bool = False) -> TypedNumber | None:
    """Parse one number; return ``None`` if there is none.

    Args:
        expects_bytes: a bare ``B`` or ``G`` means bytes rather than billions.

    >>> found = read_number("4.6M")
    >>> found.value, found.step, found.digits
    (4600000.0, 50000.0, 2)
    >>> read_number("1.5 kB").dimension, read_number("2^-7").value, read_number("lots")
    ('bytes', 0.0078125, None)
    >>> read_number("8B").value, read_number("8B", expects_bytes=True).value
    (8000000000.0, 8.0)
    >>> read_number("4·8·2 = 64").value, read_number("4.6M (0.14%)").value
    (64.0, 4600000.0)
    """
    text = text.strip()
    if not text or len(text) > MAX_LENGTH:
        return None
    said = (text, _CONCLUDED.split(text)[-1], _ASIDE.sub("", text))
    return next((found for each in said if (found := _read(each, expects_bytes)) is not None), None)


def _read(text: str, expects_bytes: bool) -> TypedNumber | None:
    """Parse one number, hedges and unit included."""
    text = _MINUS.sub("-", _HEDGES.sub("", text.strip()))
    if text.casefold() in _NUMBERS.nothing:
        return TypedNumber(0.0, "", 0.0, 1)
    if text.casefold() in _NUMBERS.parts:
        text = _NUMBERS.parts[text.casefold()]
    # a number word at the beginning becomes digits: "twenty-four layers" is "24 layers"
    text = _WORD.sub(lambda word: str(_WORDS[word[0].casefold()]), text)
    text = _SUPERSCRIPT.sub(lambda raised: "^" + raised[1].translate(_RAISED), text)
    for form, worth in ((_POWER, _power), (_FUNCTION, _function), (_TEXT, _plain_number)):
        if found := form.match(text):
            unit = _unit(found["rest"].strip().rstrip(".!").strip(), expects_bytes)
            known = worth(found)
            if unit is None or known is None:
                return None
            value, step, digits = known
            value *= unit[0] * (-1 if found["sign"] in ("-", "\u2212") else 1)
            return TypedNumber(value, unit[1], step * unit[0], digits) if math.isfinite(value) else None
    return None


#: A number without sign and unit: its value, half a step of its last digit, and its significant digits.
Worth = tuple[float, float, int]
EXACT = (0.0, 15)  # the step and digits of a number that was not rounded


def _plain_number(found: re.Match[str]) -> Worth | None:
    """Return what ``4.6``, ``2e-3`` or ``1/3`` is worth."""
    number, exponent = _digits(found["number"]), int(found["e"] or 0)
    below = _digits(found["below"]) if found["below"] else "1"
    if number is None or below is None or float(below) == 0 or abs(exponent) > 30:
        return None
    if found["below"]:
        return float(Fraction(number) / Fraction(below)) * 10.0**exponent, *EXACT
    digits, step = _precision(number)
    return float(number) * 10.0**exponent, step * 10.0**exponent, digits


def _power(found: re.Match[str]) -> Worth | None:
    """Return what a power is worth: ``2^-7`` is exact; ``3 x 10^5`` is as precise as its three."""
    base, times = _digits(found["base"]), _digits(found["number"]) if found["number"] else "1"
    exponent = int(found["power"].replace("\u2212", "-").replace(" ", ""))
    if base is None or times is None or abs(exponent) > MOST_POWER:
        return None
    try:
        raised = float(base) ** exponent
    except (OverflowError, ZeroDivisionError):
        return None
    if not found["number"]:
        return raised, *EXACT
    digits, step = _precision(times)
    return float(times) * raised, step * raised, digits


def _function(found: re.Match[str]) -> Worth | None:
    """Return what ``ln 5`` or ``√3`` is worth; ``log`` is the natural logarithm, as in a loss."""
    number = _digits(found["number"])
    if number is None or float(number) <= 0:
        return None
    root = found["name"].lower() in ("sqrt", "√")
    return math.sqrt(float(number)) if root else math.log(float(number)), *EXACT


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


def _quantity(unit: str, expects_bytes: bool) -> tuple[float, Dimension] | None:
    """Return a unit of time in seconds, of memory in bits or bytes, or of operations; ``None`` for other units."""
    if unit in _NUMBERS.minutes:
        return _NUMBERS.minutes[unit], "seconds"
    if short := re.fullmatch(r"([nuµμm]?)(?:s|sec|secs)", unit):
        return _NUMBERS.seconds[short[1]], "seconds"
    if long := re.fullmatch(r"(nano|micro|milli|)seconds?", unit):
        return _NUMBERS.seconds[_NUMBERS.long_seconds[long[1]]], "seconds"
    if bits := re.fullmatch(r"([kmgt]i?)?bits?", unit):
        return _NUMBERS.prefixes[bits[1] or ""], "bits"
    size = re.fullmatch(r"([kmgt]i?)?(?:b|byte|bytes)", unit)
    if size and (size[1] or unit != "b" or expects_bytes):
        return _NUMBERS.prefixes[size[1] or ""], "bytes"
    if expects_bytes and unit in ("k", "m", "g", "t"):
        return _NUMBERS.prefixes[unit], "bytes"
    if operations := _OPERATIONS.fullmatch(unit):
        prefix = operations[1]
        return 1000.0 ** (_THOUSANDS.index(prefix[0]) + 1 if prefix else 0), "operations"
    return None


def _unit(text: str, expects_bytes: bool) -> tuple[float, Dimension] | None:
    """Return the multiplier and dimension of the text after a number; ``None`` if it is no unit."""
    words = text.lower().strip(" $€")
    if _MORE.search(words):
        return None
    if _PERCENT.fullmatch(words):
        return 1.0, "percent"
    first, _, rest = words.partition(" ")
    first = _LONG_UNIT.sub(lambda long: _NUMBERS.long[long[1]], first)  # megabytes as mbytes
    if quantity := _quantity(first, expects_bytes):
        return quantity
    if first in _NUMBERS.counts:
        further = _unit(rest, expects_bytes) if rest else (1.0, "")
        return None if further is None else (_NUMBERS.counts[first] * further[0], further[1])
    if "%" in words:
        return None
    # Any other words name what was counted: parameters, tokens, times ...
    return (1.0, "") if re.fullmatch(r"[^\W\d_²³/ .×*-]*[\w ²³/.×*'()-]*", words) else None


# ----------------------------------------
# Slips possible with any number: a missing or mistaken unit, a factor missing or used twice.
#
# A calculation names its own slips (:class:`peft_lab.interview.computed.NearMiss`), which are tried first; these cover
# what no calculation foresaw.


SMALLEST = 3  # the smallest factor with a name; two has a slip of its own
WIDTHS = "count the bytes of each number again (2 in 16 bits or 4 in 32 bits)"


@dataclass(frozen=True)
class Slip:
    """A slip: the typed number multiplied by ``times`` is the answer. ``forgot`` completes "you forgot ...", or "This
    is ..." with ``is_it``."""

    times: float
    forgot: str
    is_it: bool = False


def factors(case: Case) -> dict[int, str]:
    """Return numbers that a learner may leave out or use once too often, each with what completes "16, ...": the layers
    of the question's model, and the question's own whole numbers."""
    found = {case.model.num_layers: "the number of layers"} if case.model is not None else {}
    for given in case.given.values():
        if isinstance(given, int) and given >= SMALLEST:
            found.setdefault(given, "a number that the question gives")
    return found


def factor_slips(answer: Answer, known: Mapping[int, str]) -> Iterator[Slip]:
    """Yield slips by the named factors, then by two and, for bytes, by four."""
    for value, name in known.items():
        number = f"{value:,}, {name}"
        yield Slip(1 / value, f"the answer times {number}: that factor counts once too often", True)
        yield Slip(value, f"the answer divided by {number}: that factor is missing", True)
    width = ", or the bytes per number are wrong" if answer.unit == "bytes" else ""
    yield Slip(0.5, f"exactly twice the answer: something is counted twice{width}", True)
    yield Slip(2.0, f"exactly half the answer: a factor of two is missing{width}", True)
    if answer.unit == "bytes":
        yield Slip(0.25, f"four times the answer: {WIDTHS}", True)
        yield Slip(4.0, f"a quarter of the answer: {WIDTHS}", True)


def unit_slips(answer: Answer, reading: TypedNumber) -> Iterator[Slip]:
    """Yield slips of a missing or mistaken unit."""
    if answer.unit == "bytes":
        for power, letter in enumerate("kMGT", start=1):
            decimal, binary = f"{letter}B", f"{letter.upper()}iB"
            if reading.dimension == "":
                yield Slip(1000.0**power, f"the unit ({decimal})")
                yield Slip(1024.0**power, f"the unit ({binary})")
            differ = f"that {decimal} and {binary} differ: a {binary} is 1024 to the power of {power} bytes"
            yield Slip((1024 / 1000) ** power, differ)
        yield Slip(8.0, "that eight bits make a byte, or converted the wrong way round")
        yield Slip(1 / 8, "that eight bits make a byte")
    for power in (-2, -1, 1, 2):
        yield Slip(1000.0**power, "a factor of a thousand: check the unit")
    if answer.unit == "percent":
        yield Slip(0.01, "the factor of 100 in a percentage")
        yield Slip(100.0, "that the answer is already a percentage")


Fit = tuple[float, float, str]
Grade = Literal["right", "close", "near_miss", "wrong", "unreadable"]
CLOSE = 0.05  # relative; nearer than this, the method was right and the arithmetic rough
ENOUGH_DIGITS = 2  # significant digits that a rounded answer needs
NEAR_UNIT, NEAR_FACTOR = 5e-3, 1e-3  # relative tolerances for a unit slip and a factor slip
# By the answer's unit and the typed dimension: multiply by, divide by, and a note unless the meaning is obvious.
_MEANINGS: Mapping[tuple[str, str], tuple[tuple[float, float, str], ...]] = {
    ("percent", "percent"): ((1, 1, ""),),
    ("percent", ""): ((1, 1, ""), (100, 1, "Right as a fraction")),
    ("bytes", "bytes"): ((1, 1, ""),),
    ("bytes", "bits"): ((1, 8, "Right in bits"),),
    ("bits", "bits"): ((1, 1, ""),),
    ("bits", "bytes"): ((8, 1, "Right in bytes"),),
    ("", "percent"): ((1, 100, "Right as a percentage"),),
    ("points", "percent"): ((1, 1, "Right, in percentage points"),),
    ("millionths", ""): ((1, 1, ""), (1e6, 1, "Right as a plain number")),
    ("hundredths", ""): ((1, 1, ""), (100, 1, "Right as a plain number")),
    ("petaFLOP", ""): ((1, 1, ""), (1, 1e15, "Right in FLOP")),
    ("petaFLOP", "operations"): ((1, 1e15, ""),),
    ("times", "percent"): ((1, 100, "Right as a percentage"),),
}
SMALL_WHOLE = 10_000  # below this a whole number must be given exactly
POINTS: dict[Grade, float] = {"right": 1.0, "close": 0.75, "near_miss": 0.5, "wrong": 0.0, "unreadable": 0.0}


@dataclass(frozen=True)
class Verdict:
    """``message`` is one or two sentences for the learner; ``forgot`` is set for a near miss."""

    grade: Grade
    message: str
    forgot: str = ""

    @property
    def points(self) -> float:
        """Return the points for the grade, between 0 and 1."""
        return POINTS[self.grade]


def judge(question: Question, answer: Answer | None, text: str, model: str | None = None) -> Verdict:
    """Judge a typed number, or the letter, number or text of an option of a choice.

    Args:
        answer: the computed one; ``None`` for a choice whose right option is fixed.
        model: the model the question was asked about, for the options' texts.

    Raises:
        ValueError: the question is free text, which the learner rates.
    """
    if question.kind == "choice":
        return _choice(question, question.right_option(answer), text, model)
    if answer is None:
        raise ValueError(f"{question.id} has no computed answer to compare with")
    return judge_number(answer, text, factors(question.case(model)))


def judge_number(answer: Answer, text: str, factors: Mapping[int, str] = MappingProxyType({})) -> Verdict:
    """Judge a typed number against a computed answer. ``factors`` may be missing in it or used twice."""
    reading = read_number(text, expects_bytes=answer.unit == "bytes")
    if reading is None:
        hint = _EXAMPLES.get(answer.unit, "12 or 1.2e3")
        return Verdict("unreadable", f"Your answer contains no readable number. Write it like {hint}.")
    if reading.dimension == "percent" and answer.wholes:
        return _judge_share(answer, reading)
    fits = list(_interpretations(reading, answer.unit))
    if not fits:
        where = f"in {answer.unit}" if answer.unit else "a plain number"
        return Verdict(
            "wrong", f"You answered in {reading.dimension}. The answer is {where}: {answer.shown}."
        )
    for value, step, note in fits:
        if _is_right(answer, reading, value, step):
            return Verdict("right", f"{note or 'Right'}: {answer.shown}.")
    near = _known_slip(answer, reading, fits)
    other = None if near else _any_slip(answer, reading, fits, factors)
    near = other.forgot if other else near
    if near:
        said = "this is" if other and other.is_it else "you forgot"
        return Verdict("near_miss", f"Near miss: {said} {near}. The answer is {answer.shown}.", near)
    # if the answer rounds to 0, a typed "0" shows nothing
    if any(
        _apart(value, answer.value) <= CLOSE or (value and _rounds(answer.value, value, step))
        for value, step, _ in fits
    ):
        return Verdict("close", f"Close: the answer is {answer.shown}.")
    return Verdict("wrong", f"Wrong: the answer is {answer.shown}.")


def _interpretations(reading: TypedNumber, unit: str) -> Iterator[Fit]:
    """Yield possible meanings in the answer's unit: value, rounding step, and a note unless the meaning is obvious."""
    dimension = reading.dimension
    meanings: Iterable[tuple[float, float, str]] = _MEANINGS.get((unit, dimension), ())
    if dimension == "" and not meanings:
        meanings = [(1, 1, "")]
    elif dimension == "seconds" and unit in _NUMBERS.times:
        meanings = [(1, _NUMBERS.times[unit], "")]
    for times, by, note in meanings:
        yield reading.value * times / by, reading.step * times / by, note


def _is_right(answer: Answer, reading: TypedNumber, value: float, step: float) -> bool:
    target = answer.value
    if _apart(value, target) <= max(answer.tolerance, 1e-9):
        return True
    if value == _as_shown(answer):
        return True
    small = target == round(target) and abs(target) < SMALL_WHOLE and answer.tolerance == 0
    return not small and reading.digits >= ENOUGH_DIGITS and _rounds(target, value, step)


def _as_shown(answer: Answer) -> float | None:
    """Return the answer as rounded for display, where trailing zeros do not matter: 0.0900% is 0.09%."""
    shown = read_number(answer.shown.split(" (")[0], expects_bytes=answer.unit == "bytes")
    return (
        None if shown is None else next((value for value, _, _ in _interpretations(shown, answer.unit)), None)
    )


def _judge_share(answer: Answer, reading: TypedNumber) -> Verdict:
    """Judge a percentage given for a count: right if the count is that share of the model. Only a value that rounds to
    the share counts. Being near earns nothing: another setting may be as near."""
    fits = [(reading.value, reading.step, "")]
    shares = [_as_share(answer, whole) for whole in answer.wholes]
    listed = [
        f"{units.percent(share.value)} of {whole.name}"
        for share, whole in zip(shares, answer.wholes, strict=True)
    ]
    for share, text in zip(shares, listed, strict=True):
        if _is_right(share, reading, reading.value, reading.step):
            return Verdict("right", f"Right as a share: {answer.shown}, {text}.")
    near = next(filter(None, (_known_slip(share, reading, fits) for share in shares)), "")
    if near:
        return Verdict(
            "near_miss", f"Near miss: you forgot {near}. The answer is {answer.shown}, {listed[0]}.", near
        )
    if any(_rounds(share.value, reading.value, reading.step) for share in shares):
        return Verdict("close", f"Close, but rounded too much: the answer is {answer.shown}, {listed[0]}.")
    return Verdict("wrong", f"Wrong: the answer is {answer.shown}, {' or '.join(listed)}.")


def _as_share(answer: Answer, whole: Whole) -> Answer:
    """Return the same answer in percent of ``whole``, with its slips."""
    missed = [NearMiss(whole.share(miss.value), miss.forgot) for miss in answer.near_misses]
    if whole.added:
        missed.append(
            NearMiss(100 * answer.value / whole.size, "to count the added parameters in the denominator")
        )
    return Answer(whole.share(answer.value), "percent", (), tuple(missed), answer.tolerance)


def _known_slip(answer: Answer, reading: TypedNumber, fits: list[Fit]) -> str:
    """Return what was forgotten, if the number matches a known slip more closely than the answer itself."""
    best = ""
    distance = min(_apart(value, answer.value) for value, _, _ in fits)
    for value, step, _ in fits:
        for miss in answer.near_misses:
            apart = _apart(value, miss.value)
            hit = apart <= max(answer.tolerance, 1e-3) or (
                reading.digits >= ENOUGH_DIGITS and _rounds(miss.value, value, step)
            )
            if hit and apart < distance:
                best, distance = miss.forgot, apart
    return best


def _any_slip(answer: Answer, reading: TypedNumber, fits: list[Fit], known: Mapping[int, str]) -> Slip | None:
    """Return a general slip, of the unit or of a factor, that explains the number; ``None`` if none does."""
    if answer.value == 0:
        return None
    of_unit, of_factor = unit_slips(answer, reading), factor_slips(answer, known)
    for found, near in ((of_unit, NEAR_UNIT), (of_factor, NEAR_FACTOR)):
        for one in found:
            for value, step, _ in fits:
                times = one.times
                if _apart(value * times, answer.value) <= near or (
                    reading.digits >= ENOUGH_DIGITS and _rounds(answer.value, value * times, step * times)
                ):
                    return one
    return None


def _apart(value: float, target: float) -> float:
    """Return the relative distance; absolute if the target is zero."""
    return abs(value - target) / (abs(target) or 1.0)


def _rounds(target: float, value: float, step: float) -> bool:
    """Return whether ``target`` rounds to ``value`` at the precision of ``value`` as written."""
    return abs(value - target) <= step * (1 + 1e-9) + math.ulp(target)


#: Numbers in a unit, with figures that reveal nothing about the answer.
_EXAMPLES = {
    "bytes": "1.5 GB or 1,500,000 bytes",
    "percent": "2.5% or 0.025",
    "parameters": "1,234,000 or 1.2M",
}


def _choice(question: Question, right: int, text: str, model: str | None) -> Verdict:
    options = question.choices(model)
    given = text.strip().casefold().rstrip(".)")
    chosen = next((index for index, option in enumerate(options) if option.casefold() == given), None)
    if chosen is None and len(given) == 1 and given.isascii() and given.isalpha():
        chosen = ord(given) - ord("a")
    if chosen is None and given.isascii() and given.isdigit():
        chosen = int(given) - 1
    if chosen is None or not 0 <= chosen < len(options):
        letters = ", ".join(chr(ord("a") + index) for index in range(len(options)))
        return Verdict("unreadable", f"Your answer is not an option. Choose one of {letters}.")
    if chosen == right:
        return Verdict("right", f"Right: {options[right]}.")
    thought = question.options[chosen].thought
    behind = f" Why your choice is wrong: {thought}" if thought else ""
    return Verdict("wrong", f"Wrong: the answer is {options[right]}.{behind}")
