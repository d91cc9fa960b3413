"""Run a timed mock interview: questions, time, answers; then its report, roles, transcript. Export the bank as an Anki
deck.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.core import palette
from peft_lab.core.content import by_id, mistake, read_entries
from peft_lab.core.errors import BadInput, named
from peft_lab.interview.answers import Verdict
from peft_lab.interview.bank import get_question, select
from peft_lab.interview.computed import Answer, wilson
from peft_lab.interview.question import CONTENT, LEVELS, FollowUp, Level, Question, common_topics, topics
from peft_lab.interview.write.exercises import Exercise, exercise, exercises
from peft_lab.takeaway.generator import fill

if TYPE_CHECKING:
    import genanki  # type: ignore[import-untyped]

# Never change: Anki identifies decks and note types by these numbers, so a later export updates the same cards.
DECK_ID = 1_736_204_881
NOTE_TYPE_ID = 1_736_204_882
_CARD_CSS = """.card { font-family: sans-serif; font-size: 18px; text-align: left; max-width: 40em; margin: 1em auto; }
h4 { margin-bottom: 0; }"""


def write_deck(
    path: Path,
    questions: Iterable[Question],
    answers: dict[str, Answer] | None = None,
    model: str | None = None,
) -> int:
    """Write an ``.apkg`` file.

    Args:
        questions: the questions to export, one card each, tagged by topic and level.
        answers: computed answers by question id, for those that need torch; others are computed here.
        model: ask about this model wherever a question accepts it.

    Returns:
        the number of cards. A question whose answer needs torch and is not given is left out.

    Raises:
        BadInput: genanki is not installed, there is no question to export, or the file cannot be written.
    """
    try:
        import genanki
    except ImportError as error:
        raise BadInput("Anki decks need the package genanki. Install it: pip install genanki.") from error
    deck = genanki.Deck(
        DECK_ID, "PEFT Lab", "Parameter-efficient fine-tuning: interview questions with computed answers."
    )
    note_type = _note_type()
    for question in questions:
        own = model if model and question.accepts(model) else None
        answer = (answers or {}).get(question.id)
        if answer is None and question.needs == "torch":
            continue
        answer = answer or question.compute(own)
        fields = [card_front(question, own), card_back(question, answer, own)]
        tags = [question.topic, question.level]
        deck.add_note(
            genanki.Note(note_type, fields, guid=genanki.guid_for("peft-lab", question.id), tags=tags)
        )
    if not deck.notes:
        raise BadInput("There are no questions to export. Choose another topic or level.")
    try:
        genanki.Package(deck).write_to_file(str(path))
    except OSError as error:
        raise BadInput(f"The deck cannot be saved to {path}: {error.strerror}.", "file") from error
    return len(deck.notes)


def card_front(question: Question, model: str | None = None) -> str:
    """Return the question as HTML, with its options below."""
    parts = [f"<p>{to_html(question.ask(model))}</p>"]
    options = question.choices(model)
    if options:
        parts.append("<ol type='a'>" + "".join(f"<li>{to_html(option)}</li>" for option in options) + "</ol>")
    parts.append(
        f"<p><small>{html.escape(topics().get(question.topic, question.topic))}, {question.level}</small></p>"
    )
    return "".join(parts)


def card_back(question: Question, answer: Answer | None, model: str | None = None) -> str:
    """Return the answer as HTML: text, working, and what an interviewer listens for."""
    parts = [f"<p>{to_html(question.explain(answer, model))}</p>"]
    if answer:
        parts.append("".join(f"<p>{to_html(step)}</p>" for step in answer.working))
    for title, lines in (
        ("An interviewer listens for", question.listen_for),
        ("Common mistakes", question.wrong),
        ("Follow-up", [_follow_up(question, each, model) for each in question.follow_ups]),
        ("Wrong options", question.thoughts(answer, model) if question.explained else ()),
        ("Defend your answer", _defence(question, model)),
        ("Sources", question.sources),
    ):
        if not lines:
            continue
        parts.append(
            f"<h4>{title}</h4><ul>" + "".join(f"<li>{to_html(entry)}</li>" for entry in lines) + "</ul>"
        )
    return "".join(parts)


def _follow_up(question: Question, follow_up: FollowUp, model: str | None) -> str:
    """Return the follow-up with its answer; if it leads to another question, the answer is on that one's card."""
    asked, answer = question.explain_follow_up(follow_up, model)
    return f"{asked} {answer}" if answer else asked


