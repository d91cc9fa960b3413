"""``runs``: the run store: list, look at one, stop or delete it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import known_run
from peft_lab.core import disk, units
from peft_lab.core.errors import BadInput, RunError
from peft_lab.runs import adopted, record, respond, said, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from peft_lab.runs.view import DAMAGED, RunSummary
from peft_lab.training.tasks import own, pictures
from peft_lab.training.tasks.titles import each_of

# ----------------------------------------
# A run's record as the command line shows it, for whatever command reports one.


def result_lines(result: Mapping[str, Any]) -> list[Any]:
    """A run's record for a person, ended or not."""
    spec, metric, memory, loss = result["spec"], result["metric"], result["memory"] or {}, result["loss"]
    each = "image" if str(spec["own_data"]).endswith(pictures.ZIP) else each_of(spec["task"])
    rows: list[tuple[str, str, str]] = []
    if result["trainable"] is not None:
        rows.append(("trainable parameters", units.count(result["trainable"]), "counted"))
        if result["head"]:
            rows.append(("and of the task's head", units.count(result["head"]), "counted"))
    rows.append(("steps", f"{result['steps']:,} of {spec['steps']:,}", ""))
    if loss:
        rows.append(("loss, first to last step", f"{loss[0]:.3f} to {loss[-1]:.3f}", "measured"))
    for which in ("before", "after"):
        if metric[which] is not None:
            label = f"{metric['name'].replace('_', ' ')} {which}, {metric['rows']:,} held-out {each}s"
            rows.append((label, f"{metric[which]:.3f}", "measured"))
    rows.append(("training time", units.seconds(result["seconds"]), "measured"))
    for key, unit in (("steps_per_second", "steps/s"), ("tokens_per_second", "tokens/s")):
        if result[key] is not None:
            rows.append(("speed", f"{result[key]:,.4g} {unit}", "measured"))
    if "peak_bytes" in memory:
        rows.append(("peak of one step's tensors", units.size(memory["peak_bytes"]), "measured"))
    title = f"{spec['method']} on {spec['model']}, task {spec['task']}: {result['status']}"
    if result.get("simulated_peak_bytes"):
        rows.append(("the same step", units.size(result["simulated_peak_bytes"]), "simulated"))
    figures = output.table(title, {"": "left", "figure": "right", "source": "left"}, rows)
    expected = result.get("expected")
    took = [] if expected is None else [said.beside_forecasts(expected["seconds"], expected["took"])]
    lines = [*took, f"run: {result['run_id']}", f"adapter: {result['adapter_dir'] or 'none saved'}"]
    return [figures, *_answers(result["probes"]), *filter(None, lines)]


