"""Compare the singular vectors of W + ΔW with W's, for every adapted matrix of a finished run's saved adapter.

The tuned matrix is the merged one, so it includes DoRA's rescaled rows and PiSSA's changed base.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peft_lab.core.asking import in_person
from peft_lab.methods import get_method
from peft_lab.runs import store
from peft_lab.runs.kept import kept_adapter


def ask(identity: str) -> Future[list[dict[str, Any]]]:
    """Submit :func:`look` to the inspector process and return its future."""
    from peft_lab.workers import inspector

    return inspector.get_inspector(inspector.Worker.ANSWERS).submit(look, identity)


@in_person
def look(identity: str) -> list[dict[str, Any]]:
    """Compare every adapted matrix of a run before and after training.

    Returns:
        one row a matrix: ``module``, ``shape`` (d_out, d_in), and the fields of
        :class:`peft_lab.methods.recording.intruders.Intruders` with ``found``, the indices of its intruders.

    Raises:
        RunError: there is no such run, or it has no adapter.
    """
    import torch

    from peft_lab.methods.lora.recording import layers
    from peft_lab.methods.recording.intruders import compare
    from peft_lab.runs.course import fresh_base

    run = store.get(identity)
    folder = kept_adapter(run.folder)
    base: Any = fresh_base(run.spec, run.spec.task_object()).model.float()
    names = _adapted(folder)
    before = {name: module.weight.detach().clone() for name, module in base.named_modules() if name in names}
    model: Any = get_method(run.spec.method).load(base, folder)
    rows = []
    with torch.no_grad():
        for path, module in layers(model):
            module.merge()
            weight, tuned = before[path], module.get_base_layer().weight.float()
            if module.fan_in_fan_out:  # GPT-2's matrices are stored transposed
                weight, tuned = weight.T, tuned.T
            seen = compare(weight, tuned - weight)
            rows.append({"module": path, "shape": list(weight.shape), **asdict(seen), "found": seen.found})
    return rows


def _adapted(folder: Path) -> set[str]:
    """Return the paths, in the bare model, of the matrices for which an adapter's file holds factors."""
    from safetensors import safe_open

    from peft_lab.models.module_tree import clean_path

    with safe_open(str(folder / "adapter_model.safetensors"), framework="pt") as file:
        return {clean_path(key.partition(".lora_A")[0]) for key in file.keys() if ".lora_A" in key}  # noqa: SIM118
