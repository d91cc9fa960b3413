"""``train``: a fine-tune in a process of its own, watched from here.

Ctrl-C (or a scheduler's SIGTERM) ends the run after its current step; what was trained until then is reported.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.text import Text

from peft_lab.cli import options, output, runs
from peft_lab.cli.application import FAILED, command
from peft_lab.cli.forms import form_options, options_of
from peft_lab.cli.options import known_run
from peft_lab.cli.output import ProgressBars
from peft_lab.cli.runs import result_lines
from peft_lab.core import units
from peft_lab.core.errors import BadInput, PeftLabError, SimulationError
from peft_lab.engine.timing import here
from peft_lab.models.catalogue import resolve
from peft_lab.runs import admission, checkpoints, forecast, preview, record, respond, said, store
from peft_lab.runs.forecast import Forecast, run_work
from peft_lab.runs.preview import Preview, Shown, heading, headline, notes, visible
from peft_lab.runs.queue import RunQueue, get_queue
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunView, Status
from peft_lab.training.tasks import hub, own
from peft_lab.workers import inspector

# ----------------------------------------
# How long ``train`` will take: said before it starts, once this machine was measured, as Train's button says it.


def tell_forecast(spec: RunSpec) -> Forecast | None:
    """Say it on stderr; ``None`` where nothing is said: before the machine was measured, and of runs of a kind that is
    not predicted. Why a run of another kind cannot be is said instead."""
    if not here.complete() or not forecast.predicts(resolve(spec.model).kind, spec.task):
        return None
    try:
        work = inspector.get_inspector(inspector.Worker.MEMORY).ask(run_work, spec.to_dict())
        past = store.summaries()
        found = forecast.forecast(work, spec, past)
    except PeftLabError as error:
        output.note(f"note: how long it will take is not known: {error}")
        return None
    words = said.told_forecast(found.seconds, said.forecast_errors(line.kept for line in past))
    output.note(f"Train: {words}. {said.forecast_made_of(found.like)}")
    return found


def keep_forecast(run: Run, found: Forecast | None) -> None:
    """Keep with the run what was said of it."""
    if found is not None:
        with suppress(OSError):  # a run trains no worse where that cannot be written
            forecast.note(run, found)


# ----------------------------------------
# ``train --preview``: the rows of a learner's file as tokens, and which of them are learned.


_LEARNED = ("«", "»")  # around what is learned, as colours are lost in a pipe
_KEY = f"Learned tokens stand in {_LEARNED[0]} {_LEARNED[1]}, tokens are parted by |."


def show_own_tokens(spec: RunSpec, as_json: bool) -> None:
    """Print what a training of this spec would read and learn.

    Raises:
        BadInput: no file of the learner's, one with labels, images, or rows that cannot be trained on.
    """
    if spec.own_data is None:
        raise BadInput(
            "--preview shows the tokens of your own data: give the file with --own FILE.", "preview"
        )
    if spec.task_object().images:
        raise BadInput("--preview shows tokens, and images have none: leave it out.", "preview")
    found = preview.ask(spec.model, spec.own_data, spec.max_length).result()
    if isinstance(found, str):
        raise BadInput(found, "own_data")
    output.show(found, as_json, human=lambda: lines(found))


def lines(found: Preview) -> list[Any]:
    """The preview for a person."""
    parts: list[Any] = [headline(found), *notes(found), _KEY]
    for row in found.sample:
        parts += ["", heading(row), _tokens(row)]
    return parts


def _tokens(row: Shown) -> Text:
    text = Text()
    before = False
    for number, token in enumerate(row.tokens):
        if token.trained != before:
            text.append(_LEARNED[before])
        elif number:
            text.append("|", "dim")
        before = token.trained
        text.append(visible(token), "bold dark_orange" if token.trained else "bold" if token.mark else "dim")
    text.append(_LEARNED[1] if before else "")
    return text


_POLL = 0.1  # seconds
_LONGEST_STOP = 60.0  # seconds; the queue has forced a run to end long before
_ADAPTER = "adapter_config.json"


#: The settings of a run that have options of their own.
_OPTIONS = ("steps", "batch", "seed", "learning_rate", "max_length", "eval_rows")


class _Interrupted(Exception):
    """Someone wants the run to end. ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        self.number = number