def _defence(question: Question, model: str | None) -> tuple[str, ...]:
    """Return the doubt about the answer, and the right reaction to it."""
    if question.doubt is None:
        return ()
    said, objection, because = question.explain_doubt(question.doubt, model)
    reaction = "Keep your answer." if question.doubt.holds else "Change your answer."
    return (f"You said: {said}", objection, f"{reaction} {because}")


def to_html(text: str) -> str:
    r"""Return text with ``$formulas$`` and backticked code as HTML with MathJax's ``\( \)``, which Anki renders."""
    pieces = re.split(r"(\$[^$]+\$|`[^`]+`)", text)
    done = []
    for piece in pieces:
        if piece.startswith("$") and len(piece) > 1:
            done.append(rf"\({html.escape(piece[1:-1], quote=False)}\)")
        elif piece.startswith("`") and len(piece) > 1:
            done.append(f"<code>{html.escape(piece[1:-1])}</code>")
        else:
            done.append(html.escape(piece))
    return "".join(done)


def _note_type() -> genanki.Model:
    import genanki

    template = {"name": "Card", "qfmt": "{{Question}}", "afmt": "{{FrontSide}}<hr id=answer>{{Answer}}"}
    fields = [{"name": "Question"}, {"name": "Answer"}]
    return genanki.Model(
        NOTE_TYPE_ID, "PEFT Lab question", fields=fields, templates=[template], css=_CARD_CSS
    )


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