def _answers(probes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the models said to the texts of ``--probe``, measured as all that a run found; an answer may be long."""
    return [
        f"Asked: {' '.join(each['text'].split())}\n  base:  {_said(each['before'])}\n  tuned: {_said(each['after'])}"
        for each in probes
    ]


def _said(answer: Mapping[str, Any] | None) -> str:
    """In one line, with its probability where it is one of some labels."""
    if answer is None:
        return "not asked yet"
    words, scores = " ".join(answer["answer"].split()), answer["scores"]
    return f"{words} ({scores[answer['answer']]:.1%})" if scores else words


@command("runs")
def runs(
    identity: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Show this run; without it, list all.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Ask the run to stop after its current step.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the run with its adapter.")] = False,
    adopt: Annotated[
        Path | None,
        typer.Option(
            "--adopt", metavar="FOLDER", help="Show a run that a plan's script tells of there (PEFT_LAB_RUN)."
        ),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            "--track", metavar="NAMES", help="Send this ended run to mlflow, trackio or both (a,b)."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Finished and running runs of this machine, those started in the app included."""
    if adopt is not None:
        if identity is not None or stop or delete or track is not None:
            raise BadInput("--adopt takes a folder and nothing else.", "adopt")
        identity = adopted.adopt(adopt).id
    if identity is None:
        if stop or delete or track is not None:
            raise BadInput("Name the run to stop, delete or track.")
        found = store.summaries()
        output.show(found, as_json, human=lambda: [_list(found)])
        return
    run = known_run(identity)
    if stop:
        known = run.status()
        get_queue().stop(run.id)
        output.note(f"{run.id} has ended: it is {known}" if known.final else f"{run.id} was asked to stop")
    if track is not None:
        _send(run, track)
    if delete:
        summary = store.summary(run)
        store.delete(run.id)
        output.show(
            {**output.plain(summary), "deleted": True}, as_json, human=lambda: [f"{run.id} was deleted."]
        )
        return
    told = start.read_tracking(run.folder)
    result = {**record.result(run), "tracking": [output.plain(each) for each in told.values()]}
    sentences = [each.sentence() for each in told.values()]
    output.show(result, as_json, human=lambda: [*result_lines(result), *sentences])


def _send(run: Run, track: str) -> None:
    trackers = start.tracker_names(track)
    if not trackers:
        raise BadInput("--track names at least one tracker.", "track")
    problems = [told for told in start.send(run, trackers) if told.problem]
    if problems:
        raise RunError(" ".join(told.sentence() for told in problems))


def _list(found: Sequence[RunSummary]) -> Any:
    columns = {"run": "left", "status": "left", "steps": "right", "metric": "left"}
    columns |= dict.fromkeys(("before", "after", "peak", "took"), "right")
    caption = (
        "metrics, peak and time: measured" if found else "No runs yet: 'python -m peft_lab train' makes one."
    )
    return output.table("Runs", columns, [_line(row) for row in found], caption)


def _line(row: RunSummary) -> tuple[str, ...]:
    """The id tells when, method, model and task."""
    if row.status == DAMAGED:
        return (row.id, row.status, "", row.problem, *[""] * 4)
    before, after = ("" if value is None else f"{value:.3f}" for value in (row.before, row.after))
    peak = "" if row.peak_bytes is None else units.size(row.peak_bytes)
    took = "" if row.seconds is None else units.seconds(row.seconds)
    return (row.id, row.status, f"{row.steps:,}", row.metric_title, before, after, peak, took)


# ----------------------------------------
# ``--track``: runs of a command also go to MLflow or trackio, and what became of that.


def _switched_on(text: str | None) -> str | None:
    start.switch_on((text or "").split(","))
    return text


Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="NAMES",
        callback=_switched_on,
        help="Also tell mlflow, trackio or both (a,b) of each run; PEFT_LAB_TRACK does so everywhere.",
    ),
]


def tell_tracked(run: Run) -> None:
    """Wait until the trackers have all of an ended run, and say where it stands, or why it does not."""
    for told in start.wait(run, start.trackers_of(run)):
        output.note(told.sentence())


def tell_of_all(runs: Sequence[Run]) -> None:
    """The same of the runs of a comparison or a sweep, one sentence a tracker."""
    for one in start.trackers_waited_for(runs, start.PATIENCE if start.tracker_names() else 0.0):
        output.note(one.sentence())


# ----------------------------------------
# ``open``: a folder that the adapters library saved, counted and scored.


@command("open")
def open_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A folder that the adapters library saved, or a zip of one."),
    ],
    model: options.Model,
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="Score it on this task's held-out rows.")
    ] = None,
    own_file: Annotated[
        Path | None,
        typer.Option("--own", metavar="FILE", help="Score it on the held-out rows of your own file."),
    ] = None,
    eval_rows: Annotated[int | None, typer.Option("--eval-rows", help="Held-out rows to score on.")] = None,
    as_json: options.Json = False,
) -> None:
    """Open an adapter of the adapters library: its settings, its count, and its score beside the base's."""
    from peft_lab.methods.counting.count import count

    if own_file is not None and task not in (None, own.NAME):
        raise BadInput(f"--own is the data of the task '{own.NAME}'; leave --task {task} out.", "task")
    scored = task is not None or own_file is not None
    if eval_rows is not None and not scored:
        raise BadInput("--eval-rows are rows of a task: add --task or --own.", "eval_rows")
    read = respond.opened_values(folder, model)
    asked = (str(folder), model, task or own.NAME, None if own_file is None else str(own_file), eval_rows)
    if scored:
        respond.opened_request(folder, *asked[1:]).complete()  # refused here, in one line
    report = count(model, "adapters", read)
    document: dict[str, Any] = {
        "folder": folder, "model": model, "values": read, "count": report.as_dict(), "scores": None
    }  # fmt: skip
    if scored:
        from peft_lab.workers import inspector

        document["scores"] = inspector.get_inspector(inspector.Worker.ANSWERS).ask(
            respond.opened_scores, *asked
        )
    output.show(document, as_json, human=lambda: _human(document))


