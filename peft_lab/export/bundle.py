"""What makes an adapter's folder fit to be given away: its model card, its licences, and a base that has a name."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from peft_lab.errors import BadInput
from peft_lab.export.card import licences, model_card
from peft_lab.export.facts import Facts, RunOutcome, outcome
from peft_lab.methods.shared.own_format import CONFIG_FILE, WEIGHTS_FILE, read_any_config
from peft_lab.models.catalogue import resolve
from peft_lab.runs import kept
from peft_lab.runs.given import START
from peft_lab.runs.store import Run

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip files know: equal runs make equal files
_PATHS = ("base_model_name_or_path", "tokenizer_name_or_path")


def write_papers(run: Run) -> None:
    """Put model card and licences into the folder of a run's adapter, and the public name of the base into its config.

    For the process that trained: it has the model's shape at hand, and torch. Does nothing for a run without adapter.

    Raises what :func:`~peft_lab.export.facts.outcome` raises.
    """
    if _has_adapter(run):
        for name, text in _papers(outcome(run, resolve(run.spec.model))).items():
            scratch = run.adapter / f".{name}"
            scratch.write_text(text, "utf-8")
            scratch.replace(run.adapter / name)


def adapter_zip(facts: Facts) -> bytes:
    """The folder, named after the run, with its papers; a run of an older version gets them here.

    Raises:
        BadInput: the run kept no adapter. RunError: it is damaged.
    """
    folder = facts.run.adapter
    if not _has_adapter(facts.run):
        raise BadInput(f"'{facts.run.id}' saved no adapter, so there is none to take away.", "run")
    kept.adapter(folder.parent)
    texts = _papers(facts)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if name not in texts:
                # Weights are random digits to a compressor.
                _add(archive, f"{facts.run.id}/{name}", path.read_bytes(), zipfile.ZIP_STORED)
        for name, text in texts.items():
            _add(archive, f"{facts.run.id}/{name}", text.encode(), zipfile.ZIP_DEFLATED)
        if facts.spec.start is not None:  # what the run's script starts from
            _add(archive, f"{facts.run.id}/{START}", Path(facts.spec.start).read_bytes(), zipfile.ZIP_STORED)
    return made.getvalue()


def _has_adapter(run: Run) -> bool:
    return all((run.adapter / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))


def _papers(known: RunOutcome) -> Mapping[str, str]:
    """Names and texts of the files that go with the weights."""
    return {
        "README.md": model_card(known),
        "LICENSES.md": f"# Licences\n\n{licences(known)}",
        CONFIG_FILE: _config(known.run.adapter, known.hub_id),
    }


def _config(folder: Path, hub_id: str) -> str:
    """The adapter's config with the base by its public name: a folder of this machine says nothing elsewhere."""
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
