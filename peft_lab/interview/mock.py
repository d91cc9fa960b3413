"""Run a timed mock interview: questions, time, answers, report and transcript.

Nothing here reads a clock: every call is given the time, so that a page can redraw, be reloaded or be tested.
"""

from __future__ import annotations

import html
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

from peft_lab.core import palette
from peft_lab.core.content import by_id, mistake, read_entries
from peft_lab.core.errors import BadInput, named
from peft_lab.interview.answers import Verdict
from peft_lab.interview.bank import get_question, select
from peft_lab.interview.computed import wilson
from peft_lab.interview.question import CONTENT, LEVELS, Level, Question, common_topics, topics
from peft_lab.interview.write.exercises import Exercise, exercise, exercises
from peft_lab.takeaway.generator import fill

SIZE = 10
MIX: Mapping[Level, int] = {"basic": 3, "medium": 4, "hard": 3}  # out of ten
SECONDS: Mapping[Level, int] = {"basic": 60, "medium": 120, "hard": 180}

# ----------------------------------------
# One exercise to write, as the last question: its tests are the points that the interviewer listens for.


#: The topic of exercises, which is also the name of their page, and what their ids begin with here.
WRITE = "write"
WRITE_TITLE = "Write it"
LONGEST = 15  # minutes of an exercise: longer ones are no part of an interview


def is_exercise(name: str) -> bool:
    return name.startswith(f"{WRITE}/")


def exercise_of(name: str) -> Exercise:
    """Return the exercise of a question's id. Raises :class:`UnknownName`."""
    return exercise(name.removeprefix(f"{WRITE}/"))


def question_of(name: str) -> Question:
    """Return a question of the bank, or an exercise as a question. Raises :class:`UnknownName`."""
    if not is_exercise(name):
        return get_question(name)
    one = exercise_of(name)
    return Question(
        id=name,
        topic=WRITE,
        level=LEVELS[one.level - 1],
        kind="free",
        question=one.task,
        answer="\n".join(f"- {line}" for line in one.explanation).replace("{{", "{ {"),
        listen_for=one.hints,
        wrong=tuple(mistake.sentence for mistake in one.mistakes),
        sources=(),
    )


def choose_exercise(seed: int, avoid: Collection[str] = ()) -> str:
    """Return the id, as a question's, of one exercise; of those in ``avoid`` only if there is no other."""
    fitting = [f"{WRITE}/{one.id}" for one in exercises().values() if one.minutes <= LONGEST]
    fresh = [name for name in fitting if name not in avoid]
    return random.Random(f"{WRITE} {seed}").choice(fresh or fitting)


def topic_titles() -> dict[str, str]:
    """Return the titles of all topics, and of the exercises."""
    return {**topics(), WRITE: WRITE_TITLE}


@dataclass(frozen=True)
class InterviewPlan:
    """The questions of one interview, easy ones first. It asks about ``model`` wherever a question accepts it."""

    seed: int
    questions: tuple[str, ...]
    model: str | None = None

    @property
    def seconds(self) -> int:
        """Return the time for all questions."""
        return sum(
            60 * exercise_of(name).minutes if is_exercise(name) else SECONDS[get_question(name).level]
            for name in self.questions
        )

    def model_for(self, name: str) -> str | None:
        """Return the model to ask this question about; ``None`` for the question's own."""
        return self.model if self.model and question_of(name).accepts(self.model) else None


