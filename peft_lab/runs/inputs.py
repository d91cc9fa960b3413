"""What a run was made from, by hash: weights, tokenizer, sentences, the learner's file. Kept with the run."""

from __future__ import annotations

from pathlib import Path

from peft_lab import tasks
from peft_lab.assets import soundness
from peft_lab.assets import store as assets
from peft_lab.models import catalogue as models
from peft_lab.models.catalogue import ModelEntry
from peft_lab.runs import inference_forgetting
from peft_lab.runs.spec import RunSpec
from peft_lab.tasks.base import Task

#: Of a model's folder that is no asset of ours, the files that decide what is loaded.
_LOADED = ("*.safetensors", "*.json")


def hashes(spec: RunSpec, task: Task, entry: ModelEntry) -> dict[str, dict[str, str]]:
    """SHA-256 by file, by where the files come from: an asset, a folder, the learner's file.

    A model of the Hugging Face Hub is named by its commit. Reads every byte, once in a process: for a worker.
    Raises AssetError: what was fetched is damaged.
    """
    found = {**_model(spec.model, entry), **task.inputs()}
    if spec.compared and entry.kind == "causal-lm":
        found |= tasks.get_task(inference_forgetting.UNRELATED_TASK).inputs()
    return found


def _model(name: str, entry: ModelEntry) -> dict[str, dict[str, str]]:
    if not models.looks_external(name):
        return {name: assets.verified(name)}
    if not models.is_folder(name):
        return {name: {"commit": str(entry.revision)}}
    files = sorted(file for pattern in _LOADED for file in Path(name).glob(pattern))
    return {name: {file.name: soundness.digest(file) for file in files}}
