"""What a run was given from outside, copied into its folder: the learner's file may be gone tomorrow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from peft_lab.classroom import places
from peft_lab.methods.shared import adapters_files as library_files
from peft_lab.runs.spec import RunSpec
from peft_lab.tasks import pictures

START = "start.zip"
Contents = dict[str, tuple[str, bytes]]


def contents(spec: RunSpec) -> Contents:
    """By the setting that names it, what each file is called in a run's folder, and its bytes.

    Raises:
        BadInput: in a class, a file of somebody else. OSError.
    """
    found: Contents = {}
    for given in (spec.own_data, spec.start):
        if given is not None:
            places.require_mine(given)
    if spec.own_data is not None:
        ending, data = pictures.whole(Path(spec.own_data))
        found["own_data"] = (f"data{ending}", data)
    if spec.start is not None:
        found["start"] = (START, library_files.packed(Path(spec.start)))
    return found


def keep(spec: RunSpec, files: Contents, folder: Path) -> RunSpec:
    """Write them into a run's folder, and name them there. Raises OSError."""
    for name, data in files.values():
        (folder / name).write_bytes(data)
    changed: dict[str, Any] = {setting: str(folder / name) for setting, (name, _) in files.items()}
    return replace(spec, **changed)
