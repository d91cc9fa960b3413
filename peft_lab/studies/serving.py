"""Serve three domains from one base: accuracy of each adapter, and mixed batches.

The same for this package's bottleneck adapters (one name for each row) and for LoRA (PEFT's ``adapter_names``).
:func:`measure_serving` needs torch and runs in the inspector process ``answers``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from peft_lab.classroom import places
from peft_lab.core import disk
from peft_lab.core.asking import in_person
from peft_lab.core.later import torch
from peft_lab.methods import get_method
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.models.catalogue import fitting_shapes
from peft_lab.models.loading import no_pickles
from peft_lab.runs import store
from peft_lab.runs.kept import kept_adapter
from peft_lab.runs.spec import RunRequest, RunSpec

if TYPE_CHECKING:
    from peft_lab.models.loading import Base
    from peft_lab.training.tasks.base import Row

Runs = Mapping[str, Mapping[str, str]]  # run ids by method and domain

DOMAINS = {"movies": "sentiment", "products": "products", "tweets": "tweets"}
METHODS = ("adapters", "lora")
MODEL = "minilm-l6"
STEPS = 60
SCORED = 300  # held-out rows of each domain


def specs(method: str) -> dict[str, RunSpec]:
    """Return the three runs of a method, by domain. Raises what :meth:`RunRequest.complete` raises."""
    return {
        domain: RunRequest(MODEL, method, task, steps=STEPS, eval_rows=SCORED).complete()
        for domain, task in DOMAINS.items()
    }


def keep(runs: Runs, found: Mapping[str, Any]) -> None:
    """Store the measurements of these runs for the next visit."""
    disk.write_json(_file(), {"runs": runs, "found": found})


def kept(runs: Runs) -> dict[str, Any] | None:
    """Return the stored measurements of exactly these runs; ``None`` if there are none."""
    content = disk.read_json(_file(), {})
    return content.get("found") if content.get("runs") == runs else None


def forget() -> None:
    """Delete the stored measurements."""
    _file().unlink(missing_ok=True)


def _file() -> Path:
    return places.mine() / "serving.json"


# ----------------------------------------
# One base with an adapter for each domain: one interface for bottleneck adapters and LoRA.


Batch = dict[str, "torch.Tensor"]


class Served:
    """One base with this package's bottleneck adapters, one for each domain; each row of a batch may name another. A
    batch has the model's inputs by name, each of shape (rows, tokens)."""

    _method = cast(Adapters, get_method("adapters"))

    def __init__(self, runs: Mapping[str, str]) -> None:
        from peft_lab.runs.course import fresh_base
        from peft_lab.training.step import cast_added

        self.runs = {name: store.get(identity) for name, identity in runs.items()}
        spec = next(iter(self.runs.values())).spec
        self.base: Base = fresh_base(spec, spec.task_object())
        self.model: Any = self.attach(self.base.model)
        cast_added(self.model, self.base.dtype)
        self.model.eval()

    def attach(self, base: torch.nn.Module) -> torch.nn.Module:
        """Load every run's adapter into the base under the name of its domain; return the model."""
        for name, run in self.runs.items():
            self._method.load(base, kept_adapter(run.folder), name)
        return base

    def use(self, name: str) -> None:
        """Make this adapter answer all rows of the batches that follow."""
        self._method.set_active(self.model, name)

    def bare(self, batch: Batch) -> torch.Tensor:
        """Return the logits of the base without any adapter, of shape (rows, classes)."""
        self._method.set_active(self.model, None)
        return self.answer(batch)

    def mixed(self, batch: Batch, names: Sequence[str]) -> torch.Tensor:
        """Return the logits, (rows, classes), with each row through the adapter that ``names`` has for it."""
        self._method.set_active(self.model, list(names))
        return self.answer(batch)

    def answer(self, batch: Batch, **more: Any) -> torch.Tensor:
        """Return the logits of a batch, of shape (rows, classes), with the adapter that is active now."""
        logits: torch.Tensor = self.model(**batch, **more).logits
        return logits

    @property
    def stored_bytes(self) -> int:
        """Return the size of all adapters on disk, in bytes."""
        return sum((run.adapter / "adapter_model.safetensors").stat().st_size for run in self.runs.values())