def _human(document: dict[str, Any]) -> list[Any]:
    report, read, found = document["count"], document["values"], document["scores"]
    lines: list[Any] = [
        f"{document['folder']}: the adapters library's {read['placement']}, width {read['bottleneck']}, "
        f"{read['nonlinearity']}",
        f"{units.count(report['trainable'])} parameters (counted) on {document['model']}, "
        f"{units.size(report['stored_bytes'])} as safetensors",
    ]
    if found is not None:
        rows = [
            (which, *(f"{value:.4f}" for value in (*found[which]["metrics"].values(), found[which]["loss"])))
            for which in ("base", "opened")
        ]
        heads = {"": "left"} | dict.fromkeys([*found["base"]["metrics"], "loss"], "right")
        lines.append(output.table(f"On {found['rows']:,} held-out rows (measured)", heads, rows))
    return lines


# ----------------------------------------
# ``export``: a run as a file that repeats it without this package.


class Form(StrEnum):
    """What a run can be exported as."""

    SCRIPT = "script"
    NOTEBOOK = "notebook"
    HTML = "html"
    ADAPTERS = "adapters"


@command("export")
def export_command(
    identity: Annotated[str, typer.Argument(metavar="ID", help="A run that has ended; 'runs' lists them.")],
    form: Annotated[
        Form,
        typer.Option(
            "--as",
            help="A Python file, a Jupyter notebook, a page that plays the run, or a folder of the adapters library.",
        ),
    ] = Form.SCRIPT,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write it here (for adapters: a folder); without, it is printed."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """A script or notebook that repeats a run with the plain libraries, its rows included; or the
    block drawing with the run's steps inside, as one HTML file that opens without a server; or its
    bottleneck adapters as a folder for model.load_adapter of the adapters library."""
    from peft_lab import takeaway  # a fifth of the time that any command takes to start

    run = known_run(identity)
    if adopted.is_adopted(run):
        raise BadInput(
            f"'{run.id}' was started outside the lab: the script that it was started with repeats it."
        )
    if form is Form.ADAPTERS:
        _library(run, out, as_json)
        return
    makers = {Form.SCRIPT: takeaway.script, Form.NOTEBOOK: takeaway.notebook, Form.HTML: takeaway.living_html}
    content = makers[form](run)
    if out is not None:
        try:
            disk.write_text(out, content)
        except OSError as error:
            raise BadInput(f"--out {out} cannot be written: {error.strerror or error}.", "out") from error
    document = {"run_id": run.id, "as": form, "path": out, "content": None if out else content}
    output.show(document, as_json, human=lambda: [f"{run.id} as {form}: {out}"] if out else [content])


def _library(run: Run, out: Path | None, as_json: bool) -> None:
    from peft_lab.takeaway import bundle

    if out is None:
        raise BadInput("--as adapters makes a folder: name it with --out FOLDER.", "out")
    bundle.require_adapters_library(run)
    try:
        if out.is_dir() and any(out.iterdir()):
            raise BadInput(f"--out {out} holds other files; name a new or empty folder.", "out")
        bundle.write_library_folder(run, out)
    except OSError as error:
        raise BadInput(f"--out {out} cannot be written: {error.strerror or error}.", "out") from error
    document = {"run_id": run.id, "as": Form.ADAPTERS, "path": out, "content": None}
    output.show(
        document,
        as_json,
        human=lambda: [f"{run.id} for the adapters library: model.load_adapter({str(out)!r})"],
    )
