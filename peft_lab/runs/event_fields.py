"""What is read of each event, and of which kind it has to be: a file may have been cut or edited, a disk be bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peft_lab.kinds import misfit
from peft_lab.runs import owners
from peft_lab.runs.events import Event


def damage(events: Sequence[Event], ended: bool) -> str:
    """What is wrong with the first event that cannot be read; empty when all can.

    Types and fields that are not known here are left alone, and who held a run that has ``ended`` matters no more.
    """
    for number, event in enumerate(events, 1):
        wrong = misfit(_KINDS.get(event["type"], {}), event)
        if wrong or not all(map(_sound, event["answers"] if event["type"] == "probe" else ())):
            return f"event {number}, {event['type']}, has no usable '{wrong or 'answers'}'"
        if (
            not ended
            and event["type"] == "queued"
            and "owner" in event
            and owners.read(event["owner"]) is None
        ):
            return f"event {number}, queued, has no usable 'owner'"
    return ""


def _sound(answer: Mapping[str, Any]) -> bool:
    """Whether an answer is one; a page shows how sure the model was of it."""
    scores = answer.get("scores") or {}
    return not misfit(_ANSWER, answer) and (not scores or answer["answer"] in scores)


_ANSWER = {"text": str, "answer": str, "scores": dict[str, float] | None}
_SIZES = ("peak_bytes", "process_peak_bytes", "device_allocated_bytes", "device_reserved_bytes", "rows", "length",
          "kept", "predicted")  # fmt: skip
_NUMBERS = dict.fromkeys(("loss", "rows", "seconds"), float)
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "expected": {"seconds": float, "plain": float, "where": str},
    "phase": {"name": str},
    "step": dict.fromkeys(("loss", "lr", "seconds", "tokens"), float),
    "evaluating": {"which": str, "done": float, "total": float},
    "evaluated": {"which": str, "metrics": dict[str, float], **_NUMBERS},
    "probe": {"which": str, "answers": list[dict[str, Any]]},
    "inference": {"unit": str, **dict.fromkeys(("base_seconds", "tuned_seconds", "added_seconds"), float)},
    "unrelated": {"which": str, "loss": float},
    "ready": {
        **dict.fromkeys(("trainable", "head", "total", "rows", "learning_rate"), float | None),
        **dict.fromkeys(("dtype", "device"), str | None),
    },
    "memory": {
        **dict.fromkeys(_SIZES, float | None),
        "parts": dict[str, float] | None,
        "detail": dict | None,
        "timeline": list | None,
    },
    **{ending: {"message": str | None} for ending in ("done", "stopped", "failed", "lost")},
}
