"""Judge what a learner typed: right, close, a near miss that names the slip, wrong, or unreadable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from peft_lab.core import units
from peft_lab.interview.computed import Answer, Case, NearMiss, Whole, show
from peft_lab.interview.parsing import Reading, read
from peft_lab.interview.question import Question

# ----------------------------------------
# Slips possible with any number: a missing or mistaken unit, a factor missing or used twice.
#
# A calculation names its own slips (:class:`peft_lab.interview.computed.NearMiss`), which are tried first; these cover
# what no calculation foresaw.


SMALLEST = 3  # the smallest factor with a name; two has a slip of its own
BYTES = (2, 4)  # per number in 16 and in 32 bits


@dataclass(frozen=True)
class Factor:
    """A number that a learner may leave out or use once too often. ``name`` completes "16, ..."."""

    value: float
    name: str


@dataclass(frozen=True)
class Slip:
    """A slip: the typed number multiplied by ``times`` is the answer. ``forgot`` completes "you forgot ...", or "This
    is ..." with ``is_it``."""

    times: float
    forgot: str
    is_it: bool = False


def factors(case: Case) -> tuple[Factor, ...]:
    """Return the number of layers of the question's model, and the question's own whole numbers."""
    found: dict[int, str] = {}
    if case.model is not None:
        found[case.model.num_layers] = "the number of layers"
    for given in case.given.values():
        if isinstance(given, int) and given >= SMALLEST:
            found.setdefault(given, "a number that the question gives")
    return tuple(Factor(value, name) for value, name in found.items())


def factor_slips(answer: Answer, known: tuple[Factor, ...]) -> Iterator[Slip]:
    """Yield slips by the named factors, then by two and, for bytes, by four."""
    for factor in known:
        number = f"{factor.value:,}, {factor.name}"
        yield Slip(1 / factor.value, f"the answer times {number}: it is in there once too often", True)
        yield Slip(factor.value, f"the answer divided by {number}: it is missing", True)
    width = ", or a number's bytes were mistaken" if answer.unit == "bytes" else ""
    yield Slip(0.5, f"exactly twice the answer: something was counted double{width}", True)
    yield Slip(2.0, f"exactly half the answer: a factor of two is missing{width}", True)
    if answer.unit == "bytes":
        yield Slip(0.25, f"four times the answer: count the bytes of each number again ({_widths()})", True)
        yield Slip(4.0, f"a quarter of the answer: count the bytes of each number again ({_widths()})", True)


def _widths() -> str:
    return " or ".join(f"{width} in {8 * width} bits" for width in BYTES)


def unit_slips(answer: Answer, reading: Reading) -> Iterator[Slip]:
    """Yield slips of a missing or mistaken unit."""
    if answer.unit == "bytes":
        for power, decimal, binary in (
            (1, "kB", "KiB"),
            (2, "MB", "MiB"),
            (3, "GB", "GiB"),
            (4, "TB", "TiB"),
        ):
            if reading.dimension == "":
                yield Slip(1000.0**power, f"the unit ({decimal})")
                yield Slip(1024.0**power, f"the unit ({binary})")
            yield Slip(
                (1024 / 1000) ** power,
                f"that {decimal} and {binary} differ: a {binary} is 1024 to the power of {power} bytes",
            )
        yield Slip(8.0, "that eight bits make a byte, or converted the wrong way round")
        yield Slip(1 / 8, "that eight bits make a byte")
    for power in (-2, -1, 1, 2):
        yield Slip(1000.0**power, "a factor of a thousand: look at the unit again")
    if answer.unit == "percent":
        yield Slip(0.01, "the factor of 100 in a percentage")
        yield Slip(100.0, "that this is a percentage already")