@command("train")
@form_options(RunRequest, _OPTIONS)
def train(
    context: typer.Context,
    given: dict[str, Any],
    model: options.OneModel = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="SLUG", help="The method to train with.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="What to learn; 'own' with --own FILE.")
    ] = None,
    sets: options.Sets = None,
    own_file: Annotated[
        Path | None,
        typer.Option(
            "--own",
            metavar="FILE",
            help="CSV or JSONL: text,label or prompt,completion; JSONL of messages; a folder of images; "
            "hf:owner/name:split of the Hugging Face Hub.",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            metavar="FOLDER",
            help="Train on from an adapter that the adapters library saved there.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Copy the trained adapter to this folder.")
    ] = None,
    probes: Annotated[
        list[str] | None,
        typer.Option("--probe", metavar="TEXT", help="A text that base and tuned model answer; repeatable."),
    ] = None,
    continued: Annotated[
        str | None,
        typer.Option(
            "--continue", metavar="RUN_ID", help="Continue a run that ended too early, with its own settings."
        ),
    ] = None,
    preview: Annotated[
        bool,
        typer.Option("--preview", help="Show the tokens of --own FILE and which are learned; train nothing."),
    ] = False,
    track: runs.Track = None,
    as_json: options.Json = False,
) -> None:
    """Fine-tune a model whose weights are here, and report its loss, metric, speed and memory."""
    if continued is not None:
        _require_alone(context)
        _go_on(continued, out, as_json)
        return
    if start is not None and method is None:
        method = respond.OPENED_METHOD
    if model is None or method is None:
        raise BadInput(
            "Name what to train with --model and --method, or a run that ended too early with --continue RUN_ID."
        )
    chosen, values = options.one_method(method, sets or ())
    if start is not None:
        respond.require_adapters(chosen.slug)
        values = {**respond.opened_values(start, model), **values}
    data, source = None if own_file is None else str(own_file), None
    if hub.is_hub(data):
        data, fetched = hub.kept_hub_file(str(own_file))
        source = str(fetched.asked)
        output.note(f"note: {fetched.said}")
    spec = RunRequest(
        model=model,
        method=chosen.slug,
        task=_task(task, own_file),
        values=values,
        **given,
        own_data=data,
        own_source=source,
        start=str(start.absolute()) if start else None,
        probes=tuple(probes or ()),
    ).complete()
    if preview:
        show_own_tokens(spec, as_json)
        return
    if out is not None:
        _prepare(out)
    run, interrupt = _watched(lambda queue: queue.submit(spec), spec)
    _report(run, interrupt, out, as_json)


def _require_alone(context: typer.Context) -> None:
    """A run that goes on has its settings. Raises BadInput where another is named."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if (
            name not in ("continued", "out", "track", "as_json")
            and source is not None
            and source.name == "COMMANDLINE"
        ):
            named = {"own_file": "--own", "sets": "--set", "probes": "--probe"}
            option = (
                options_of(RunRequest.field(name))[-1] if name in _OPTIONS else named.get(name, f"--{name}")
            )
            raise BadInput(f"--continue goes on as the run was set; leave {option} out.", name)


def _go_on(identity: str, out: Path | None, as_json: bool) -> None:
    found = known_run(identity)
    checkpoints.require_to_go_on(found)
    if out is not None:
        _prepare(out)

    def again(queue: RunQueue) -> str:
        queue.go_on(found.id)
        return found.id

    run, interrupt = _watched(again)
    _report(run, interrupt, out, as_json)


def _report(run: Run, interrupt: int | None, out: Path | None, as_json: bool) -> None:
    """Show what came of a run, and leave with its status."""
    result = {**record.result(run), "simulated_peak_bytes": None}
    if result["status"] == Status.DONE:
        result["simulated_peak_bytes"] = _simulated(result)
    if out is not None and result["adapter_dir"]:
        shutil.copytree(result["adapter_dir"], out, dirs_exist_ok=True)
        result["adapter_dir"] = str(out)
    output.show(result, as_json, human=lambda: result_lines(result))
    runs.tell_tracked(run)
    _leave(run, result, interrupt)


def _simulated(result: Mapping[str, Any]) -> int | None:
    """What the simulation says of the measured step; why it says nothing is told on stderr."""
    try:
        return admission.peak_of_run(result)
    except (BadInput, SimulationError) as error:
        output.note(f"note: the step was not simulated: {error}")
        return None


def _task(task: str | None, own_file: Path | None) -> str:
    if own_file is not None and task not in (None, own.NAME):
        raise BadInput(
            f"--own is the data of the task '{own.NAME}'; '{task}' brings its own. Leave one out.", "task"
        )
    if task == own.NAME and own_file is None:
        raise BadInput(f"The task '{own.NAME}' is your own data: give the file with --own FILE.", "task")
    if task is None and own_file is None:
        raise BadInput("Name a task with --task, or bring your own data with --own FILE.", "task")
    return task or own.NAME


def _prepare(out: Path) -> None:
    """Make sure that the adapter can be put into ``out`` before time is spent on it. An older adapter is replaced.

    Raises:
        BadInput: a file, a folder with other things in it, or a place that cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        taken = any(out.iterdir()) and not (out / _ADAPTER).exists()
    except OSError as error:
        raise BadInput(f"--out {out} cannot be used: {error.strerror or error}.", "out") from error
    if taken:
        raise BadInput(f"--out {out} holds other files; name a new or empty folder.", "out")


