"""How a mock interview went, and which pages to read next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from peft_lab.quiz.bank import get_question
from peft_lab.quiz.interview import Interview
from peft_lab.quiz.question import LEVELS, topics

WEAK = 0.7  # a topic below this share of its points is named in the report
# Where a topic is shown in the lab, by the slug of the page; methods have a page of their own slug.
PAGES: Mapping[str, tuple[str, ...]] = {
    "memory": ("memory",),
    "quantisation": ("qlora",),
    "serving": ("adapters", "lora"),
    "choosing": ("choose", "compare"),
    "training": ("runs", "lora"),
    "preference": ("runs",),
    "planning": ("choose", "memory"),
    "merging": ("lora", "adapters"),
    "debugging": ("runs", "lora"),
    "safety": ("compare", "runs"),
}


@dataclass(frozen=True)
class Tally:
    """Points out of as many questions."""

    points: float
    questions: int

    @property
    def share(self) -> float:
        return self.points / self.questions if self.questions else 0.0


@dataclass(frozen=True)
class WeakSpot:
    """A topic to read up on. ``pages`` are slugs, the best one first; ``missed`` the questions not fully right."""

    topic: str
    title: str
    tally: Tally
    pages: tuple[str, ...]
    missed: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """How an interview went. Questions without an answer count as wrong."""

    total: Tally
    levels: Mapping[str, Tally]
    topics: Mapping[str, Tally]
    weak: tuple[WeakSpot, ...]
    forgotten: tuple[str, ...]
    unanswered: int
    seconds: float
    slowest: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def report(interview: Interview) -> Report:
    """Sum an interview up, weakest topics first."""
    given = {reply.question: reply for reply in interview.replies}
    points = {name: given[name].points if name in given else 0.0 for name in interview.plan.questions}
    questions = {name: get_question(name) for name in points}
    by_topic = {
        topic: _tally(points, [n for n, q in questions.items() if q.topic == topic]) for topic in topics()
    }
    by_level = {
        level: _tally(points, [n for n, q in questions.items() if q.level == level]) for level in LEVELS
    }
    weak = [
        WeakSpot(
            topic,
            topics().get(topic, topic),
            tally,
            PAGES.get(topic, (topic,)),
            tuple(
                name for name, question in questions.items() if question.topic == topic and points[name] < 1
            ),
        )
        for topic, tally in by_topic.items()
        if tally.questions and tally.share < WEAK
    ]
    weak.sort(key=lambda spot: (spot.tally.share, -spot.tally.questions))
    slowest = max(interview.replies, key=lambda reply: reply.seconds, default=None)
    return Report(
        total=_tally(points, list(points)),
        levels={name: tally for name, tally in by_level.items() if tally.questions},
        topics={name: tally for name, tally in by_topic.items() if tally.questions},
        weak=tuple(weak),
        forgotten=tuple(dict.fromkeys(reply.forgot for reply in interview.replies if reply.forgot)),
        unanswered=len(points) - len(given),
        seconds=sum(reply.seconds for reply in interview.replies),
        slowest=slowest.question if slowest else None,
    )


def _tally(points: Mapping[str, float], names: Sequence[str]) -> Tally:
    return Tally(sum(points[name] for name in names), len(names))
