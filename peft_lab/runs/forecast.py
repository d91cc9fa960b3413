"""How long a run will take, said before it starts, kept with it, and compared with what it took.

    seconds = loading + steps + recording + scoring of the tuned model + loading and scoring of the base, if no run has

from the run's work (:mod:`peft_lab.runs.run_work`) and what this machine reaches (:mod:`peft_lab.timing.here`), times
what runs of the same method on the same model took here against the same sum, where there are some.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from peft_lab import machine
from peft_lab.classroom import mode
from peft_lab.runs import base_scores
from peft_lab.runs.said import EVENT, where
from peft_lab.runs.spec import RunSpec
from peft_lab.tasks import own
from peft_lab.timing import here
from peft_lab.timing.kernels import Speed, Table, step
from peft_lab.trajectory.states import FREE, SHARE

if TYPE_CHECKING:
    from peft_lab.memory.work import Work
    from peft_lab.runs.run_work import RunWork
    from peft_lab.runs.store import Run
    from peft_lab.runs.summary import RunSummary

#: Runs like it by which a sum is corrected.
LATEST = 5


@dataclass(frozen=True)
class Forecast:
    """Of one run.

    Attributes:
        seconds: what is said. plain: the sum of the parts, before runs like it correct it.
        like: how many those were.
    """

    seconds: float
    plain: float
    parts: dict[str, float]
    like: int = 0


def predicts(kind: str, task: str) -> bool:
    """Whether runs of a model of this ``kind`` on this task can be predicted once the machine is measured: those on a
    processor are, but not beside those of a class, which share it, nor on images of one's own, as what reading them
    takes depends on them."""
    return not machine.may_have_gpu() and not mode.on() and not (kind == "vision" and task == own.NAME)


def forecast(work: RunWork, spec: RunSpec, past: Iterable[RunSummary] = ()) -> Forecast:
    """Before a run of ``spec``, whose work this is. ``past``: runs of before, the newest first.

    Raises:
        BadInput: the machine was not measured.
    """
    parts = parts_of(work, spec, here.speed())
    plain = sum(parts.values())
    like = [
        line.kept.took / line.kept.plain
        for line in past
        if line.kept is not None
        and line.kept.took
        and (line.model, line.method, line.task, line.kept.where)
        == (spec.model, spec.method, spec.task, where())
    ][:LATEST]
    return Forecast(plain * (median(like) if like else 1.0), plain, parts, len(like))


def parts_of(work: RunWork, spec: RunSpec, speed: Speed) -> dict[str, float]:
    """Seconds of each part of a run at this speed, before any correction. Raises BadInput as :func:`forecast`."""
    training = _seconds(work.step, speed) * spec.steps
    reading = _seconds(tuple(piece for piece in work.step if piece.phase == "forward"), speed) / work.tokens
    # In a training the weights lie in the cache while a batch goes through them; a single token finds them in memory.
    token = _seconds(work.token, speed) + work.weights / speed.memory if work.token else 0.0
    groups, new = work.answers
    probes = len(spec.probes) * token * new
    scoring = reading * work.read + token * groups * new + probes
    known = base_scores.find(work.key).complete(spec.probes, spec.eval_rows)
    loading = here.loading(spec.model, work.weights, work.packed)
    return {
        "loading": loading,
        "steps": training,
        # What its budget allows, and the last state's answer, which is written in any case.
        "recording": FREE + SHARE * training + token * new,
        "scoring": scoring,
        "loading the base": 0.0 if known else loading,
        "scoring the base": 0.0 if known else scoring,
    }


def _seconds(work: Work, speed: Speed) -> float:
    return step(Table(work), speed)


def note(run: Run, said: Forecast) -> None:
    """Keep with a run what was said of it. Raises OSError."""
    run.log.emit(EVENT, seconds=said.seconds, plain=said.plain, parts=said.parts, where=where())
