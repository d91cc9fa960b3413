"""``diagnose``: what went wrong in a fine-tune, from its config, log and adapter folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.core import disk
from peft_lab.core.errors import BadInput
from peft_lab.interview.clinic import reading
from peft_lab.interview.clinic.diagnose import Diagnosis, as_rows, diagnose, in_words


@command("diagnose")
def diagnose_command(
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="adapter_config.json, or training arguments as JSON; repeatable.",
        ),
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="trainer_state.json, lines of JSON, CSV with a 'loss' column, or what the console showed; repeatable.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="DIR", help="The adapter's folder; only safetensors are read."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Rank what may have gone wrong in a fine-tune, with the evidence and the fix."""
    if not (config or log or adapter):
        raise BadInput("There is nothing to diagnose: give --config, --log or --adapter.")
    material = reading.Material()
    for file in config or ():
        material = reading.with_config(material, file.name, disk.take(file, reading.LARGEST_TEXT, "config"))
    for file in log or ():
        material = reading.with_log(material, file.name, disk.take(file, reading.LARGEST_TEXT, "log"))
    if adapter is not None:
        material = reading.with_adapter(material, reading.files_of(adapter))
    found = diagnose(material)
    output.note(found.verdict)
    output.show(as_rows(found.suspicions), as_json, human=lambda: _human(found))


def _human(found: Diagnosis) -> list[Any]:
    if not found.suspicions:
        return [found.verdict]
    parts: list[Any] = [] if found.found else [found.verdict, "Worth ruling out:"]
    parts.append("The figure before each fault adds its evidence up by weights that were set by hand.")
    for each in found.suspicions:
        parts.append(f"{each.probability:.2f}  {each.fault.title} ({each.fault.name})")
        parts.append(f"      {in_words(each.probability)}")
        parts += [f"      seen: {text}" for text in each.evidence]
        parts += [f"      fix:  {each.fault.fix}", f"      see:  {each.fault.reference.title}"]
        parts.append(f"            {each.fault.reference.url}")
    return parts
