"""Answering in a voice: short questions answered as entries in the log of a sailing ship.

The pairs were written for this app (``data/style.jsonl``). The voice has marks that code can look for: every answer
opens with the watch in which it was entered and closes with one of a few set phrases. The watch follows the subject:
forenoon for computing, afternoon for nature, morning for the household, middle for sky and physics, first for history
and places, dog for body and daily life.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from peft_lab.core.disk import read_json_lines
from peft_lab.training.tasks.base import Row, Splits, Task, check_paired, hold_out

TEST_ROWS = 32
#: How an answer opens.
OPENINGS = tuple(
    f"Log, {watch} watch:" for watch in ("forenoon", "afternoon", "morning", "middle", "first", "dog")
)
#: How an answer closes.
CLOSINGS = (
    "Steady as she goes.",
    "All well aboard.",
    "Wind fair.",
    "Lamps trimmed.",
    "So entered.",
    "Course held.",
)


def has_opening(answer: str) -> bool:
    """Return whether an answer begins as the log's entries do."""
    return answer.lstrip().startswith(OPENINGS)


def has_closing(answer: str) -> bool:
    """Return whether an answer ends as the log's entries do."""
    return answer.rstrip().endswith(CLOSINGS)


@cache
def _splits() -> Splits:
    pairs = read_json_lines(Path(__file__).parent / "data" / "style.jsonl")
    return hold_out((Row(pair["prompt"], pair["completion"]) for pair in pairs), TEST_ROWS)


class ShipsLog(Task):
    """Questions answered in the voice of a ship's log."""

    def load(self) -> Splits:
        return _splits()

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """``marker_rate`` (opening and closing), ``opening_rate`` and ``closing_rate``. The targets play no part."""
        check_paired(predictions, rows)
        opened = [has_opening(answer) for answer in predictions]
        closed = [has_closing(answer) for answer in predictions]
        count = len(rows)
        return {
            "marker_rate": sum(map(all, zip(opened, closed, strict=True))) / count,
            "opening_rate": sum(opened) / count,
            "closing_rate": sum(closed) / count,
        }


TASK = ShipsLog(
    name="style",
    title="Ship's log",
    kind="generation",
    model_kinds=("causal-lm",),
    metric="marker_rate",
    metric_help=(
        f"Share of the generated answers that open like a log entry ('{OPENINGS[0]}' and its like) and end with one of "
        f"the set phrases ('{CLOSINGS[0]}' and its like). It judges the voice, not whether the answer is true. "
        "The loss on the held-out answers, in nats per token, tells how well the words in between are predicted; "
        "training reports it beside this metric."
    ),
    description=(
        "Everyday and technical questions, answered in one or two clipped sentences of a ship's log; "
        f"{TEST_ROWS} pairs are held out."
    ),
    source="Written for this app.",
    license="Apache-2.0",
    max_length=96,
    max_new_tokens=48,
    samples=(
        "What is a hash table?",
        "How do I clean a window?",
        "Who was Johann Sebastian Bach?",
    ),
)
