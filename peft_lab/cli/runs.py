"""``runs``, ``open`` and ``export``: the run store, adapters of the adapters library, and runs as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import known_run, option
from peft_lab.core import disk, units
from peft_lab.core.errors import BadInput, RunError
from peft_lab.runs import kept, record, respond, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from peft_lab.runs.view import DAMAGED, RunSummary
from peft_lab.training.tasks import own, pictures
from peft_lab.training.tasks.own import each_of

# ----------------------------------------
# A run's record as a table, for every command that reports one; and the run store.


def result_lines(result: Mapping[str, Any]) -> list[Any]:
    """Return a run's record as tables and lines, whether or not the run has ended."""
    spec, metric, memory, loss = result["spec"], result["metric"], result["memory"] or {}, result["loss"]
    row = "image" if str(spec["own_data"]).endswith(pictures.ZIP) else each_of(spec["task"])
    name = str(metric["name"]).replace("_", " ")
    figures: list[tuple[str, Any, Callable[[Any], str], str]] = [
        ("trainable parameters", result["trainable"], units.count, "counted"),
        ("parameters of the head", (result["trainable"] and result["head"]) or None, units.count, "counted"),
        ("steps", result["steps"], lambda done: f"{done:,} of {spec['steps']:,}", ""),
        (
            "loss, first to last step",
            loss or None,
            lambda all_: f"{all_[0]:.3f} to {all_[-1]:.3f}",
            "measured",
        ),
        *(
            (
                f"{name} {which}, {metric['rows'] or 0:,} held-out {row}s",
                metric[which],
                "{:.3f}".format,
                "measured",
            )
            for which in ("before", "after")
        ),
        ("training time", result["seconds"], units.seconds, "measured"),
        ("speed", result["steps_per_second"], "{:,.4g} steps/s".format, "measured"),
        ("speed", result["tokens_per_second"], "{:,.4g} tokens/s".format, "measured"),
        ("peak memory of a step", memory.get("peak_bytes"), units.size, "measured"),
        ("peak memory of that step", result.get("simulated_peak_bytes") or None, units.size, "simulated"),
    ]
    rows = [(label, show(value), source) for label, value, show, source in figures if value is not None]
    title = f"{spec['method']} on {spec['model']}, task {spec['task']}: {result['status']}"
    expected = result.get("expected")
    return [
        output.table(title, rows, ("", ">figure", "source")),
        *_answers(result["probes"]),
        *([] if expected is None else [kept.beside_forecasts(expected["seconds"], expected["took"])]),
        f"run: {result['run_id']}",
        f"adapter: {result['adapter_dir'] or 'none saved'}",
    ]


