"""What is read of each event, and of which kind it has to be: a file may have been cut or edited, a disk be bad."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peft_lab.runs import owners
from peft_lab.runs.events import Event

Check = Callable[[Any], bool]


def damage(events: Sequence[Event], ended: bool) -> str:
    """What is wrong with the first event that cannot be read; empty when all can.

    Types and fields that are not known here are left alone, and who held a run that has ``ended`` matters no more.
    """
    for number, event in enumerate(events, 1):
        for name, check in _NEEDED.get(event["type"], {}).items():
            if name not in event or not check(event[name]):
                return f"event {number}, {event['type']}, has no usable '{name}'"
        for name, check in _OPTIONAL.get(event["type"], {}).items():
            if event.get(name) is not None and not check(event[name]):
                return f"event {number}, {event['type']}, has no usable '{name}'"
        if (
            not ended
            and event["type"] == "queued"
            and "owner" in event
            and owners.read(event["owner"]) is None
        ):
            return f"event {number}, queued, has no usable 'owner'"
    return ""


def number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def text(value: Any) -> bool:
    return isinstance(value, str)


def table_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _answers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict)
        and text(row.get("text"))
        and text(row.get("answer"))
        and table_of(number)(row.get("scores", {}))
        # A page shows how sure the model was of its answer.
        and (not row.get("scores") or row["answer"] in row["scores"])
        for row in value
    )


_FIGURES = ("loss", "rows", "seconds")
_NEEDED: Mapping[str, Mapping[str, Check]] = {
    "phase": {"name": text},
    "step": dict.fromkeys(("loss", "lr", "seconds", "tokens"), number),
    "evaluating": {"which": text, "done": number, "total": number},
    "evaluated": {"which": text, "metrics": table_of(number), **dict.fromkeys(_FIGURES, number)},
    "probe": {"which": text, "answers": _answers},
    "inference": {"unit": text, **dict.fromkeys(("base_seconds", "tuned_seconds", "added_seconds"), number)},
    "unrelated": {"which": text, "loss": number},
}
_BYTES = ("peak_bytes", "process_peak_bytes", "device_allocated_bytes", "device_reserved_bytes")
_SIZES = ("rows", "length", "kept", "predicted")
_OPTIONAL: Mapping[str, Mapping[str, Check]] = {
    "ready": {
        **dict.fromkeys(("trainable", "head", "total", "rows", "learning_rate"), number),
        **dict.fromkeys(("dtype", "device"), text),
    },
    "memory": {
        **dict.fromkeys((*_BYTES, *_SIZES), number),
        "parts": table_of(number),
        "detail": lambda value: isinstance(value, dict),
        "timeline": lambda value: isinstance(value, list),
    },
    **{ending: {"message": text} for ending in ("done", "stopped", "failed", "lost")},
}
