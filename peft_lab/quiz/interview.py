"""A timed mock interview: which questions, how long, and the answers given. How it went: :mod:`peft_lab.quiz.report`.

Nothing here reads a clock: every call is given the time, so a page can redraw, be reloaded or be tested.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from peft_lab.errors import BadInput
from peft_lab.quiz.answers import Verdict
from peft_lab.quiz.bank import get_question, select
from peft_lab.quiz.question import LEVELS, Level, Question

SIZE = 10
MIX: Mapping[Level, int] = {"basic": 3, "medium": 4, "hard": 3}  # out of ten
SECONDS: Mapping[Level, int] = {"basic": 60, "medium": 120, "hard": 180}


@dataclass(frozen=True)
class InterviewPlan:
    """The questions of one interview, easy ones first. ``model`` is asked about wherever a question fits it."""

    seed: int
    questions: tuple[str, ...]
    model: str | None = None

    @property
    def seconds(self) -> int:
        """Time for all of them."""
        return sum(SECONDS[get_question(name).level] for name in self.questions)

    def model_for(self, name: str) -> str | None:
        """The model to ask this question about; ``None`` for its own."""
        return self.model if self.model and get_question(name).accepts(self.model) else None


@dataclass(frozen=True)
class Reply:
    """One answer: ``points`` between 0 and 1, ``forgot`` when it was a near miss, ``seconds`` it took.

    ``ticked``: of a free answer those of the question's points that it made; ``None`` where nobody said, or where an
    older version kept their positions, since the points may have changed.
    """

    question: str
    text: str
    points: float
    seconds: float
    forgot: str = ""
    ticked: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Interview:
    """An interview under way or done. Immutable; every answer gives a new one."""

    plan: InterviewPlan
    started: datetime
    replies: tuple[Reply, ...] = ()
    asked: datetime | None = None  # when the current question came up

    @property
    def current(self) -> str | None:
        """The question that is up; ``None`` when all are answered."""
        count = len(self.replies)
        return self.plan.questions[count] if count < len(self.plan.questions) else None

    def left(self, now: datetime) -> float:
        """Seconds left of the whole time; not below zero."""
        return max(0.0, self.plan.seconds - (now - self.started).total_seconds())

    def over(self, now: datetime) -> bool:
        return self.current is None or self.left(now) == 0

    def answer(
        self, text: str, points: float, now: datetime, forgot: str = "", ticked: Sequence[str] | None = None
    ) -> Interview:
        """The interview after an answer. One given after the time is up counts nothing.

        Raises:
            BadInput: all questions are answered, or points outside 0 to 1.
        """
        if self.current is None:
            raise BadInput("All questions of this interview are answered.")
        if not 0 <= points <= 1:
            raise BadInput(f"Points must be from 0 to 1; {points:g} is not.")
        counted = points if self.left(now) > 0 else 0.0
        seconds = (now - (self.asked or self.started)).total_seconds()
        reply = Reply(self.current, text, counted, seconds, forgot, None if ticked is None else tuple(ticked))
        return replace(self, replies=(*self.replies, reply), asked=now)

    def judged(self, text: str, verdict: Verdict, now: datetime) -> Interview:
        """:meth:`answer` with the points of a verdict."""
        return self.answer(text, verdict.points, now, verdict.forgot)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for the learners' file."""
        plain = asdict(self)
        return {
            **plain,
            "started": self.started.isoformat(),
            "asked": self.asked.isoformat() if self.asked else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Interview:
        """The inverse of :meth:`to_dict`. Raises :class:`BadInput` for anything else."""
        try:
            plan = InterviewPlan(
                data["plan"]["seed"], tuple(data["plan"]["questions"]), data["plan"]["model"]
            )
            replies = tuple(_reply(reply) for reply in data["replies"])
            asked = datetime.fromisoformat(data["asked"]) if data["asked"] else None
            return cls(plan, datetime.fromisoformat(data["started"]), replies, asked)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput("This is not an interview kept by PEFT Lab.") from error


def _reply(data: Mapping[str, Any]) -> Reply:
    ticked = data.get("ticked")
    if ticked is not None:
        ticked = tuple(ticked) if all(isinstance(point, str) for point in ticked) else None
    return Reply(**{**data, "ticked": ticked})


def make_plan(
    seed: int,
    size: int = SIZE,
    about: Collection[str] = (),
    model: str | None = None,
    avoid: Collection[str] = (),
) -> InterviewPlan:
    """Choose the questions: levels in the usual mix, topics and kinds as varied as possible. Equal seeds, equal plans.

    Args:
        about: topics to stay with; empty means all.
        avoid: questions to leave out while there are others, such as those of the last interview.

    Raises:
        UnknownName: a topic that there is none of. BadInput: fewer questions than asked for.
    """
    pool = [question for question in select(about) if question.needs == "shape"]
    if not 1 <= size <= len(pool):
        raise BadInput(f"There are {len(pool)} questions to choose from; ask for 1 to {len(pool)}.", "size")
    random_source = random.Random(seed)
    chosen: list[Question] = []
    for level in _levels(size):
        chosen.append(_pick(pool, chosen, level, frozenset(avoid), random_source))
    chosen.sort(key=lambda question: LEVELS.index(question.level))
    return InterviewPlan(seed, tuple(question.id for question in chosen), model)


def _levels(size: int) -> list[Level]:
    """``size`` levels in the mix's proportions, the largest remainders rounded up."""
    total = sum(MIX.values())
    exact = {level: size * share / total for level, share in MIX.items()}
    counts = {level: int(value) for level, value in exact.items()}
    by_remainder = sorted(exact, key=lambda level: counts[level] - exact[level])
    for level in by_remainder[: size - sum(counts.values())]:
        counts[level] += 1
    return [level for level in LEVELS for _ in range(counts[level])]


def _pick(
    pool: Sequence[Question],
    chosen: Sequence[Question],
    level: Level,
    avoid: frozenset[str],
    source: random.Random,
) -> Question:
    """One more question: of the level if any is left, then of the least used topic, then of the least used kind."""
    topic_count = Counter(question.topic for question in chosen)
    kind_count = Counter(question.kind for question in chosen)

    def cost(question: Question) -> tuple[bool, bool, int, int]:
        return (
            question.level != level,
            question.id in avoid,
            topic_count[question.topic],
            kind_count[question.kind],
        )

    left = [question for question in pool if question not in chosen]
    lowest = min(cost(question) for question in left)
    return source.choice([question for question in left if cost(question) == lowest])


def begin(plan: InterviewPlan, now: datetime) -> Interview:
    """Start the clock."""
    return Interview(plan, now, asked=now)


def ticked_points(question: Question, ticked: Collection[int]) -> float:
    """Points for a free answer: the share of what an interviewer listens for that the learner ticks as said.

    Raises:
        BadInput: an index that there is no point for.
    """
    if any(not 0 <= index < len(question.listen_for) for index in ticked):
        raise BadInput(f"There are {len(question.listen_for)} points to tick.")
    return len(set(ticked)) / len(question.listen_for)
