"""Make a run's record from its events: the figures stored in one file when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from importlib import metadata
from operator import attrgetter
from typing import Any

from peft_lab.core import disk
from peft_lab.core.errors import BadInput
from peft_lab.core.field import read
from peft_lab.methods import get_method
from peft_lab.runs import kept as said_module
from peft_lab.runs.events import Event, latest
from peft_lab.runs.spec import RunSpec, entry_of
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunView, Status, view
from peft_lab.training.evaluation import Evaluation

# ----------------------------------------
# The packages that a run's figures come from.


PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")


@cache
def versions() -> dict[str, str]:
    """Return the installed versions of :data:`PACKAGES`, by name: a process keeps the packages that it has loaded."""
    return {name: metadata.version(name) for name in PACKAGES}


def record_of(
    identity: str,
    spec: RunSpec,
    seen: RunView,
    adapter: str | None,
    stored: int | None = None,
    outside: bool = False,
) -> dict[str, Any]:
    """Return a run's JSON for the command line. ``outside``: the lab did not carry it out; it may have no metric."""
    metric = "" if outside and not (seen.before or seen.after) else spec.task_object().metric
    memory = {key: value for key, value in seen.memory.items() if value is not None}
    return {
        "run_id": identity,
        "status": str(seen.status),
        "message": seen.message,
        "steps": seen.step,
        "seconds": seen.seconds,
        "steps_per_second": seen.steps_per_second,
        "tokens_per_second": seen.tokens_per_second,
        "first_loss_after": seen.first_loss_after,
        "loss": list(seen.losses),
        "metric": {
            "name": metric,
            "before": _metric(seen.before, metric),
            "after": _metric(seen.after, metric),
            "rows": seen.after.rows if seen.after else 0,
        },
        "inference": seen.inference or None,
        "unrelated": {"before": seen.unrelated_before, "after": seen.unrelated_after}
        if seen.unrelated_after
        else None,
        "evaluation": {"before": _evaluation(seen.before), "after": _evaluation(seen.after)},
        "probes": _probes(seen),
        "memory": {**memory, "source": "measured"} if memory else None,
        "trainable": seen.ready.get("trainable"),
        "head": seen.ready.get("head"),
        "dtype": seen.ready.get("dtype"),
        "device": seen.ready.get("device"),
        "adapter_dir": adapter,
        "stored_bytes": stored,
        "spec": spec.to_dict(),
        "packages": versions(),
    }


def result(run: Run, further: Sequence[Event] = ()) -> dict[str, Any]:
    """Return :func:`record_of` a run as it is now, with ``further`` events. Raises RunError if it cannot be read."""
    spec = run.spec
    events = [*run.events(), *further]
    seen = view(events, spec.steps, run.gone(events))
    adapter = str(run.adapter) if (run.adapter / "adapter_config.json").exists() else None
    weights = run.adapter / "adapter_model.safetensors"
    kept = said_module.kept_forecasts(events, seen.took if seen.status is Status.DONE else None)
    stored = weights.stat().st_size if weights.exists() else None
    return {
        **record_of(run.id, spec, seen, adapter, stored, run.folder.is_symlink()),
        "inputs": inputs_of(events),
        # of the process that trained last: above 0 it got what others left of the processor
        "niceness": (latest(events, "worker") or {}).get("niceness"),
        "expected": None
        if kept is None
        else {"seconds": kept.seconds, "took": kept.took, "source": "simulated"},
    }


def inputs_of(events: Sequence[Event]) -> dict[str, dict[str, str]] | None:
    """Return the SHA-256 of the run's input files; ``None`` if none were recorded."""
    return next((event["files"] for event in events if event["type"] == "inputs"), None)


def _metric(evaluation: Evaluation | None, name: str) -> float | None:
    return None if evaluation is None else evaluation.metrics.get(name)


def _evaluation(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    return {
        "loss": evaluation.loss,
        "rows": evaluation.rows,
        "seconds": evaluation.seconds,
        **evaluation.metrics,
    }


def _probes(seen: RunView) -> list[dict[str, Any]]:
    """Return the answers of base and tuned model to each text; ``None`` for an answer not given yet."""
    said = [
        {one.text: {"answer": one.answer, "scores": one.scores or None} for one in given}
        for given in (seen.probes_before, seen.probes_after)
    ]
    return [
        {"text": text, "before": said[0].get(text), "after": said[1].get(text)}
        for text in dict.fromkeys((*said[0], *said[1]))
    ]


def write_insight(run: Run, found: dict[str, Any]) -> None:
    """Write arrays to ``insight.npz`` and other values to ``insight.json``; a file without content is not written."""
    import numpy as np

    arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in found.items() if name not in arrays}
    if plain:
        disk.write_json(run.folder / "insight.json", plain)
    if arrays:
        with disk.replacing(run.folder / "insight.npz") as scratch, scratch.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


# ----------------------------------------
# When one run can replace another: it trained the same way, and measured all that the other would.


# Fields for measurements besides the training; ``values`` are compared as the method reads them.
_ASKED = ("probes", "compared")
_trained = attrgetter(*(item.name for item in fields(RunSpec) if item.name not in ("values", *_ASKED)))


def stands_for(run: RunSpec, wanted: RunSpec) -> bool:
    """Return whether a run of one spec, also of an earlier version, gives all that a run of ``wanted`` would."""
    if _trained(run) != _trained(wanted) or not (wanted.compared <= run.compared):
        return False
    try:
        return set(wanted.probes) <= set(run.probes) and knobs_read(run) == knobs_read(wanted)
    except BadInput:
        return False


def knobs_read(spec: RunSpec) -> dict[str, Any]:
    """Return a run's knobs, defaults filled in, without those that others disable. Raises BadInput."""
    method = get_method(spec.method)
    return read(method.knobs, method.complete(entry_of(spec.model).shape, spec.values))