def _seconds(name: str) -> int:
    return 60 * exercise_of(name).minutes if is_exercise(name) else SECONDS[question_of(name).level]


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
        return sum(_seconds(name) for name in self.questions)

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

    def left(self, now: datetime) -> float:
        """Return the seconds left of the total time; never below zero."""
        return max(0.0, self.plan.seconds - (now - self.started).total_seconds())

    def over(self, now: datetime) -> bool:
        return self.current is None or self.left(now) == 0

    def answer(
        self, text: str, points: float, now: datetime, forgot: str = "", ticked: Sequence[str] | None = None
    ) -> Interview:
        """Return the interview after an answer. An answer given after the time is up earns no points. Raises BadInput:
        all questions are answered, or points are outside 0 to 1."""
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

    def to_dict(self) -> dict[str, Any]:
        """Return the interview as JSON-able values, for the learners' file."""
        plain = asdict(self)
        return {
            **plain,
            "started": self.started.isoformat(),
            "asked": self.asked.isoformat() if self.asked else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Interview:
        """Rebuild an interview from :meth:`to_dict`. Raises :class:`BadInput` for anything else."""
        try:
            plan = InterviewPlan(
                data["plan"]["seed"], tuple(data["plan"]["questions"]), data["plan"]["model"]
            )
            replies = tuple(_reply(reply) for reply in data["replies"])
            asked = datetime.fromisoformat(data["asked"]) if data["asked"] else None
            return cls(plan, datetime.fromisoformat(data["started"]), replies, asked)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput("This is not an interview from PEFT Lab.") from error


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
    random_source = random.Random(seed)
    chosen: list[Question] = []
    for level in _levels(size):
        chosen.append(_pick(pool, chosen, level, frozenset(avoid), random_source))
    chosen.sort(key=lambda question: LEVELS.index(question.level))
    last = (choose_exercise(seed, avoid),) if write and exercises() else ()
    return InterviewPlan(seed, (*(question.id for question in chosen), *last), model)


def _levels(size: int) -> list[Level]:
    """Return ``size`` levels in the mix's proportions, the largest remainders rounded up."""
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
    """Return one more question: of the level if any is left, then of the least used topic, then the least used kind."""
    topic_count = Counter(question.topic for question in chosen)
    kind_count = Counter(question.kind for question in chosen)

    def cost(question: Question) -> tuple[bool, bool, int, int]:
        used = topic_count[question.topic], kind_count[question.kind]
        return question.level != level, question.id in avoid, *used

    left = [question for question in pool if question not in chosen]
    lowest = min(cost(question) for question in left)
    return source.choice([question for question in left if cost(question) == lowest])


def begin(plan: InterviewPlan, now: datetime) -> Interview:
    """Start the interview's clock."""
    return Interview(plan, now, asked=now)


def ticked_points(question: Question, ticked: Collection[int]) -> float:
    """Return the points for a free answer: the share of what an interviewer listens for that the learner ticked. Raises
    BadInput: an index is not that of a point."""
    if any(not 0 <= index < len(question.listen_for) for index in ticked):
        raise BadInput(f"There are {len(question.listen_for)} points to tick.")
    return len(set(ticked)) / len(question.listen_for)


# ----------------------------------------
# The report on a mock interview, and which pages to read next.


WEAK = 0.7  # a topic below this share of its points is listed in the report


@dataclass(frozen=True)
class Tally:
    """Points earned in a number of questions."""

    points: float
    questions: int

    @property
    def share(self) -> float:
        return self.points / self.questions if self.questions else 0.0


@dataclass(frozen=True)
class WeakSpot:
    """A topic to study. ``pages`` are slugs, the best one first; ``missed`` the questions not fully right."""

    topic: str
    title: str
    tally: Tally
    pages: tuple[str, ...]
    missed: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """The result of an interview. Questions without an answer count as wrong."""

    total: Tally
    levels: Mapping[str, Tally]
    topics: Mapping[str, Tally]
    weak: tuple[WeakSpot, ...]
    forgotten: tuple[str, ...]
    seconds: float


def report(interview: Interview) -> Report:
    """Return the report on an interview, weakest topics first."""
    given = {reply.question: reply for reply in interview.replies}
    points = {name: given[name].points if name in given else 0.0 for name in interview.plan.questions}
    questions = {name: question_of(name) for name in points}
    by_topic = {
        topic: _tally(points, [n for n, q in questions.items() if q.topic == topic])
        for topic in topic_titles()
    }
    by_level = {
        level: _tally(points, [n for n, q in questions.items() if q.level == level]) for level in LEVELS
    }
    weak = [
        WeakSpot(
            topic,
            topic_titles().get(topic, topic),
            tally,
            common_topics()[topic].pages if topic in common_topics() else (topic,),
            tuple(
                name for name, question in questions.items() if question.topic == topic and points[name] < 1
            ),
        )
        for topic, tally in by_topic.items()
        if tally.questions and tally.share < WEAK
    ]
    weak.sort(key=lambda spot: (spot.tally.share, -spot.tally.questions))
    return Report(
        total=_tally(points, list(points)),
        levels={name: tally for name, tally in by_level.items() if tally.questions},
        topics={name: tally for name, tally in by_topic.items() if tally.questions},
        weak=tuple(weak),
        forgotten=tuple(dict.fromkeys(reply.forgot for reply in interview.replies if reply.forgot)),
        seconds=sum(reply.seconds for reply in interview.replies),
    )


def _tally(points: Mapping[str, float], names: Sequence[str]) -> Tally:
    return Tally(sum(points[name] for name in names), len(names))


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


def role_size(name: str) -> int:
    """Return the number of questions of an interview of this length. Raises :class:`UnknownName`."""
    return named("length", name, LENGTHS, "length")


# ----------------------------------------
# The result: strengths, five things to study next, and a transcript as one HTML file.


MOST = 5  # things to study next
SEVERAL = 2  # questions of a topic; with fewer it is not called a strength
NO_STRENGTH = "No strong topics yet (a strong topic has 70% of the points over at least two questions)."
_FULL = 0.999  # of a point, with room for rounding: ticked shares are fractions


@dataclass(frozen=True)
class Next:
    """One thing to study: the question it came up in, and what was missing there."""

    question: str
    topic: str
    points: float
    why: tuple[str, ...]


def strengths(interview: Interview) -> tuple[str, ...]:
    """Return topics with at least 70% of the points of two questions or more, in teaching order."""
    held = report(interview).topics
    return tuple(
        topic
        for topic in topic_titles()
        if topic in held and held[topic].questions >= SEVERAL and held[topic].share >= WEAK
    )


def look_next(interview: Interview) -> tuple[Next, ...]:
    """Return up to five questions that lost points, fewest points first, then in the order asked."""
    given = {reply.question: reply for reply in interview.replies}
    lost = [name for name in interview.plan.questions if _points(given.get(name)) < _FULL]
    lost.sort(key=lambda name: _points(given.get(name)))
    return tuple(
        Next(name, question_of(name).topic, _points(given.get(name)), _why(name, given.get(name)))
        for name in lost[:MOST]
    )


def between(tally: Tally) -> str:
    """Return the confidence interval of a tally, in words."""
    low, high = wilson(tally.points, tally.questions)
    return f"95% interval {low:.0%} to {high:.0%}"


def in_words(topic: str, summed: Report) -> str:
    """Return a topic with its points and their interval."""
    tally = summed.topics[topic]
    return f"{topic_titles()[topic]} ({tally.points:.2g} of {tally.questions}, {between(tally)})"


def _points(reply: Reply | None) -> float:
    return reply.points if reply else 0.0


def _why(name: str, reply: Reply | None) -> tuple[str, ...]:
    """Return what was forgotten; for a rated free answer the points not ticked; else all points to listen for."""
    if reply and reply.forgot:
        return (f"You forgot {reply.forgot}.",)
    question = question_of(name)
    if reply and reply.ticked is not None:
        return tuple(point for point in question.listen_for if point not in reply.ticked)
    return question.listen_for


def transcript(interview: Interview) -> str:
    """Return the interview as one self-contained HTML page, with styles for printing."""
    summed, given = report(interview), {reply.question: reply for reply in interview.replies}
    return fill(
        "transcript.html.j2",
        started=interview.started,
        total=summed.total,
        interval=between(summed.total),
        strengths=", ".join(in_words(topic, summed) for topic in strengths(interview)) or NO_STRENGTH,
        next=[
            {
                "topic": topic_titles()[one.topic],
                "asked": _question_text(interview, one.question),
                "why": one.why,
            }
            for one in look_next(interview)
        ],
        answers=[_answered(interview, name, given.get(name)) for name in interview.plan.questions],
        palette=palette,
        text=_text,
    )


def _question_text(interview: Interview, name: str) -> str:
    return question_of(name).ask(interview.plan.model_for(name))


def _answered(interview: Interview, name: str, reply: Reply | None) -> dict[str, Any]:
    """Return one question with what was answered, for the transcript."""
    question, model = question_of(name), interview.plan.model_for(name)
    said = reply.text if reply else ""
    if question.kind == "choice" and said:
        said = question.choices(model)[int(said) - 1]
    return {
        "topic": topic_titles()[question.topic],
        "level": question.level,
        "asked": question.ask(model),
        "said": said,
        "points": _points(reply),
        "seconds": reply.seconds if reply else None,
        "answer": question.explain(question.compute(model), model),
    }


def _text(text: str) -> str:
    r"""Return text as HTML with formulas as code: a library to draw them would have to be fetched."""
    return re.sub(r"\\\((.*?)\\\)", r"<code>\1</code>", to_html(text))
