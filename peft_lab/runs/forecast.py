"""Predict how long a run will take, store the forecast with the run, and compare it with the measured time.

    seconds = loading + steps + recording + scoring of the tuned model + loading and scoring of the base, if no run has

from the run's work (:func:`run_work`) and this machine's measured speed (:mod:`peft_lab.engine.timing.here`), times
the median ratio of measured to computed time over earlier runs of the same method, model and task here, if any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

from peft_lab.core import asking, machine
from peft_lab.core.errors import BadInput
from peft_lab.drawing.trajectory.format import FREE_STATES, MEASURING, SHARE, asked_states
from peft_lab.engine.lab import simulate_lab
from peft_lab.engine.timing import here
from peft_lab.engine.timing.kernels import OperationTable, Speed, step
from peft_lab.engine.work import Work
from peft_lab.methods import get_method
from peft_lab.models import images, loading
from peft_lab.models.catalogue import resolve
from peft_lab.models.shapes import ModelEntry
from peft_lab.runs import admission, course, kept
from peft_lab.runs import course as base_scores
from peft_lab.runs.kept import EVENT, forecasts_file
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunSummary
from peft_lab.training import batches
from peft_lab.training.batches import collate, size_of
from peft_lab.training.evaluation import ROWS_AT_ONCE
from peft_lab.training.tasks import own
from peft_lab.training.tasks.base import Row, Task

#: Number of similar runs that correct a forecast.
LATEST = 5


@dataclass(frozen=True)
class Forecast:
    """The predicted duration of one run. ``seconds``: the prediction. ``plain``: the sum of the parts, before
    correction by similar runs. ``like``: how many of those there were."""

    seconds: float
    plain: float
    parts: dict[str, float]
    like: int = 0


def predicts(kind: str, task: str) -> bool:
    """Return whether such runs are predicted: on a CPU, not in a class, whose runs share it, and not on own images."""
    return (
        not machine.may_have_gpu()
        and not asking.class_is_on()
        and not (kind == "vision" and task == own.NAME)
    )


def forecast(work: RunWork, spec: RunSpec, past: Iterable[RunSummary] = ()) -> Forecast:
    """Predict the duration of a run of ``spec`` with this work. ``past``: earlier runs, newest first. Raises BadInput
    (the machine was not measured)."""
    parts = parts_of(work, spec, here.speed())
    plain = sum(parts.values())
    like = [
        line.kept.took / line.kept.plain
        for line in past
        if line.kept is not None
        and line.kept.took
        and (line.model, line.method, line.task, line.kept.where)
        == (spec.model, spec.method, spec.task, forecasts_file())
    ][:LATEST]
    return Forecast(plain * (median(like) if like else 1.0), plain, parts, len(like))


def parts_of(work: RunWork, spec: RunSpec, speed: Speed) -> dict[str, float]:
    """Return the uncorrected seconds of each part at this speed. Raises BadInput as :func:`forecast`."""
    training = _seconds(work.step, speed) * spec.steps
    reading = _seconds(_forward(work.step), speed) / work.tokens
    # In training the weights stay in the cache during a batch; for a single token they are read from memory.
    token, alone = (
        _seconds(one, speed) + work.weights / speed.memory if one else 0.0 for one in (work.token, work.alone)
    )
    groups, new = work.answers
    probes = len(spec.probes) * alone * new
    scoring = reading * work.read + token * groups * new + probes
    known = base_scores.find_base_score(work.key).complete(spec.probes, spec.eval_rows)
    loading = here.loading(spec.model, work.weights, work.packed)
    return {
        "loading": loading,
        "steps": training,
        # What its budget allows for states, and the answers that are always given.
        "recording": MEASURING * (FREE_STATES + SHARE * training)
        + len(asked_states(spec.steps, spec.watched)) * alone * new,
        "scoring": scoring,
        "loading the base": 0.0 if known else loading,
        "scoring the base": 0.0 if known else scoring,
    }


def _seconds(work: Work, speed: Speed) -> float:
    return step(OperationTable(work), speed)


def note(run: Run, said: Forecast) -> None:
    """Store the forecast with the run, as an event. Raises OSError."""
    run.log.emit(EVENT, seconds=said.seconds, plain=said.plain, parts=said.parts, where=forecasts_file())


# ----------------------------------------
# The work of a whole run before it is trained: its steps and the scoring of its models, as operations to be timed.
#
# A step is traced at the mean size of the run's batches; reading held-out rows counts as that step's forward pass,
# scaled by tokens; generating an answer is a pass over one token per row that reads all weights.


@dataclass(frozen=True)
class RunWork:
    """The work of a whole run.

    Attributes:
        step: of a batch of mean size, padding counted; tokens: in that batch.
        read: tokens of the held-out rows, as grouped for scoring; those read before writing an answer included.
        token: a pass over one token of each row of a group; ``()`` if nothing is generated. alone: of a single row.
        answers: groups that are generated for, and passes for each at most.
        weights: bytes of the base. packed: whether it is stored in few bits.
        key: what the base's score depends on (:func:`peft_lab.runs.course.base_key_ahead`).
    """

    step: Work
    tokens: float
    read: float
    token: Work
    answers: tuple[int, int]
    weights: int
    packed: bool
    key: dict[str, Any]
    alone: Work = ()


def run_work(data: Mapping[str, Any]) -> RunWork:
    """Return the work of a run of this spec. Imports torch; for a worker. Raises BadInput, SimulationError,
    AssetError."""
    spec = RunSpec.from_dict(data)
    task, entry = spec.task_object(), resolve(spec.model)
    if task.images and spec.task == own.NAME:
        raise BadInput(
            "The time to read your images is unknown, so the training time cannot be estimated.",
            "task",
        )
    test = list(task.load().test[: spec.eval_rows])
    if task.images:  # every image takes the same number of positions, so none is read
        size, held = images.size_of_batch(spec.batch, entry.config), [(spec.max_length, 0)] * len(test)
    else:
        size, held = _of_texts(spec, task, entry, test)
    attention, dtype = course.attention_for(spec), machine.compute_dtype()
    asked = admission.step_request(spec, size, machine.in_use().simulated_as, attention)
    at_once = ROWS_AT_ONCE[task.kind]
    lengths = [length for length, _ in held]
    lengths = [*lengths[:at_once], *sorted(lengths[at_once:])]  # as an examiner groups them
    groups = [lengths[first : first + at_once] for first in range(0, len(held), at_once)]
    read = float(sum(len(group) * max(group) for group in groups))
    token = alone = Work()
    if task.writes:
        read += sum(prompt for _, prompt in held)
        token, alone = (_token(spec, rows, size["apart"], attention) for rows in (at_once, 1))
    method = get_method(spec.method)
    files = kept.input_hashes(spec, task, entry)
    return RunWork(
        step=simulate_lab(asked).work[-1],
        tokens=float(size["rows"] * (spec.max_length if task.images else size["length"])),
        read=read,
        token=token,
        answers=(len(groups), task.max_new_tokens),
        weights=2 * entry.shape.total,
        packed=method.quantization(spec.values) is not None,
        key=base_scores.base_key_ahead(spec, task, test, files, dtype, machine.cores()),
        alone=alone,
    )


def _token(spec: RunSpec, rows: int, apart: bool, attention: str) -> Work:
    """Return a pass over one token of each row while answers are written. Virtual tokens are read once, with the
    prompt, so the pass is the base's own. An encoder's text is read once too; a token of its decoder is treated as one
    of a single stack."""
    if get_method(spec.method).virtual_tokens(spec.values):
        spec = replace(spec, method="full", values={})
    one = {"rows": rows, "length": 1, "padded": False, "kept": 1, "predicted": rows, "apart": apart}
    sized = admission.step_request(spec, one, machine.in_use().simulated_as, attention)
    return _forward(simulate_lab(sized).work[-1])


def _of_texts(
    spec: RunSpec, task: Task, entry: ModelEntry, test: Sequence[Row]
) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """Return the size of the run's mean batch, and each held-out row's tokens and prompt tokens."""
    tokenizer, start = loading.load_tokenizer(loading.weights_of(spec.model)), loading.decoder_start(entry)
    held = batches.encode(task, test, tokenizer, spec.max_length, start) if test else []
    return _mean(course.planned_batches(spec)), [(len(row), row.prompt) for row in held]


def _forward(work: Work) -> Work:
    """Return the forward pass of a step."""
    return tuple(piece for piece in work if piece.phase == "forward")


def _mean(made: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the size of the mean batch, whose step takes about the average time of the run's steps."""
    sizes = [size_of(collate(rows, 0, "cpu")) for rows in made]
    first = sizes[0]
    mean = {name: max(bool(first[name]), round(fmean(size[name] for size in sizes))) for name in _COUNTED}
    mean["kept"] = mean["kept"] if first["apart"] else min(mean["kept"], mean["length"])
    mean["predicted"] = min(mean["predicted"], mean["rows"] * mean["kept"])
    return {**mean, "padded": any(size["padded"] for size in sizes), "apart": first["apart"]}


_COUNTED = ("rows", "length", "kept", "predicted")
