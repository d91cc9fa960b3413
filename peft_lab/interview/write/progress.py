"""Keep what a learner did in the exercises, and when each is due again, by the scheduler of the cards.

A pass is a repetition: rated by its tries, hints and seconds, and scheduled by FSRS at the learner's retention.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fsrs import Card, Rating

from peft_lab.interview.learners.schedule import Learners
from peft_lab.interview.learners.storage import KEPT_DAY, RatingName, Result, day_kept, due_by
from peft_lab.interview.write.exercises import Exercise, exercises
from peft_lab.interview.write.judge import Verdict

FIRST = "Me"  # the learner of a new installation, as on the pages
KIND = "exercise"  # of the learner's results
_FIELDS: Mapping[str, Any] = {"exercise": str, "tries": int, "hints": int, "seconds": float}
_KEPT = "exercises"  # the key of what was tried and is not passed yet
_AGAIN = timedelta(hours=1)  # from a pass to one that counts as another repetition
_MANY_TRIES = 3


@dataclass(frozen=True)
class Standing:
    """Where a learner stands with an exercise.

    Attributes:
        tries: since the last pass; if there was none since, those that the pass took.
        hints, seconds: that the last pass took. due_at: when it should be repeated, once it was passed.
        due: whether it should be repeated now.
    """

    passed: bool = False
    tries: int = 0
    hints: int = 0
    seconds: float = 0.0
    due_at: datetime | None = None
    due: bool = False


def rating(one: Exercise, tries: int, hints: int, seconds: float) -> RatingName:
    """Return how well a pass went: again if the last hint was needed, which is the line itself."""
    if hints >= len(one.hints):
        return "again"
    if hints or tries > _MANY_TRIES:
        return "hard"
    return "easy" if tries == 1 and seconds <= 30 * one.minutes else "good"


def record(learners: Learners, name: str, verdict: Verdict, tries: int, hints: int, seconds: float) -> None:
    """Store how a program did. ``tries``: programs judged so far, this one included. ``hints``: that were shown.
    ``seconds``: since the start. Raises UnknownName: there is no such learner."""
    tried = _tried(learners, name)
    if not verdict.passed:
        learners.keep(name, _KEPT, {**tried, verdict.id: tries})
        return
    last = [result.at for result in _passes(learners, name).get(verdict.id, ())][-1:]
    if not last or learners.now() - last[0] >= _AGAIN:
        values = {"exercise": verdict.id, "tries": tries, "hints": hints, "seconds": round(seconds, 1)}
        learners.add_result(name, KIND, values)
    if verdict.id in tried:
        learners.keep(name, _KEPT, {key: count for key, count in tried.items() if key != verdict.id})


def standing(learners: Learners, name: str) -> dict[str, Standing]:
    """Return where a learner stands with every exercise, by its id. Raises UnknownName for an unknown learner."""
    tried, passes, now = _tried(learners, name), _passes(learners, name), learners.now()
    scheduler = learners.scheduler(name)
    day = day_kept(learners.kept(name, KEPT_DAY), now.date())
    found = {}
    for one in exercises().values():
        results = passes.get(one.id, ())
        if not results:
            found[one.id] = Standing(tries=tried.get(one.id, 0))
            continue
        card = Card(card_id=zlib.crc32(one.id.encode()), due=results[0].at)
        for result in results:
            of_pass = (result.content[key] for key in ("tries", "hints", "seconds"))
            card, _ = scheduler.review_card(card, Rating[rating(one, *of_pass).capitalize()], result.at)
        last = results[-1]
        due_at = due_by(card.due, day, last.at)
        values = {key: last.content[key] for key in ("hints", "seconds")}
        tries = tried.get(one.id, last.content["tries"])
        found[one.id] = Standing(passed=True, tries=tries, **values, due_at=due_at, due=due_at <= now)
    return found


def _passes(learners: Learners, name: str) -> Mapping[str, list[Result]]:
    found: dict[str, list[Result]] = defaultdict(list)
    for result in learners.results(name, KIND, _FIELDS):
        found[result.content["exercise"]].append(result)
    return found


def _tried(learners: Learners, name: str) -> dict[str, int]:
    kept = learners.kept(name, _KEPT, {})
    return {key: count for key, count in kept.items() if type(count) is int} if isinstance(kept, dict) else {}


def first_learner(learners: Learners) -> str:
    """Return the learner that the pages begin with; create a first one if there is none."""
    names = learners.names()
    return FIRST if FIRST in names else names[0] if names else learners.create(FIRST)