def _watched(begin: Callable[[RunQueue], str], new: RunSpec | None = None) -> tuple[Run, int | None]:
    """Train, drawing progress, until the run has ended; also the number of the signal that ended it early.

    How long a ``new`` run will take is said before it begins.
    """
    queue = training_queue()
    told = tell_forecast(new) if new is not None else None
    with _interruptible(), ProgressBars() as bars:
        run = store.get(begin(queue))
        keep_forecast(run, told)
        try:
            _follow(run, queue, bars)
        except _Interrupted as interruption:
            output.note("stopping after the current step (again to leave at once)")
            queue.stop(run.id)
            if not queue.wait(run.id, _LONGEST_STOP).final:
                output.note(
                    f"{run.id} does not end by itself; it ends with this command and is marked as lost"
                )
            return run, interruption.number
    return run, None


def training_queue() -> RunQueue:
    """The queue, with its processes started deaf to Ctrl-C: the terminal sends it to all, and this one handles it."""
    from peft_lab.workers import processes

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        processes.start_server()
    finally:
        signal.signal(signal.SIGINT, before)
    return get_queue()


@contextmanager
def _interruptible() -> Iterator[None]:
    """The first signal raises :class:`_Interrupted`; a second one ends this process, and the run with it."""

    def interrupt(number: int, _frame: object) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise _Interrupted(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(run: Run, queue: RunQueue, bars: ProgressBars) -> None:
    latest: RunView | None = None
    while latest is None or not latest.status.final:
        seen = run.view()
        if seen is not latest:
            latest = seen
            _draw(bars, seen, queue.position(run.id) if seen.status is Status.QUEUED else 0)
        time.sleep(_POLL)


def _draw(bars: ProgressBars, seen: RunView, waiting: int) -> None:
    training = seen.step / seen.steps
    if seen.status is Status.QUEUED:
        others = f"waiting for {units.several(waiting, 'other run')}" if waiting else ""
        bars.update("Training", 0.0, others)
    elif seen.status is Status.STARTING:
        bars.update("Training", 0.0, seen.message)
    elif seen.losses:
        left = f", {units.roughly(seen.eta)} left" if seen.eta else ""
        bars.update(
            "Training", training, f"step {seen.step} of {seen.steps}, loss {seen.losses[-1]:.3f}{left}"
        )
    for which, found in (("tuned", seen.after), ("base", seen.before)):
        if seen.evaluating == which or found:
            bars.update(f"Evaluating the {which} model", 1.0 if found else seen.progress)


def _leave(run: Run, result: Mapping[str, Any], interrupt: int | None) -> None:
    """Exit as the run ended: 0 when done, 128 + signal when stopped from here, else 1 with the reason."""
    status = result["status"]
    if status == Status.DONE:
        return
    output.note(f"{'error: ' if interrupt is None else ''}{run.id} {status}: {result['message']}")
    raise typer.Exit(FAILED if interrupt is None else 128 + interrupt)
