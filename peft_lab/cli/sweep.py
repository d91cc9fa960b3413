"""``sweep``: many runs from one file; the same command again goes on where it was ended or killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.cli import compare, options, output, runs
from peft_lab.cli.application import FAILED, command
from peft_lab.cli.compare import Kind
from peft_lab.cli.output import ProgressBars
from peft_lab.cli.train import training_queue
from peft_lab.core import units
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies.carrying import Executor, Local
from peft_lab.studies.store import runs_of
from peft_lab.studies.sweeps import asked, carrying


@command("sweep")
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML or JSON: model, task, methods, grid.")],
    executor: compare.Executor = Kind.LOCAL,
    address: compare.Address = None,
    cpus: compare.Cpus = 1,
    gpus: compare.Gpus = 0.0,
    store_at: compare.Store = None,
    track: runs.Track = None,
    as_json: options.Json = False,
) -> None:
    """Train every setting of a file; finished runs are never repeated, those cut off go on."""
    compare.check(executor, address, cpus, gpus, store_at)
    wanted = asked.read(file)
    on_ray = compare.chosen_executor(executor, address, cpus, gpus, store_at)
    carrier: Executor = on_ray or Local(training_queue())
    hint = "; the same command goes on"
    with compare.stopping(lambda: None, hint) as signals, ProgressBars() as bars:

        def draw(done: int, total: int, going: Sequence[Run]) -> None:
            shares = [run.view().progress for run in going]
            bars.update("Sweep", (done + 0.9 * sum(shares)) / total, f"{done} of {total} runs done")

        try:
            rows = carrying.carry_out(wanted.specs, carrier, draw, lambda: bool(signals), wanted.early)
        finally:
            carrier.close()
    output.show({"rows": rows}, as_json, human=lambda: [_table(rows)])
    runs.tell_of_all([run for run in runs_of(wanted.specs) if run])
    if signals:
        raise typer.Exit(128 + signals[-1])
    lacking = [row for row in rows if row["status"] != Status.DONE and not row["ended_early"]]
    if lacking:
        for row in lacking:
            output.note(f"error: {row['method']}, seed {row['seed']}: {row['message'] or row['status']}")
        raise typer.Exit(FAILED)


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    varied = [
        name
        for name in dict.fromkeys(name for row in rows for name in row["values"])
        if len({str(row["values"].get(name)) for row in rows if name in row["values"]}) > 1
    ]
    columns = {"method": "left", **dict.fromkeys(varied, "right"), "seed": "right"}
    columns |= dict.fromkeys(("loss", "metric", "time", "peak"), "right") | {"state": "left"}
    caption = "loss of the last step, metric, time and peak: measured"
    return output.table("Sweep", columns, [_line(row, varied) for row in rows], caption)


def _line(row: Mapping[str, Any], varied: Sequence[str]) -> tuple[str, ...]:
    after = (row["metric"] or {}).get("after")
    return (
        row["method"],
        *("" if row["values"].get(name) is None else str(row["values"][name]) for name in varied),
        str(row["seed"]),
        f"{row['loss'][-1]:.3f}" if row["loss"] else "",
        "" if after is None else f"{after:.3f}",
        "" if row["seconds"] is None else units.seconds(row["seconds"]),
        "" if row["peak_bytes"] is None else units.size(row["peak_bytes"]),
        f"ended early, rung {row['ended_early']['rung']}" if row["ended_early"] else row["status"],
    )
