"""Read another tool's config file for the commands ``plan`` and ``memory``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.advise.foreign.parsing import FIELD, MOST_NOTEBOOK
from peft_lab.advise.foreign.reading import Reading, read
from peft_lab.cli import output
from peft_lab.core import disk, units
from peft_lab.core.errors import BadInput

ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        help="A config of Axolotl, LLaMA-Factory, TRL, Unsloth, torchtune, DeepSpeed or accelerate.",
        show_default=False,
    ),
]


def read_file(path: Path | None) -> Reading | None:
    """Return a config file as it is read, None without one. Raises BadInput as :func:`read`."""
    if path is None:
        return None
    return read(disk.take_text(path, MOST_NOTEBOOK, FIELD, "The config file "), path.name)


def model_of(reading: Reading | None, model: str | None) -> str:
    """Return the model that the option or the file names. Raises BadInput if neither does."""
    named = model or (reading and reading.settings.get("model"))
    if not named:
        where = "--model is missing" if reading is None else f"This {reading.tool} file names no model"
        raise BadInput(f"{where}. Give --model NAME.", "model")
    return str(named)


def tables(reading: Reading, written: dict[str, Any] | None) -> list[Any]:
    """Return what was read, what was not, and the file's own step, as tables."""
    understood = [{"key": key, "value": str(value)} for key, value in reading.understood.items()]
    left = [vars(one) for one in reading.ignored]
    shown = [
        output.table(f"{reading.tool}: understood", understood, {"key": "key", "read as": "value"}),
        output.table("Not read", left, {"key": "key", "why": "why", "what it may change": "effect"}),
    ]
    return shown + ([fits(written)] if written else [])


def fits(written: dict[str, Any]) -> str:
    """Return whether the file's own step fits, and the smallest change after which it does, as a sentence."""
    said = f"As written, each GPU needs {units.size(written['peak_bytes_per_device'])} of "
    said += units.size(written["device_bytes"])
    if written["fits"]:
        return f"{said}: it fits."
    if written["change"] is None:
        return f"{said}: it does not fit, and no change that we know makes it fit."
    changes = ", ".join(f"{key}: {str(value).lower()}" for key, value in written["change"]["set"].items())
    least = units.size(written["change"]["peak_bytes_per_device"])
    return f"{said}: it does not fit. The smallest change that fits: {changes} ({least})."
