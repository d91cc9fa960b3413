"""``train``: a fine-tune in its own process, followed from here.

Ctrl-C (or a scheduler's SIGTERM) ends the run after its current step; what it trained so far is reported.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from peft_lab.cli import options, output, runs
from peft_lab.cli.application import FAILED, command, stopping
from peft_lab.cli.options import form_options, known_run, option
from peft_lab.cli.output import ProgressBars
from peft_lab.cli.runs import result_lines
from peft_lab.core import inspector, units
from peft_lab.core.errors import BadInput, PeftLabError, SimulationError
from peft_lab.engine.timing import here
from peft_lab.methods import get_method
from peft_lab.models.catalogue import resolve
from peft_lab.runs import admission, checkpoints, forecast, kept, preview, record, respond, store
from peft_lab.runs.forecast import Forecast, run_work
from peft_lab.runs.preview import PreviewRow, heading, headline, notes, visible
from peft_lab.runs.queue import RunQueue, get_queue
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunView, Status, scoring
from peft_lab.training.tasks import hub, own

# ----------------------------------------
# How long ``train`` will take: printed before it starts, once this machine was measured, as Train's button says it.


def tell_forecast(spec: RunSpec) -> Forecast | None:
    """Print on stderr how long a run will take, and return the forecast. ``None`` if it is unknown: before this machine
    was measured, and for kinds of runs that are not predicted."""
    if not here.complete() or not forecast.predicts(resolve(spec.model).kind, spec.task):
        return None
    try:
        work = inspector.get_inspector(inspector.Worker.MEMORY).ask(run_work, spec.to_dict())
        past = store.summaries()
        expected = forecast.forecast(work, spec, past)
    except PeftLabError as error:
        output.note(f"note: the training time cannot be estimated: {error}")
        return None
    words = kept.told_forecast(expected.seconds, kept.forecast_errors(line.kept for line in past))
    output.note(f"Training time: {words}. {kept.forecast_made_of(expected.like)}")
    return expected


# ----------------------------------------
# ``train --preview``: the rows of a learner's file as tokens, and which of them are learned.


_LEARNED = ("«", "»")  # around what is learned, as colours are lost in a pipe
_KEY = f"Learned tokens are in {_LEARNED[0]} {_LEARNED[1]}; | separates tokens."


def show_own_tokens(spec: RunSpec, as_json: bool) -> None:
    """Print the tokens that a training would read, and which of them it would learn. Raises BadInput if there is no own
    file, or its rows have one label each, are images or cannot be trained on."""
    if spec.own_data is None:
        raise BadInput(
            "--preview shows the tokens of your own data. Give the file with --own FILE.", "preview"
        )
    if spec.task_object().images:
        raise BadInput("Images have no tokens to preview. Leave --preview out.", "preview")
    shown = preview.ask(spec.model, spec.own_data, spec.max_length).result()
    if isinstance(shown, str):
        raise BadInput(shown, "own_data")
    rows = (part for row in shown.sample for part in ("", heading(row), _tokens(row)))
    output.show(shown, as_json, human=lambda: [headline(shown), *notes(shown), _KEY, *rows])


def _tokens(row: PreviewRow) -> Text:
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


@command("train")
@form_options(RunRequest, _OPTIONS)
def train(
    context: typer.Context,
    given: dict[str, Any],
    model: options.OneModel = None,
    method: Annotated[str | None, option("--method", "SLUG", "The method to train with.")] = None,
    task: Annotated[str | None, option("--task", "NAME", "The task; 'own' needs --own FILE.")] = None,
    sets: options.Sets = None,
    own_file: Annotated[
        Path | None,
        option(
            "--own",
            "FILE",
            "CSV or JSONL: text,label or prompt,completion; JSONL of messages; tagged words as JSONL of tokens,tags or "
            "CoNLL; a folder of images; hf:owner/name:split of the Hugging Face Hub.",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        option("--start", "FOLDER", "Continue training an adapter from this folder of the adapters library."),
    ] = None,
    out: Annotated[Path | None, option("--out", "DIR", "Copy the trained adapter to this folder.")] = None,
    probes: Annotated[
        list[str] | None,
        option("--probe", "TEXT", "A text for the base and the tuned model to answer; repeatable."),
    ] = None,
    continued: Annotated[
        str | None,
        option("--continue", "RUN_ID", "Continue a run that ended too early, with that run's settings."),
    ] = None,
    preview: Annotated[
        bool,
        option("--preview", None, "Show the tokens of --own FILE and which are learned; train nothing."),
    ] = False,
    track: runs.Track = None,
    as_json: options.Json = False,
) -> None:
    """Fine-tune a downloaded model and report its loss, metric, speed and memory."""
    if continued is not None:
        _require_alone(context)
        _continue(continued, out, as_json)
        return
    if start is not None and method is None:
        method = respond.OPENED_METHOD
    if model is None or method is None:
        raise BadInput(
            "Nothing to train: give --model and --method, or --continue RUN_ID for a run that ended too early."
        )
    chosen = get_method(method)
    values = options.parse_sets(sets or (), [chosen])[chosen.slug]
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
    if note := spec.task_object().note:
        output.note(f"note: {note}")
    if preview:
        show_own_tokens(spec, as_json)
        return
    if out is not None:
        _prepare(out)
    run, interrupt = _watch(lambda queue: queue.submit(spec), spec)
    _report(run, interrupt, out, as_json)


def _require_alone(context: typer.Context) -> None:
    """Raise BadInput if settings are given with ``--continue``, which uses the run's own."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        given = source is not None and source.name == "COMMANDLINE"
        if given and parameter.name not in ("continued", "out", "track", "as_json"):
            name = next(name for name in reversed(parameter.opts) if name.startswith("--"))
            raise BadInput(f"--continue uses the run's own settings. Leave {name} out.", parameter.name)