@dataclass(frozen=True)
class Reply:
    """One answer: ``points`` between 0 and 1, ``forgot`` for a near miss, ``seconds`` it took.

    ``ticked``: for a free answer the question's points that it made; ``None`` if nobody rated them, or if an older
    version stored their positions, since the points may have changed.
    """

    question: str
    text: str
    points: float
    seconds: float
    forgot: str = ""
    ticked: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Interview:
    """An interview in progress or done. Immutable; every answer returns a new one."""

    plan: InterviewPlan
    started: datetime
    replies: tuple[Reply, ...] = ()
    asked: datetime | None = None  # when the current question was shown

    @property
    def current(self) -> str | None:
        """Return the current question; ``None`` when all are answered."""
        count = len(self.replies)
        return self.plan.questions[count] if count < len(self.plan.questions) else None

    @property
    def answered(self) -> dict[str, Reply]:
        """Return the reply to each question of the plan; to one that did not come up, an empty one."""
        given = {reply.question: reply for reply in self.replies}
        return {name: given.get(name) or Reply(name, "", 0.0, 0.0) for name in self.plan.questions}

    def left(self, now: datetime) -> float:
        """Return the seconds left of the total time; never below zero."""
        return max(0.0, self.plan.seconds - (now - self.started).total_seconds())

    def over(self, now: datetime) -> bool:
        return self.current is None or self.left(now) == 0

    def answer(
        self, text: str, points: float, now: datetime, forgot: str = "", ticked: Sequence[str] | None = None
    ) -> Interview:
        """Return the interview after an answer. An answer given after the time is up earns no points.

        Raises:
            BadInput: all questions are answered, or points are outside 0 to 1.
        """
        if self.current is None:
            raise BadInput("This interview has no more questions.")
        if not 0 <= points <= 1:
            raise BadInput(f"Points must be from 0 to 1, not {points:g}.")
        counted = points if self.left(now) > 0 else 0.0
        seconds = (now - (self.asked or self.started)).total_seconds()
        reply = Reply(self.current, text, counted, seconds, forgot, None if ticked is None else tuple(ticked))
        return replace(self, replies=(*self.replies, reply), asked=now)

    def judged(self, text: str, verdict: Verdict, now: datetime) -> Interview:
        """Return :meth:`answer` with the points of a verdict."""
        return self.answer(text, verdict.points, now, verdict.forgot)

    def said(self, name: str) -> str:
        """Return what was answered, as a reader sees it: of a choice the option's text."""
        text, question = self.answered[name].text, question_of(name)
        chosen = question.kind == "choice" and text
        return question.choices(self.plan.model_for(name))[int(text) - 1] if chosen else text

    def to_dict(self) -> dict[str, Any]:
        """Return the interview as JSON-able values, for the learners' file."""
        asked = self.asked.isoformat() if self.asked else None
        return {**asdict(self), "started": self.started.isoformat(), "asked": asked}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Interview:
        """Rebuild an interview from :meth:`to_dict`. Raises :class:`BadInput` for anything else."""
        try:
            plan = InterviewPlan(
                data["plan"]["seed"], tuple(data["plan"]["questions"]), data["plan"]["model"]
            )
            replies = []
            for reply in data["replies"]:
                ticked = reply.get("ticked")
                texts = ticked is not None and all(isinstance(point, str) for point in ticked)
                replies.append(Reply(**{**reply, "ticked": tuple(ticked) if texts else None}))
            asked = datetime.fromisoformat(data["asked"]) if data["asked"] else None
            return cls(plan, datetime.fromisoformat(data["started"]), tuple(replies), asked)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput("This is not an interview from PEFT Lab.") from error


def make_plan(
    seed: int,
    size: int = SIZE,
    about: Collection[str] = (),
    model: str | None = None,
    avoid: Collection[str] = (),
    write: bool = False,
) -> InterviewPlan:
    """Choose the questions: levels in the usual mix, topics and kinds as varied as possible. Equal seeds, equal plans.

    Args:
        write: whether an exercise to write comes after them.
        about: topics to choose from; empty means all.
        avoid: questions to leave out while there are others, such as those of the last interview.

    Raises:
        UnknownName: there is no such topic. BadInput: there are fewer questions than requested.
    """
    pool = [question for question in select(about) if question.needs == "shape"]
    if not 1 <= size <= len(pool):
        raise BadInput(f"These topics have {len(pool)} questions. Ask for 1 to {len(pool)}.", "size")
    exact = {level: size * share / sum(MIX.values()) for level, share in MIX.items()}
    counts = {level: int(value) for level, value in exact.items()}
    by_remainder = sorted(exact, key=lambda level: counts[level] - exact[level])
    for level in by_remainder[: size - sum(counts.values())]:
        counts[level] += 1
    source, chosen = random.Random(seed), list[Question]()
    for level in LEVELS:
        for _ in range(counts[level]):
            used = (
                Counter(question.topic for question in chosen),
                Counter(question.kind for question in chosen),
            )
            costs = {
                question.id: (
                    question.level != level, question.id in avoid, used[0][question.topic], used[1][question.kind],
                )
                for question in pool if question not in chosen
            }  # fmt: skip
            least = min(costs.values())
            chosen.append(source.choice([q for q in pool if costs.get(q.id) == least]))
    chosen.sort(key=lambda question: LEVELS.index(question.level))
    last = (choose_exercise(seed, avoid),) if write and exercises() else ()
    return InterviewPlan(seed, (*(question.id for question in chosen), *last), model)


def begin(plan: InterviewPlan, now: datetime) -> Interview:
    """Start the interview's clock."""
    return Interview(plan, now, asked=now)


def ticked_points(question: Question, ticked: Collection[int]) -> float:
    """Return the points for a free answer: the share of what an interviewer listens for that the learner ticked.

    Raises:
        BadInput: an index is not that of a point.
    """
    if any(not 0 <= index < len(question.listen_for) for index in ticked):
        raise BadInput(f"There are {len(question.listen_for)} points to tick.")
    return len(set(ticked)) / len(question.listen_for)


# ----------------------------------------
# What an interview for a role asks about, and its length.


#: The number of questions by the length of an interview.
LENGTHS: Mapping[str, int] = {"short": 5, "usual": 10, "long": 15}


