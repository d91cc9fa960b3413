"""``open``: a folder that the adapters library saved, counted and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab import units
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.errors import BadInput
from peft_lab.runs import opened
from peft_lab.tasks import own


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
    from peft_lab.counting.count import count

    if own_file is not None and task not in (None, own.NAME):
        raise BadInput(f"--own is the data of the task '{own.NAME}'; leave --task {task} out.", "task")
    scored = task is not None or own_file is not None
    if eval_rows is not None and not scored:
        raise BadInput("--eval-rows are rows of a task: add --task or --own.", "eval_rows")
    read = opened.values(folder, model)
    asked = (str(folder), model, task or own.NAME, None if own_file is None else str(own_file), eval_rows)
    if scored:
        opened.request(folder, *asked[1:]).complete()  # refused here, in one line
    report = count(model, "adapters", read)
    document: dict[str, Any] = {
        "folder": folder, "model": model, "values": read, "count": report.as_dict(), "scores": None
    }  # fmt: skip
    if scored:
        from peft_lab.workers import inspector

        document["scores"] = inspector.get_inspector(inspector.Worker.ANSWERS).ask(opened.scores, *asked)
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