def _continue(identity: str, out: Path | None, as_json: bool) -> None:
    old = known_run(identity)
    checkpoints.require_to_go_on(old)
    if out is not None:
        _prepare(out)

    def again(queue: RunQueue) -> str:
        queue.go_on(old.id)
        return old.id

    run, interrupt = _watch(again)
    _report(run, interrupt, out, as_json)


def _report(run: Run, interrupt: int | None, out: Path | None, as_json: bool) -> None:
    """Print the result of a run, and exit with its status: 0 when done, 128 + signal if stopped from here, else 1."""
    result = {**record.result(run), "simulated_peak_bytes": None}
    if result["status"] == Status.DONE:
        try:
            result["simulated_peak_bytes"] = admission.peak_of_run(result)
        except (BadInput, SimulationError) as error:
            output.note(f"note: the step was not simulated: {error}")
    if out is not None and result["adapter_dir"]:
        shutil.copytree(result["adapter_dir"], out, dirs_exist_ok=True)
        result["adapter_dir"] = str(out)
    output.show(result, as_json, human=lambda: result_lines(result))
    runs.tell_tracked(run)
    if result["status"] != Status.DONE:
        output.note(
            f"{'error: ' if interrupt is None else ''}{run.id} {result['status']}: {result['message']}"
        )
        raise typer.Exit(FAILED if interrupt is None else 128 + interrupt)


def _task(task: str | None, own_file: Path | None) -> str:
    if own_file is not None and task not in (None, own.NAME):
        raise BadInput(
            f"--own is the data of the task '{own.NAME}'; '{task}' has its own data. Leave one of the two options "
            "out.",
            "task",
        )
    if task == own.NAME and own_file is None:
        raise BadInput(f"The task '{own.NAME}' needs your data. Give the file with --own FILE.", "task")
    if task is None and own_file is None:
        raise BadInput("There is no task. Give --task, or your own data with --own FILE.", "task")
    return task or own.NAME


def _prepare(out: Path) -> None:
    """Create ``out`` and check that the adapter can be saved there; an older adapter is overwritten."""
    options.make_folder(out)
    options.require_empty(out, unless=_ADAPTER)


def _watch(begin: Callable[[RunQueue], str], new: RunSpec | None = None) -> tuple[Run, int | None]:
    """Train, drawing progress, until the run ends; return it and the signal that ended it early, or None. The expected
    time of a ``new`` run is printed before it begins."""
    queue = training_queue()
    expected = tell_forecast(new) if new is not None else None
    with stopping() as signals, ProgressBars() as bars:
        run = store.get(begin(queue))
        if expected is not None:
            with suppress(OSError):  # a run trains no worse where that cannot be written
                forecast.note(run, expected)
        _follow(run, queue, bars, signals)
        if signals:
            queue.stop(run.id)
            if not queue.wait(run.id, _LONGEST_STOP).final:
                output.note(
                    f"{run.id} did not stop in time; the run ends with this command and is marked as lost"
                )
    return run, signals[-1] if signals else None


def training_queue() -> RunQueue:
    """Return the queue. Its processes ignore Ctrl-C, which the terminal sends to all: this one handles it."""
    from peft_lab.core import processes

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        processes.start_server()
    finally:
        signal.signal(signal.SIGINT, before)
    return get_queue()


def _follow(run: Run, queue: RunQueue, bars: ProgressBars, signals: Sequence[int]) -> None:
    """Draw a run until it ends or a signal arrives."""
    latest: RunView | None = None
    while not signals and (latest is None or not latest.status.final):
        view = run.view()
        if view is not latest:
            latest = view
            _draw(bars, view, queue.position(run.id) if view.status is Status.QUEUED else 0)
        time.sleep(_POLL)


def _draw(bars: ProgressBars, view: RunView, waiting: int) -> None:
    training = view.step / view.steps
    if view.status is Status.QUEUED:
        others = f"waiting for {units.several(waiting, 'other run')}" if waiting else ""
        bars.update("Training", 0.0, others)
    elif view.status is Status.STARTING:
        bars.update("Training", 0.0, view.message)
    elif view.losses:
        left = f", {units.roughly(view.eta)} left" if view.eta else ""
        bars.update(
            "Training", training, f"step {view.step} of {view.steps}, loss {view.losses[-1]:.3f}{left}"
        )
    for which, score in (("tuned", view.after), ("base", view.before)):
        if view.evaluating == which or score:
            words = "" if score else scoring(view)
            bars.update(f"Evaluating the {which} model", 1.0 if score else view.progress, words)
