"""Runs carried out outside the lab, such as by a plan's script under torchrun, listed with the lab's own.

Such a run is a link in the run store to the folder where the script writes its events
(:mod:`peft_lab.takeaway.ranks`). The lab follows it there; deleting the run removes only the link.
"""

from __future__ import annotations

from pathlib import Path

from peft_lab.core import disk as storage
from peft_lab.core.errors import BadInput, PeftLabError, RunError
from peft_lab.methods import all_methods
from peft_lab.runs import store
from peft_lab.runs.store import Run


def adopt(folder: Path) -> Run:
    """Add a folder with a run, ended or not, to the run store.

    Raises:
        BadInput: it holds no run, or one that is in the store already. RunError: the link cannot be made.
    """
    folder = storage.folder(folder, "adopt")
    told = Run(folder.name, folder)
    if not (folder / "spec.json").is_file() or not (folder / "events.jsonl").is_file():
        raise BadInput(
            f"{folder} holds no run: a plan's script writes one there with PEFT_LAB_RUN={folder}.", "adopt"
        )
    try:
        spec = told.spec
        told.view()
    except PeftLabError as error:
        raise BadInput(f"{folder} holds no run that can be read: {error}", "adopt") from error
    if spec.method not in all_methods():
        raise BadInput(f"{folder} is a run of '{spec.method}', which is no method of this lab.", "adopt")
    known = next((run for run in store.runs() if run.folder.resolve() == folder), None)
    if known is not None:
        raise BadInput(f"{folder} is the run {known.id} already.", "adopt")
    identity = store.new_name(spec.method, spec.model)
    try:
        store.root().mkdir(parents=True, exist_ok=True)
        (store.root() / identity).symlink_to(folder, target_is_directory=True)
    except OSError as error:
        raise RunError(
            storage.explained(error, store.root())
            or f"The run cannot be taken into {store.root()} ({error.strerror or error})."
        ) from error
    return store.get(identity)


def is_adopted(run: Run) -> bool:
    """Return whether the run's folder here is only a link to a folder elsewhere."""
    return run.folder.is_symlink()