Fit = tuple[float, float, str]
Grade = Literal["right", "close", "near_miss", "wrong", "unreadable"]
CLOSE = 0.05  # relative; nearer than this, the method was right and the arithmetic rough
ENOUGH_DIGITS = 2  # significant digits that a rounded answer needs
NEAR_UNIT, NEAR_FACTOR = 5e-3, 1e-3  # relative tolerances for a unit slip and a factor slip
SECONDS = {
    "s": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "milliseconds": 1e-3,
    "minutes": 60.0,
    "hours": 3600.0,
}  # units of answers in time
# By the answer's unit and the typed dimension: multiply by, divide by, and a note unless the meaning is obvious.
_MEANINGS: Mapping[tuple[str, str], tuple[tuple[float, float, str], ...]] = {
    ("percent", "percent"): ((1, 1, ""),),
    ("percent", ""): ((1, 1, ""), (100, 1, "Right as a fraction")),
    ("bytes", "bytes"): ((1, 1, ""),),
    ("bytes", "bits"): ((1, 8, "Right in bits"),),
    ("bits", "bits"): ((1, 1, ""),),
    ("bits", "bytes"): ((8, 1, "Right in bytes"),),
    ("", "percent"): ((1, 100, "Right as a percentage"),),
    ("points", "percent"): ((1, 1, "Right, and said in points"),),
    ("millionths", ""): ((1, 1, ""), (1e6, 1, "Right as the number itself")),
    ("hundredths", ""): ((1, 1, ""), (100, 1, "Right as the number itself")),
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
        """The points for the grade, between 0 and 1."""
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


def judge_number(answer: Answer, text: str, factors: tuple[Factor, ...] = ()) -> Verdict:
    """Judge a typed number against a computed answer. ``factors`` may be missing in it or used twice."""
    reading = read(text, expects_bytes=answer.unit == "bytes")
    if reading is None:
        hint = " or ".join(_examples(answer))
        return Verdict("unreadable", f"No number could be read in your answer. Write it like {hint}.")
    if reading.dimension == "percent" and answer.wholes:
        return _judge_share(answer, reading)
    fits = list(_interpretations(reading, answer.unit))
    if not fits:
        where = f"in {answer.unit}" if answer.unit else "a plain number"
        return Verdict("wrong", f"That is in {reading.dimension}; the answer is {where}: {answer.shown}.")
    for value, step, note in fits:
        if _is_right(answer, reading, value, step):
            return Verdict("right", f"{note or 'Right'}: {answer.shown}.")
    near = _known_slip(answer, reading, fits)
    other = None if near else _any_slip(answer, reading, fits, factors)
    if other and other.is_it:
        return Verdict(
            "near_miss", f"Near miss. This is {other.forgot}. The answer is {answer.shown}.", other.forgot
        )
    near = other.forgot if other else near
    if near:
        return Verdict("near_miss", f"Near miss: you forgot {near}. The answer is {answer.shown}.", near)
    # if the answer rounds to 0, a typed "0" shows nothing
    if any(
        _apart(value, answer.value) <= CLOSE or (value and _rounds(answer.value, value, step))
        for value, step, _ in fits
    ):
        return Verdict("close", f"Close: the answer is {answer.shown}.")
    return Verdict("wrong", f"Not this time: the answer is {answer.shown}.")


def _interpretations(reading: Reading, unit: str) -> Iterator[Fit]:
    """Yield possible meanings in the answer's unit: value, rounding step, and a note unless the meaning is obvious."""
    dimension = reading.dimension
    meanings: Iterable[tuple[float, float, str]] = _MEANINGS.get((unit, dimension), ())
    if dimension == "" and not meanings:
        meanings = [(1, 1, "")]
    elif dimension == "seconds" and unit in SECONDS:
        meanings = [(1, SECONDS[unit], "")]
    for times, by, note in meanings:
        yield reading.value * times / by, reading.step * times / by, note


def _is_right(answer: Answer, reading: Reading, value: float, step: float) -> bool:
    target = answer.value
    if _apart(value, target) <= max(answer.tolerance, 1e-9):
        return True
    if value == _as_shown(answer):
        return True
    small = target == round(target) and abs(target) < SMALL_WHOLE and answer.tolerance == 0
    return not small and reading.digits >= ENOUGH_DIGITS and _rounds(target, value, step)


def _as_shown(answer: Answer) -> float | None:
    """Return the answer as rounded for display, where trailing zeros do not matter: 0.0900% is 0.09%."""
    shown = read(answer.shown.split(" (")[0], expects_bytes=answer.unit == "bytes")
    return (
        None if shown is None else next((value for value, _, _ in _interpretations(shown, answer.unit)), None)
    )


def _judge_share(answer: Answer, reading: Reading) -> Verdict:
    """Judge a percentage given for a count: right if the count is that share of the model.

    Only a value that rounds to the share counts. Being near earns nothing: another setting may be as near.
    """
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
        return Verdict("close", f"Close, but rounded too roughly: the answer is {answer.shown}, {listed[0]}.")
    return Verdict("wrong", f"Not this time: the answer is {answer.shown}, {' or '.join(listed)}.")


def _as_share(answer: Answer, whole: Whole) -> Answer:
    """Return the same answer in percent of ``whole``, with its slips."""
    missed = [NearMiss(whole.share(miss.value), miss.forgot) for miss in answer.near_misses]
    if whole.added:
        missed.append(
            NearMiss(100 * answer.value / whole.size, "the added parameters themselves in the denominator")
        )
    return Answer(whole.share(answer.value), "percent", (), tuple(missed), answer.tolerance)


def _known_slip(answer: Answer, reading: Reading, fits: list[Fit]) -> str:
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


def _any_slip(answer: Answer, reading: Reading, fits: list[Fit], known: tuple[Factor, ...]) -> Slip | None:
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


def _examples(answer: Answer) -> tuple[str, ...]:
    """Return examples of numbers in this unit, with figures that reveal nothing about the answer."""
    return {
        "bytes": ("1.5 GB", "1,500,000 bytes"),
        "percent": ("2.5%", "0.025"),
        "parameters": ("1,234,000", "1.2M"),
    }.get(answer.unit, ("12", "1.2e3"))


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
        return Verdict("unreadable", f"Choose one of {letters}.")
    if chosen == right:
        return Verdict("right", f"Right: {options[right]}.")
    thought = question.options[chosen].thought
    behind = f" The thought behind yours: {thought[0].lower()}{thought[1:]}" if thought else ""
    return Verdict("wrong", f"Not this time: the answer is {options[right]}.{behind}")


def shown_near_misses(answer: Answer) -> tuple[str, ...]:
    """Return the known slips as lines for a page: the figure and what it forgets."""
    return tuple(f"{show(miss.value, answer.unit)}: forgets {miss.forgot}" for miss in answer.near_misses)