class ServedLora(Served):
    """The same with LoRA adapters, through PEFT."""

    def attach(self, base: torch.nn.Module) -> torch.nn.Module:
        from peft import PeftModel

        (first, folder), *others = ((name, str(kept_adapter(run.folder))) for name, run in self.runs.items())
        with no_pickles(), fitting_shapes():
            model: Any = PeftModel.from_pretrained(base, folder, adapter_name=first)
            for name, other in others:
                model.load_adapter(other, adapter_name=name)
        return model

    def use(self, name: str) -> None:
        self.model.set_adapter(name, inference_mode=True)

    def bare(self, batch: Batch) -> torch.Tensor:
        with self.model.disable_adapter():
            return self.answer(batch)

    def mixed(self, batch: Batch, names: Sequence[str]) -> torch.Tensor:
        return self.answer(batch, adapter_names=list(names))


# ----------------------------------------
# What serving three domains from one base gives, measured on finished runs.


REQUESTS = 8  # of each domain in the mixed batch
SHOWN = 2  # of each domain, shown as examples
AT_ONCE = 64  # rows in a forward pass when scoring


@in_person
def measure_serving(runs: Runs) -> dict[str, Any]:
    """Measure accuracy and size on the finished runs, and store the result. Raises RunError if a run is gone.

    Returns:
        ``methods``: each method's ``accuracy`` by adapter and domain, ``mixed_difference`` (largest difference of a
        logit from that of the batch through its row's adapter alone), ``max_logit`` and ``stored_bytes``.
        ``examples``: the first rows of the mixed batch.
    """
    with torch.no_grad():
        ours, theirs = Served(runs["adapters"]), ServedLora(runs["lora"])
        rows = _rows(ours.base)
        asked = [domain for _ in range(REQUESTS) for domain in rows]
        mixed = [rows[domain][turn] for turn in range(REQUESTS) for domain in rows]
        batch, _ = _collate(ours.base, [tokens for _, tokens in mixed])
        served: dict[str, Served] = {"adapters": ours, "lora": theirs}
        methods = {name: _answered(each, rows, batch, asked) for name, each in served.items()}
        examples = _examples(ours, [row for row, _ in mixed], batch, asked)[: SHOWN * len(rows)]
    found = {
        "methods": methods,
        "examples": examples,
        "requests": len(asked),
        "scored": {name: len(pairs) for name, pairs in rows.items()},
        "base_bytes": ours.base.entry.shape.total * 4,
        "dtype": str(ours.base.dtype).removeprefix("torch."),
    }
    keep(runs, found)
    return found


def _answered(served: Served, rows: Mapping[str, Any], batch: Batch, asked: Sequence[str]) -> dict[str, Any]:
    together = served.mixed(batch, asked)
    alone = torch.empty_like(together)
    for name in served.runs:
        served.use(name)
        mine = [row for row, wanted in enumerate(asked) if wanted == name]
        alone[mine] = served.answer(batch)[mine]
    return {
        "accuracy": {
            name: {domain: _accuracy(served, name, pairs) for domain, pairs in rows.items()}
            for name in served.runs
        },
        "mixed_difference": float((together - alone).abs().max()),
        "max_logit": float(alone.abs().max()),
        "stored_bytes": served.stored_bytes,
    }


def _rows(base: Base) -> dict[str, Any]:
    """Return the held-out rows of every domain, each with its tokens."""
    from peft_lab.training import batches, tasks

    found = {}
    for domain, name in DOMAINS.items():
        task = tasks.get_task(name)
        rows = task.load().test[:SCORED]
        found[domain] = list(
            zip(rows, batches.encode(task, rows, base.tokenizer, task.max_length), strict=True)
        )
    return found


def _collate(base: Base, encoded: Sequence[Any]) -> tuple[Batch, torch.Tensor]:
    from peft_lab.models import loading
    from peft_lab.training import batches

    batch = batches.collate(encoded, loading.pad_token(base.tokenizer), base.device)
    return batch, batch.pop("labels")


def _accuracy(served: Served, name: str, pairs: Sequence[Any]) -> float:
    served.use(name)
    encoded = sorted((tokens for _, tokens in pairs), key=len)
    right = 0
    for first in range(0, len(encoded), AT_ONCE):
        batch, labels = _collate(served.base, encoded[first : first + AT_ONCE])
        right += int((served.answer(batch).argmax(-1) == labels).sum())
    return right / len(encoded)


def _examples(
    served: Served, rows: Sequence[Row], batch: Batch, asked: Sequence[str]
) -> list[dict[str, Any]]:
    from peft_lab.training.tasks.made import RATED_LABELS as LABELS

    scores = served.mixed(batch, asked).float().softmax(-1)
    return [
        {
            "adapter": name,
            "text": row.text,
            "label": row.target,
            "answer": LABELS[int(score.argmax())],
            "probability": float(score.max()),
        }
        for name, row, score in zip(asked, rows, scores, strict=True)
    ]
