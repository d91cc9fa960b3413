"""What a run was made from, by hash: weights, tokenizer, sentences, the learner's file. Kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from peft_lab import tasks
from peft_lab.assets import soundness
from peft_lab.assets import store as assets
from peft_lab.errors import BadInput
from peft_lab.models import catalogue as models
from peft_lab.models import own
from peft_lab.models.catalogue import ModelEntry
from peft_lab.runs import inference_forgetting
from peft_lab.runs.spec import RunSpec
from peft_lab.tasks.base import Task

#: Of a model's folder that is no asset of ours, the files that decide what is loaded.
_LOADED = ("*.safetensors", "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt")


def hashes(spec: RunSpec, task: Task, entry: ModelEntry) -> dict[str, dict[str, str]]:
    """SHA-256 by file, by where the files come from: an asset, a folder, the learner's file.

    A model of the Hugging Face Hub is named by its commit. Reads every byte, once in a process: for a worker.
    Raises AssetError: what was fetched is damaged.
    """
    found = {**_model(spec.model, entry), **task.inputs()}
    if spec.start is not None:
        found["start"] = {Path(spec.start).name: soundness.digest(Path(spec.start))}
    if spec.compared and entry.kind == "causal-lm":
        found |= tasks.get_task(inference_forgetting.UNRELATED_TASK).inputs()
    return found


def require_same_model(spec: RunSpec, seen: Mapping[str, Mapping[str, str]] | None) -> None:
    """Let a run be opened whose model's folder is as it was. Reads every byte, once in a process: for a worker.

    Args:
        seen: the hashes that the run noted; ``None`` for one that noted none.

    Raises:
        BadInput: a file of the folder has changed since, or is gone.
    """
    noted = (seen or {}).get(spec.model)
    if noted is None or not own.is_folder(spec.model):
        return
    now = _folder(spec.model)
    changed = sorted(file for file, digest in noted.items() if now.get(file) != digest)
    if changed:
        raise BadInput(
            f"'{spec.model}' has changed since this run: {', '.join(changed)}. Its adapter belongs to the weights and "
            "the tokenizer that were there then.",
            "model",
        )


def _model(name: str, entry: ModelEntry) -> dict[str, dict[str, str]]:
    if not models.looks_external(name):
        return {name: assets.verified(name)}
    if not own.is_folder(name):
        return {name: {"commit": str(entry.revision)}}
    return {name: _folder(name)}


def _folder(name: str) -> dict[str, str]:
    files = sorted(file for pattern in _LOADED for file in Path(name).glob(pattern))
    return {file.name: soundness.digest(file) for file in files}
