"""A run's adapter as a folder that the adapters library loads: ``model.load_adapter(folder)``."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from peft_lab.classroom.asking import in_person
from peft_lab.errors import BadInput
from peft_lab.export.facts import RunOutcome, outcome
from peft_lab.methods.shared import adapters_files as library_files
from peft_lab.methods.shared import adapters_library as library
from peft_lab.methods.shared.own_format import CONFIG_FILE, WEIGHTS_FILE
from peft_lab.runs import kept, store
from peft_lab.runs.store import Run

FILE = "adapters-library.zip"


def require(run: Run) -> RunOutcome:
    """What is known of a run whose adapter the library can have; reads no tensors.

    Raises:
        BadInput: it has no adapter, one of another method, or one at a place that the library has not got.
    """
    known = outcome(run)
    if known.method.slug != "adapters":
        raise BadInput(
            f"'{run.id}' trained {known.method.title}: a folder of the adapters library is made of bottleneck adapters "
            "alone.",
            "run",
        )
    if not all((run.adapter / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        raise BadInput(f"'{run.id}' saved no adapter, so there is none to take away.", "run")
    library.content_of(known.entry.shape, known.values, known.spec.task, "", "")
    kept.adapter(run.folder)
    return known


def write(run: Run, folder: Path) -> None:
    """Write the folder. Raises what :func:`require` raises, and OSError."""
    known = require(run)
    labels = known.task.labels if known.classifies else ()
    shape, name = known.entry.shape, known.spec.task
    library_files.write(folder, run.adapter, shape, known.values, name, known.hub_id, tuple(labels))


@in_person
def zipped(identity: str) -> str:
    """Make the folder as a zip beside the run's own adapter, once; its path. For a worker: it needs torch.

    Raises what :func:`write` raises.
    """
    run = store.get(identity)
    path = run.folder / FILE
    if not path.is_file():
        with tempfile.TemporaryDirectory(dir=run.folder, prefix=".library-") as scratch:
            write(run, Path(scratch) / identity)
            made = Path(scratch) / FILE
            with zipfile.ZipFile(made, "w") as archive:
                for file in sorted((Path(scratch) / identity).iterdir()):
                    archive.write(file, f"{identity}/{file.name}")
            made.replace(path)
    return str(path)


def library_zip(run: Run) -> bytes:
    """The folder as a zip file, made in a worker. Raises what :func:`write` raises."""
    from peft_lab.workers import inspector

    require(run)
    path = Path(inspector.get_inspector(inspector.Worker.ANSWERS).ask(zipped, run.id))
    return path.read_bytes()
