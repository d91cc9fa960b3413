"""Slips that can happen with any number: a unit that is missing or mistaken, a factor that is missing or used twice.

A calculation names its own slips (:class:`peft_lab.quiz.computed.NearMiss`), and those come first: these are for what
no calculation foresaw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.parsing import Reading

SMALLEST = 3  # of a factor that has a name; two is the slip that is named as such
BYTES = (2, 4)  # of a number in 16 and in 32 bits


@dataclass(frozen=True)
class Factor:
    """A number that a learner may leave out or use once too often. ``name``: completes "16, ..."."""

    value: float
    name: str


@dataclass(frozen=True)
class Slip:
    """The number typed, ``times`` that, is the answer. ``forgot`` completes "Forgotten: ...", or "This is ..." with
    ``is_it``."""

    times: float
    forgot: str
    is_it: bool = False


def factors(case: Case) -> tuple[Factor, ...]:
    """The layers of the model that is asked about, and the question's own whole numbers."""
    found: dict[int, str] = {}
    if case.model is not None:
        found[case.model.num_layers] = "the number of layers"
    for given in case.given.values():
        if isinstance(given, int) and given >= SMALLEST:
            found.setdefault(given, "a number that the question gives")
    return tuple(Factor(value, name) for value, name in found.items())


def factor_slips(answer: Answer, known: tuple[Factor, ...]) -> Iterator[Slip]:
    """The named factors, then two and a half of the answer."""
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
    """A missing or mistaken unit."""
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