def _answers(probes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return both models' answers to the texts of ``--probe``, on a line each; a label has its probability."""

    def told(answer: Mapping[str, Any] | None) -> str:
        if answer is None:
            return "no answer yet"
        words, scores = " ".join(answer["answer"].split()), answer["scores"]
        return f"{words} ({scores[answer['answer']]:.1%})" if scores else words

    return [
        f"Asked: {' '.join(probe['text'].split())}\n  base:  {told(probe['before'])}\n  tuned: {told(probe['after'])}"
        for probe in probes
    ]


@command("runs")
def runs(
    identity: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The run to show; without it, all runs are listed.")
    ] = None,
    stop: Annotated[bool, option("--stop", None, "Stop the run after its current step.")] = False,
    delete: Annotated[bool, option("--delete", None, "Delete the run and its adapter.")] = False,
    adopt: Annotated[
        Path | None,
        option("--adopt", "FOLDER", "Add a run from FOLDER, where a plan's script wrote it (PEFT_LAB_RUN)."),
    ] = None,
    track: Annotated[
        str | None,
        option("--track", "NAMES", "Send this ended run to mlflow, trackio or both (mlflow,trackio)."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the runs of this machine, including those started in the app."""
    if adopt is not None:
        if identity is not None or stop or delete or track is not None:
            raise BadInput("--adopt needs a folder and no other option. Leave the others out.", "adopt")
        identity = store.adopt(adopt).id
    if identity is None:
        if stop or delete or track is not None:
            raise BadInput("No run is named. Give the ID of the run to stop, delete or track.")
        summaries = store.summaries()
        output.show(summaries, as_json, human=lambda: [_list(summaries)])
        return
    run = known_run(identity)
    if stop:
        known = run.status()
        get_queue().stop(run.id)
        output.note(f"{run.id} has ended: it is {known}" if known.final else f"{run.id} was asked to stop")
    if track is not None:
        _send(run, track)
    if delete:
        document = {**output.plain(store.summary(run)), "deleted": True}
        store.delete(run.id)
        output.show(document, as_json, human=lambda: [f"{run.id} was deleted."])
        return
    tracking = start.read_tracking(run.folder).values()
    result = {**record.result(run), "tracking": list(tracking)}
    sentences = [tracked.sentence() for tracked in tracking]
    output.show(result, as_json, human=lambda: [*result_lines(result), *sentences])


def _send(run: Run, track: str) -> None:
    trackers = start.tracker_names(track)
    if not trackers:
        raise BadInput("--track is empty. Name at least one tracker.", "track")
    problems = [sent.sentence() for sent in start.send(run, trackers) if sent.problem]
    if problems:
        raise RunError(" ".join(problems))


def _list(summaries: Sequence[RunSummary]) -> Any:
    """Return a table of the runs. A run's id contains its time, method, model and task."""
    columns: dict[str, output.Column] = {
        "run": "id",
        "status": "status",
        ">steps": lambda row: "" if row.status == DAMAGED else f"{row.steps:,}",
        "metric": lambda row: row.problem if row.status == DAMAGED else row.metric_title,
        ">before": ("before", "{:.3f}".format),
        ">after": ("after", "{:.3f}".format),
        ">peak": ("peak_bytes", units.size),
        ">took": ("seconds", units.seconds),
    }
    empty = "No runs yet: start one with 'python -m peft_lab train'."
    caption = "measured: metrics, peak and time" if summaries else empty
    return output.table("Runs", summaries, columns, caption)


# ----------------------------------------
# ``--track``: send the runs of a command to MLflow or trackio too.


def _switched_on(text: str | None) -> str | None:
    start.switch_on((text or "").split(","))
    return text


Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="NAMES",
        callback=_switched_on,
        help="Also log each run to mlflow, trackio or both (mlflow,trackio); PEFT_LAB_TRACK sets this everywhere.",
    ),
]


def tell_tracked(run: Run) -> None:
    """Wait for an ended run's trackers, and print where each stored it or why it failed."""
    for tracked in start.wait(run, start.trackers_of(run)):
        output.note(tracked.sentence())


def tell_of_all(runs: Sequence[Run]) -> None:
    """Wait for the trackers of a comparison's or sweep's runs, and print one sentence per tracker."""
    for tracked in start.trackers_waited_for(runs, start.PATIENCE if start.tracker_names() else 0.0):
        output.note(tracked.sentence())


# ----------------------------------------
# ``open``: a folder that the adapters library saved, counted and scored.


@command("open")
def open_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A folder that the adapters library saved, or a zip of one."),
    ],
    model: options.Model,
    task: Annotated[str | None, option("--task", "NAME", "Score on this task's held-out rows.")] = None,
    own_file: Annotated[
        Path | None, option("--own", "FILE", "Score on the held-out rows of your own file.")
    ] = None,
    eval_rows: Annotated[int | None, typer.Option("--eval-rows", help="Number of held-out rows.")] = None,
    as_json: options.Json = False,
) -> None:
    """Open an adapter of the adapters library: show its settings, parameters and score, and the base model's score."""
    from peft_lab.core import inspector
    from peft_lab.methods.counting.count import count

    if own_file is not None and task not in (None, own.NAME):
        raise BadInput(f"--own is the data of the task '{own.NAME}'. Leave --task {task} out.", "task")
    if eval_rows is not None and task is None and own_file is None:
        raise BadInput("--eval-rows needs a task. Add --task or --own.", "eval_rows")
    read, scores = respond.opened_values(folder, model), None
    report = count(model, "adapters", read).as_dict()
    if task is not None or own_file is not None:
        on = (model, task or own.NAME, None if own_file is None else str(own_file), eval_rows)
        respond.opened_request(folder, *on).complete()  # refused here, in one line
        asking = inspector.get_inspector(inspector.Worker.ANSWERS)
        scores = asking.ask(respond.opened_scores, str(folder), *on)
    document = {"folder": folder, "model": model, "values": read, "count": report, "scores": scores}
    output.show(document, as_json, human=lambda: _opened(document))


