"""The adapter folder of a run as one zip file, fit to be given away."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from peft_lab.errors import BadInput
from peft_lab.export.card import licences, model_card
from peft_lab.export.facts import Facts
from peft_lab.methods._own import CONFIG_FILE, WEIGHTS_FILE
from peft_lab.runs import kept

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip files know: equal runs make equal files
_PATHS = ("base_model_name_or_path", "tokenizer_name_or_path")


def adapter_zip(facts: Facts) -> bytes:
    """The folder, named after the run, with its model card and a note on licences.

    Raises:
        BadInput: the run kept no adapter. RunError: it is damaged.
    """
    folder = facts.run.adapter
    if not (folder / CONFIG_FILE).is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise BadInput(f"'{facts.run.id}' saved no adapter, so there is none to take away.", "run")
    kept.adapter(folder.parent)
    texts = {"README.md": model_card(facts), "LICENSES.md": f"# Licences\n\n{licences(facts)}"}
    texts[CONFIG_FILE] = _config(folder / CONFIG_FILE, facts.hub_id)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if name not in texts:
                # Weights are random digits to a compressor.
                _add(archive, f"{facts.run.id}/{name}", path.read_bytes(), zipfile.ZIP_STORED)
        for name, text in texts.items():
            _add(archive, f"{facts.run.id}/{name}", text.encode(), zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _config(path: Path, hub_id: str) -> str:
    """The adapter's config with the base by its public name: a folder of this machine says nothing elsewhere."""
    config = json.loads(path.read_text("utf-8"))
    for name in _PATHS:
        if config.get(name):
            config[name] = hub_id
    return json.dumps(config, indent=2) + "\n"


def _add(archive: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)
