"""One run followed on one sentence: after every step, how the model would answer it. One JSON object, for Home.

State ``s`` is the model after ``s`` steps, from 0. Every series holds one entry for each state; every entry about the
right answer holds one value for each of its tokens. Made by ``tools/record_sentence.py``::

    {"format": 1, "recorded": "2026-…", "spec": {…}, "machine": {…}, "versions": {…},
     "trained": 460800, "total": 134515008, "seconds": 19.3,
     "order": "It is …\\nJSON:", "order_tokens": ["It", " is", …],
     "right": "{\\"item\\": …}", "right_tokens": ["{\\"", "item", …], "words": ["item", " name", …],
     "loss": [25 numbers], "moved": {"q": [26 × 30 numbers], "v": …},
     "surprise": [26 × tokens], "first": [26 × tokens: an index into words],
     "answers": [{"step": 0, "text": …, "likeliest": [tokens × [[index into words, probability], …]]}, …]}

- ``moved``: ‖ΔW‖/‖W‖ of q and v, by block.
- ``surprise``: −ln of the probability of the right token after the right ones before it.
- ``first``: the likeliest token at that place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import content
from peft_lab.core.disk import read_json

VERSION = 1
STEPS = 25
ROWS = 4  # half of a step's usual rows: the same held-out score in 0.6 of the time (bench/RESULTS.md)
ASKED = (0, 5, 10, 15, 25)  # states at which the model answers
LIKELIEST = 6  # tokens kept at each place
FILE_BYTES = 60_000
METHOD, MODEL, TASK = "lora", "smollm2-135m", "json"
SHIPPED = Path(__file__).with_name("sentence.json")


@dataclass(frozen=True)
class SentenceAnswer:
    """What the model answered after ``step`` steps, and the likeliest tokens at each place of the right answer."""

    step: int
    text: str
    likeliest: tuple[tuple[tuple[int | float, ...], ...], ...]


@dataclass(frozen=True)
class SentenceRun:
    """The record of a run; the module's docstring defines its figures."""

    recorded: str
    spec: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    trained: int
    total: int
    seconds: float
    order: str
    order_tokens: tuple[str, ...]
    right: str
    right_tokens: tuple[str, ...]
    words: tuple[str, ...]
    loss: tuple[float, ...]
    moved: dict[str, Any]
    surprise: tuple[tuple[float, ...], ...]
    first: tuple[tuple[int, ...], ...]
    answers: tuple[SentenceAnswer, ...]
    format: int = VERSION

    @property
    def sentence(self) -> str:
        """Return the order alone, without the line that asks for JSON."""
        return self.order.partition("\n")[0]


@cache
def shipped() -> SentenceRun:
    """Return the recorded run."""
    data = read_json(SHIPPED)
    answers = tuple(
        SentenceAnswer(**content.read_typed(SentenceAnswer, one, "An answer")) for one in data["answers"]
    )
    return SentenceRun(**content.read_typed(SentenceRun, {**data, "answers": answers}, "A record"))


def answers_of(model: str, method: str, order: str) -> dict[int, str]:
    """Return the recorded run's answers by step if model, method and order are its own, else none."""
    if (model, method) != (MODEL, METHOD) or order != shipped().order:
        return {}
    return {answer.step: answer.text for answer in shipped().answers}
