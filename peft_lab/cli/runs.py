"""``runs``: the run store: list, look at one, stop or delete it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab import units
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.run_table import result_lines
from peft_lab.cli.subjects import known_run
from peft_lab.errors import BadInput, RunError
from peft_lab.queue.queue import get_queue
from peft_lab.runs import adopted, record, store
from peft_lab.runs.store import Run
from peft_lab.runs.summary import DAMAGED, RunSummary
from peft_lab.tracking import kept as tracking
from peft_lab.tracking import start, wanted


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
    told = tracking.read(run.folder)
    result = {**record.result(run), "tracking": [output.plain(each) for each in told.values()]}
    sentences = [each.sentence() for each in told.values()]
    output.show(result, as_json, human=lambda: [*result_lines(result), *sentences])


def _send(run: Run, track: str) -> None:
    trackers = wanted.names(track)
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