@dataclass(frozen=True)
class Role:
    """A role. ``topics``: those its interviews are limited to; empty for all."""

    id: str
    title: str
    topics: tuple[str, ...] = ()


@cache
def all_roles() -> Mapping[str, Role]:
    """Return the roles by name. Raises ContentError for a mistake in their file, such as a topic that there is not."""
    path = CONTENT / "roles.yaml"
    roles = by_id(path, read_entries(path, Role))
    for role in roles.values():
        for topic in role.topics:
            if topic not in topics():
                raise mistake(path, f"there is no topic '{topic}'.", f"id: {role.id}", topic)
    return roles


def get_role(name: str) -> Role:
    """Return a role by name. Raises :class:`UnknownName`."""
    return named("role", name, all_roles(), "role")


# ----------------------------------------
# The report on a mock interview: what to read and to study next; and a transcript as one HTML file.


WEAK = 0.7  # a topic below this share of its points is listed in the report
MOST = 5  # things to study next
FULL = 0.999  # of a point, with room for rounding: ticked shares are fractions


@dataclass(frozen=True)
class Tally:
    """Points earned in a number of questions."""

    points: float
    questions: int

    @property
    def share(self) -> float:
        return self.points / self.questions if self.questions else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95% interval of the share."""
        return wilson(self.points, self.questions)


@dataclass(frozen=True)
class Report:
    """The result of an interview. Questions without an answer count as wrong. ``weak``: topics, the weakest first."""

    total: Tally
    levels: Mapping[str, Tally]
    topics: Mapping[str, Tally]
    weak: tuple[str, ...]
    forgotten: tuple[str, ...]
    seconds: float


def report(interview: Interview) -> Report:
    """Return the report on an interview."""
    points = [(question_of(name), reply.points) for name, reply in interview.answered.items()]

    def tallies(kind: str, names: Iterable[str]) -> dict[str, Tally]:
        earned = {name: [n for q, n in points if getattr(q, kind) == name] for name in names}
        return {name: Tally(sum(each), len(each)) for name, each in earned.items() if each}

    by_topic = tallies("topic", topic_titles())
    weak = [topic for topic, tally in by_topic.items() if tally.share < WEAK]
    return Report(
        Tally(sum(n for _, n in points), len(points)),
        tallies("level", LEVELS),
        by_topic,
        tuple(sorted(weak, key=lambda topic: (by_topic[topic].share, -by_topic[topic].questions))),
        tuple(dict.fromkeys(reply.forgot for reply in interview.replies if reply.forgot)),
        sum(reply.seconds for reply in interview.replies),
    )


def pages_on(topic: str) -> tuple[str, ...]:
    """Return the slugs of the pages to read on a topic, the best one first."""
    return common_topics()[topic].pages if topic in common_topics() else (topic,)


def look_next(interview: Interview) -> dict[str, tuple[str, ...]]:
    """Return up to five questions that lost points, fewest points first, then in the order asked, each with what was
    missing: what was forgotten; for a rated free answer the points not ticked; else all points to listen for."""
    lost = [reply for reply in interview.answered.values() if reply.points < FULL]
    found = {}
    for reply in sorted(lost, key=lambda reply: reply.points)[:MOST]:
        points = question_of(reply.question).listen_for
        missed = tuple(point for point in points if point not in (reply.ticked or ()))
        found[reply.question] = (f"You forgot {reply.forgot}.",) if reply.forgot else missed
    return found


def transcript(interview: Interview) -> str:
    """Return the interview as one self-contained HTML page, with styles for printing."""
    total, asked = report(interview).total, {}
    for name, reply in interview.answered.items():
        question, model = question_of(name), interview.plan.model_for(name)
        asked[name] = {
            "topic": topic_titles()[question.topic],
            "level": question.level,
            "asked": question.ask(model),
            "said": interview.said(name),
            "points": reply.points,
            "seconds": reply.seconds if reply in interview.replies else None,
            "answer": question.explain(question.compute(model), model),
        }
    low, high = total.interval
    return fill(
        "transcript.html.j2",
        started=interview.started,
        total=total,
        interval=f"95% interval {low:.0%} to {high:.0%}",
        next=[{**asked[name], "why": why} for name, why in look_next(interview).items()],
        answers=list(asked.values()),
        palette=palette,
        text=_html,
    )


def _html(text: str) -> str:
    """Return text as HTML with formulas and code as code: a library to draw formulas would have to be fetched."""
    pieces = re.split(r"\$([^$]+)\$|`([^`]+)`", text)  # text, formula or code, text ...
    return "".join(
        html.escape(piece) if place % 3 == 0 else f"<code>{html.escape(piece, quote=False)}</code>"
        for place, piece in enumerate(pieces)
        if piece
    )