def _opened(document: dict[str, Any]) -> list[Any]:
    report, values, scores = document["count"], document["values"], document["scores"]
    lines: list[Any] = [
        f"{document['folder']}: the adapters library's {values['placement']}, width {values['bottleneck']}, "
        f"{values['nonlinearity']}",
        f"{units.count(report['trainable'])} parameters (counted) on {document['model']}, "
        f"{units.size(report['stored_bytes'])} as safetensors",
    ]
    if scores is not None:
        rows = [
            (
                which,
                *(f"{value:.4f}" for value in (*scores[which]["metrics"].values(), scores[which]["loss"])),
            )
            for which in ("base", "opened")
        ]
        heads = ["", *(f">{name}" for name in scores["base"]["metrics"]), ">loss"]
        lines.append(output.table(f"On {scores['rows']:,} held-out rows (measured)", rows, heads))
    return lines


# ----------------------------------------
# ``export``: a run as a file that repeats it without this package.


class OutputForm(StrEnum):
    """The formats in which a run can be exported."""

    SCRIPT = "script"
    NOTEBOOK = "notebook"
    HTML = "html"
    ADAPTERS = "adapters"


@command("export")
def export_command(
    identity: Annotated[str, typer.Argument(metavar="ID", help="An ended run; 'runs' lists all runs.")],
    form: Annotated[
        OutputForm,
        typer.Option(
            "--as",
            help="A script, a Jupyter notebook, a page that plays the run, or a folder for the adapters library.",
        ),
    ] = OutputForm.SCRIPT,
    out: Annotated[
        Path | None,
        option(
            "--out",
            "FILE",
            "The file to write (with --as adapters, a folder); without it, the text is printed.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Export a run as a script, a notebook, a page or a folder.

    A script or notebook includes the rows and repeats the run with the plain libraries. A page is one HTML file that
    plays the run in the block drawing without a server. A folder holds bottleneck adapters for model.load_adapter
    of the adapters library.
    """
    from peft_lab import takeaway  # a fifth of the time that any command takes to start

    run = known_run(identity)
    if store.is_adopted(run):
        raise BadInput(f"'{run.id}' was started outside PEFT Lab. Repeat it with its own script.")
    if form is OutputForm.ADAPTERS:
        _library(run, out, as_json)
        return
    makers = {
        OutputForm.SCRIPT: takeaway.script,
        OutputForm.NOTEBOOK: takeaway.notebook,
        OutputForm.HTML: takeaway.living_html,
    }
    content = makers[form](run)
    if out is not None:
        with options.writing(out):
            disk.write_text(out, content)
    document = {"run_id": run.id, "as": form, "path": out, "content": None if out else content}
    output.show(document, as_json, human=lambda: [f"{run.id} as {form}: {out}"] if out else [content])


def _library(run: Run, out: Path | None, as_json: bool) -> None:
    from peft_lab.takeaway import bundle

    if out is None:
        raise BadInput("--as adapters writes a folder. Name it with --out FOLDER.", "out")
    bundle.require_adapters_library(run)
    with options.writing(out):
        options.require_empty(out)
        bundle.write_library_folder(run, out)
    document = {"run_id": run.id, "as": OutputForm.ADAPTERS, "path": out, "content": None}
    line = f"{run.id} for the adapters library: model.load_adapter({str(out)!r})"
    output.show(document, as_json, human=lambda: [line])
