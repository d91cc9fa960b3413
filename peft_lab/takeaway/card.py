"""Write an adapter's model card: README.md with Hugging Face's front matter, every figure from the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from peft_lab.ask.field import read
from peft_lab.core import units
from peft_lab.methods.ptuning.spec import DEEP_TYPE
from peft_lab.methods.shared.peft_backed import PeftMethod, read_any_config
from peft_lab.models.images import words
from peft_lab.takeaway.applied import Applied, way_of
from peft_lab.takeaway.facts import RunOutcome
from peft_lab.takeaway.generator import fill, with_imports


def is_peft(known: RunOutcome) -> bool:
    """Return whether PEFT itself reads the adapter. Raises BadInput if there is none."""
    return isinstance(known.method, PeftMethod) and _saved_type(known) != DEEP_TYPE


def _saved_type(known: RunOutcome) -> str:
    return str(read_any_config(known.run.adapter).get("peft_type"))


def loading_code(known: RunOutcome) -> str:
    """Return Python text that leaves the tuned model in ``model``. Raises BadInput for a run without adapter."""
    way = "peft" if is_peft(known) else "deep" if _saved_type(known) == DEEP_TYPE else way_of(known.method)
    how = Applied(way, known.method, known.entry, known.values, None, known.task_type)
    return with_imports(fill("loading.py.j2", run=known, how=how))


def model_card(known: RunOutcome) -> str:
    memory = known.record.get("memory") or {}
    settings = read(known.method.knobs, known.values)
    return fill(
        "card.md.j2",
        run=known,
        spec=known.spec,
        task=known.task,
        entry=known.entry,
        record=known.record,
        units=units,
        words=words,
        is_peft=is_peft(known),
        loading_code=loading_code(known),
        licences=licences(known),
        knobs=[
            (knob, _shown(settings[knob.name]))
            for knob in known.method.knobs
            if knob.name in settings and settings[knob.name] != ()
        ],
        memory=memory if "peak_bytes" in memory else None,
    )


def licences(known: RunOutcome) -> str:
    """Return the sources of the adapter with their licences."""
    return fill("licences.md.j2", run=known, task=known.task, entry=known.entry)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value)
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
