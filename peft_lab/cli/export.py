"""``export``: a run as a file that repeats it without this package."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from peft_lab import disk
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.subjects import known_run
from peft_lab.errors import BadInput
from peft_lab.runs import adopted
from peft_lab.runs.store import Run


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
    from peft_lab import export  # a fifth of the time that any command takes to start

    run = known_run(identity)
    if adopted.is_adopted(run):
        raise BadInput(
            f"'{run.id}' was started outside the lab: the script that it was started with repeats it."
        )
    if form is Form.ADAPTERS:
        _library(run, out, as_json)
        return
    makers = {Form.SCRIPT: export.script, Form.NOTEBOOK: export.notebook, Form.HTML: export.living_html}
    content = makers[form](run)
    if out is not None:
        try:
            disk.write_text(out, content)
        except OSError as error:
            raise BadInput(f"--out {out} cannot be written: {error.strerror or error}.", "out") from error
    document = {"run_id": run.id, "as": form, "path": out, "content": None if out else content}
    output.show(document, as_json, human=lambda: [f"{run.id} as {form}: {out}"] if out else [content])


def _library(run: Run, out: Path | None, as_json: bool) -> None:
    from peft_lab.export import library_folder

    if out is None:
        raise BadInput("--as adapters makes a folder: name it with --out FOLDER.", "out")
    library_folder.require(run)
    try:
        if out.is_dir() and any(out.iterdir()):
            raise BadInput(f"--out {out} holds other files; name a new or empty folder.", "out")
        library_folder.write(run, out)
    except OSError as error:
        raise BadInput(f"--out {out} cannot be written: {error.strerror or error}.", "out") from error
    document = {"run_id": run.id, "as": Form.ADAPTERS, "path": out, "content": None}
    output.show(
        document,
        as_json,
        human=lambda: [f"{run.id} for the adapters library: model.load_adapter({str(out)!r})"],
    )
