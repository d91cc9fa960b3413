"""Read another tool's config file for the commands ``plan`` and ``memory``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.advise.foreign.parsing import FIELD, MOST_NOTEBOOK
from peft_lab.advise.foreign.reading import Reading, read
from peft_lab.cli import output
from peft_lab.core import disk, units
from peft_lab.core.errors import BadInput

_TOOLS = "A config of Axolotl, LLaMA-Factory, TRL, Unsloth, torchtune, DeepSpeed or accelerate."
ConfigFile = Annotated[Path | None, typer.Argument(metavar="[FILE]", help=_TOOLS, show_default=False)]


def read_file(path: Path | None) -> Reading | None:
    """Return a config file as it is read, None without one. Raises BadInput as :func:`read`."""
    return (
        None
        if path is None
        else read(disk.take_text(path, MOST_NOTEBOOK, FIELD, "The config file "), path.name)
    )


def model_of(reading: Reading | None, model: str | None) -> str:
    """Return the model that the option or the file names. Raises BadInput if neither does."""
    named = model or (reading and reading.settings.get("model"))
    if not named:
        where = "--model is missing" if reading is None else f"This {reading.tool} file names no model"
        raise BadInput(f"{where}. Give --model NAME.", "model")
    return str(named)


def tables(reading: Reading | None, written: dict[str, Any] | None) -> list[Any]:
    """Return what was read, what was not, and whether the file's own step fits, as tables and a sentence."""
    if reading is None:
        return []
    columns: dict[str, output.Column] = {
        "key": "key",
        "why it is not read": "why",
        "what it may change": "effect",
    }
    understood = [{"key": key, "value": str(value)} for key, value in reading.understood.items()]
    title = f"{reading.tool}: understood"
    shown = [
        output.table(title, understood, {"key": "key", "read as": "value"}),
        output.table("Ignored", [one._asdict() for one in reading.ignored], columns),
    ]
    if written is None:
        return shown
    said = f"As written, each GPU needs {units.size(written['peak_bytes_per_device'])} of "
    said += f"{units.size(written['device_bytes'])}: it {'fits' if written['fits'] else 'does not fit'}."
    if written["change"]:
        least = units.size(written["change"]["peak_bytes_per_device"])
        keys = ", ".join(f"{key}: {json.dumps(value)}" for key, value in written["change"]["set"].items())
        said += f" The smallest change that fits: {keys} ({least})."
    return [*shown, said]
