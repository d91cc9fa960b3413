"""Prepare an adapter's folder for sharing: its model card, its licences, and the public name of its base."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from peft_lab.core import disk
from peft_lab.core.asking import in_person
from peft_lab.core.errors import BadInput
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.methods.shared.peft_backed import CONFIG_FILE, WEIGHTS_FILE, read_any_config
from peft_lab.models.catalogue import resolve
from peft_lab.runs import kept, store
from peft_lab.runs.kept import START
from peft_lab.runs.store import Run
from peft_lab.takeaway.card import licences, model_card
from peft_lab.takeaway.facts import Facts, RunOutcome, outcome

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip file: equal runs make equal files
_PATHS = ("base_model_name_or_path", "tokenizer_name_or_path")


def write_papers(run: Run) -> None:
    """Write model card and licences into a run's adapter folder, and the base's public name into its config.

    Called by the process that trained, which has the model's shape and torch. Skips a run without adapter.
    Raises what :func:`~peft_lab.takeaway.facts.outcome` raises.
    """
    if _has_adapter(run):
        for name, text in _papers(outcome(run, resolve(run.spec.model))).items():
            with disk.replacing(run.adapter / name) as scratch:
                scratch.write_text(text, "utf-8")


def adapter_zip(facts: Facts) -> bytes:
    """Return the folder as a zip file, named after the run, with its papers, also for a run of an older version.

    Raises:
        BadInput: the run saved no adapter. RunError: the adapter is damaged.
    """
    folder = facts.run.adapter
    if not _has_adapter(facts.run):
        raise BadInput(f"'{facts.run.id}' saved no adapter, so there is none to take away.", "run")
    kept.kept_adapter(folder.parent)
    texts = _papers(facts)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if name not in texts:
                # Weights do not compress.
                _add(archive, f"{facts.run.id}/{name}", path.read_bytes(), zipfile.ZIP_STORED)
        for name, text in texts.items():
            _add(archive, f"{facts.run.id}/{name}", text.encode(), zipfile.ZIP_DEFLATED)
        if facts.spec.start is not None:  # from which the run's script starts
            _add(archive, f"{facts.run.id}/{START}", Path(facts.spec.start).read_bytes(), zipfile.ZIP_STORED)
    return made.getvalue()


def _has_adapter(run: Run) -> bool:
    return all((run.adapter / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))


def _papers(known: RunOutcome) -> Mapping[str, str]:
    """Return the names and texts of the files that go with the weights."""
    return {
        "README.md": model_card(known),
        "LICENSES.md": f"# Licences\n\n{licences(known)}",
        CONFIG_FILE: _config(known.run.adapter, known.hub_id),
    }


def _config(folder: Path, hub_id: str) -> str:
    """Return the adapter's config with the base's public name: a local folder means nothing elsewhere."""
    config = read_any_config(folder)
    for name in _PATHS:
        if config.get(name):
            config[name] = hub_id
    return json.dumps(config, indent=2) + "\n"


def _add(archive: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


# ----------------------------------------
# A run's adapter as a folder that the adapters library loads: ``model.load_adapter(folder)``.


FILE = "adapters-library.zip"


def require_adapters_library(run: Run) -> RunOutcome:
    """Return the facts of a run whose adapter the library supports; reads no tensors.

    Raises:
        BadInput: it has no adapter, or one of a method or at a place that the library does not support.
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
    library_files.content_of(known.entry.shape, known.values, known.spec.task, "", "")
    kept.kept_adapter(run.folder)
    return known


def write_library_folder(run: Run, folder: Path) -> None:
    """Write the folder. Raises what :func:`require_adapters_library` raises, and OSError."""
    known = require_adapters_library(run)
    labels = known.task.labels if known.classifies else ()
    shape, name = known.entry.shape, known.spec.task
    library_files.write_files(folder, run.adapter, shape, known.values, name, known.hub_id, tuple(labels))


@in_person
def zipped_library_folder(identity: str) -> str:
    """Make the folder as a zip file in the run's folder, once; return its path. For a worker: it needs torch.

    Raises what :func:`write_library_folder` raises.
    """
    run = store.get(identity)
    path = run.folder / FILE
    if not path.is_file():
        with tempfile.TemporaryDirectory(dir=run.folder, prefix=".library-") as scratch:
            write_library_folder(run, Path(scratch) / identity)
            made = Path(scratch) / FILE
            with zipfile.ZipFile(made, "w") as archive:
                for file in sorted((Path(scratch) / identity).iterdir()):
                    archive.write(file, f"{identity}/{file.name}")
            made.replace(path)
    return str(path)


def library_zip(run: Run) -> bytes:
    """Return the folder as a zip file, made in a worker. Raises what :func:`write_library_folder` raises."""
    from peft_lab.workers import inspector

    require_adapters_library(run)
    path = Path(inspector.get_inspector(inspector.Worker.ANSWERS).ask(zipped_library_folder, run.id))
    return path.read_bytes()
