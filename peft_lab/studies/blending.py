"""Blend two LoRA adapters of one base by PEFT's ``add_weighted_adapter``; compare singular vectors of W + ΔW with W's.

The combination type is ``cat``: the A are stacked and the B put side by side, so that the new correction is exactly
w1·ΔW1 + w2·ΔW2.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.core.asking import in_person
from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.models.catalogue import fitting_shapes
from peft_lab.models.loading import no_pickles
from peft_lab.runs import store
from peft_lab.runs.kept import kept_adapter
from peft_lab.runs.spec import PROBE_CHARACTERS, RunSpec

if TYPE_CHECKING:
    import torch

    from peft_lab.training.evaluation import Examiner

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the second adapter; the first has one minus this
ROWS = 24  # held-out rows of each task


def problem(first: RunSpec, second: RunSpec) -> str:
    """Return why two runs cannot be blended; empty if they can."""
    if first.model != second.model:
        return (
            f"The runs have different base models, {first.model} and {second.model}. Choose two runs on one base "
            "model."
        )
    for spec in (first, second):
        if spec.method != "lora":
            return f"Only LoRA adapters can be blended, and one run is {spec.method}. Choose two LoRA runs."
        if spec.values.get("use_dora"):
            return "DoRA rescales whole rows of W, so its adapters cannot be added. Choose runs without DoRA."
        if spec.values.get("init_lora_weights") == "pissa":
            return (
                "PiSSA changes the base model, so its adapter fits no other run's. Choose runs without PiSSA."
            )
        if spec.values.get("bias", "none") != "none":
            return "One run also trained biases, which PEFT cannot combine. Choose runs without them."
    one, two = first.task_object(), second.task_object()
    if (one.kind, one.labels) != (two.kind, two.labels):
        return (
            f"'{one.name}' and '{two.name}' have different labels, so their heads cannot be combined. Choose two "
            "runs with the same labels."
        )
    return ""


def ask(first: str, second: str, text: str) -> list[dict[str, Any]]:
    """Run :func:`blend` in the inspector process.

    Raises:
        BadInput: the text is empty or too long, or the runs cannot be blended. RunError: there is no such run.
    """
    from peft_lab.workers import inspector

    if not text.strip() or len(text) > PROBE_CHARACTERS:
        raise BadInput(f"The text has {len(text):,} characters. Enter 1 to {PROBE_CHARACTERS:,}.", "text")
    return inspector.get_inspector(inspector.Worker.ANSWERS).ask(blend, first, second, text)


@in_person
def blend(first: str, second: str, text: str) -> list[dict[str, Any]]:
    """Evaluate and query the base with both adapters, at each weight.

    Returns:
        rows of ``weight`` (of the second adapter), ``losses`` (held-out, on the first run's task and the second's),
        ``answer`` and ``scores`` for the text.

    Raises:
        BadInput: why the runs cannot be blended. RunError: there is no such run, or it has no adapter.
    """
    runs = [store.get(identity) for identity in (first, second)]
    reason = problem(runs[0].spec, runs[1].spec)
    if reason:
        raise BadInput(reason, "run")
    examiner, model, heads = _loaded(runs)
    tests = [_rows(run.spec, examiner) for run in runs]
    found = []
    for weight in WEIGHTS:
        _set(model, heads, weight)
        answer = examiner.answer(model, [text])[0]
        losses = [_loss(model, examiner, batch) for batch in tests]
        found.append({"weight": weight, "losses": losses, **asdict(answer)})
    return found


def _loaded(runs: Sequence[store.Run]) -> tuple[Examiner, Any, list[Any]]:
    """Return an examiner, the base with both adapters in float32, and each head's wrapper with both its weights."""
    from peft import PeftModel

    from peft_lab.runs.course import fresh_base
    from peft_lab.training.evaluation import Examiner

    spec, task = runs[0].spec, runs[0].spec.task_object()
    base = fresh_base(spec, task)
    first, second = (str(kept_adapter(run.folder)) for run in runs)
    with no_pickles(), fitting_shapes():
        model: Any = PeftModel.from_pretrained(base.model.float(), first, adapter_name="first")
        model.load_adapter(second, adapter_name="second")
    heads = []
    for wrapper in _wrappers(model):
        saved = wrapper.modules_to_save
        heads.append((wrapper, {name: _copied(saved[name]) for name in ("first", "second")}))
        # PEFT refuses to combine adapters that each bring a module of their own, so the heads are mixed here.
        del saved["second"]
    examiner = Examiner(task, base.tokenizer, spec.max_length, base.device)
    return examiner, model.eval(), heads


def _wrappers(model: Any) -> list[Any]:
    from peft.utils import ModulesToSaveWrapper

    return [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]


def _copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _set(model: Any, heads: Sequence[Any], weight: float) -> None:
    """Activate the adapter ``mix``, with this weight of the second. Mixing linear heads mixes their logits."""
    if "mix" in model.peft_config:
        model.set_adapter("first")
        model.delete_adapter("mix")
    model.add_weighted_adapter(["first", "second"], [1 - weight, weight], "mix", combination_type="cat")
    model.set_adapter("mix")
    for wrapper, kept in heads:
        mixed = {
            name: (1 - weight) * kept["first"][name] + weight * kept["second"][name] for name in kept["first"]
        }
        wrapper.modules_to_save["mix"].load_state_dict(mixed)
    model.eval()


def _rows(spec: RunSpec, examiner: Examiner) -> dict[str, torch.Tensor]:
    from peft_lab.training import batches

    task = spec.task_object()
    rows = list(task.load().test[:ROWS])
    encoded = batches.encode(task, rows, examiner.tokenizer, spec.max_length)
    return batches.collate(encoded, examiner.pad, examiner.device)


def _loss(model: Any, examiner: Examiner, batch: dict[str, torch.Tensor]) -> float:
    import torch

    from peft_lab.training import batches

    with torch.no_grad():
        return float(batches.loss_of(model, batch))


# The tuned matrix is the merged one, so it includes DoRA's rescaled rows and PiSSA's changed base.


def ask_intruders(identity: str) -> Future[list[dict[str, Any]]]:
    """Submit :func:`compare_intruders` to the inspector process and return its future."""
    from peft_lab.workers import inspector

    return inspector.get_inspector(inspector.Worker.ANSWERS).submit(compare_intruders, identity)


@in_person
def compare_intruders(identity: str) -> list[dict[str, Any]]:
    """Compare every adapted matrix of a run before and after training.

    Returns:
        one row per matrix: ``module``, ``shape`` (d_out, d_in), and the fields of
        :class:`peft_lab.methods.recording.recorder.Intruders` with ``found``, the indices of its intruders.

    Raises:
        RunError: there is no such run, or it has no adapter.
    """
    import torch

    from peft_lab.methods.lora.recording import layers
    from peft_lab.methods.recording.recorder import compare_singular_vectors as compare
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

    from peft_lab.models.meta import clean_path

    with safe_open(str(folder / "adapter_model.safetensors"), framework="pt") as file:
        return {clean_path(key.partition(".lora_A")[0]) for key in file.keys() if ".lora_A" in key}  # noqa: SIM118
