"""Three domains served from one base: who answers what how well, how fast one switches, and mixed batches.

The same for bottleneck adapters (ours: a name for each row of the batch) and for LoRA (PEFT's ``adapter_names``). What
needs torch, :func:`peft_lab.serving.measure.measure`, is asked through the inspector ``answers``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft_lab.classroom import places
from peft_lab.runs import store
from peft_lab.runs.spec import RunRequest, RunSpec

Runs = Mapping[str, Mapping[str, str]]  # run ids by method and domain

DOMAINS = {"movies": "sentiment", "products": "products", "tweets": "tweets"}
METHODS = ("adapters", "lora")
MODEL = "minilm-l6"
STEPS = 60
SCORED = 300  # held-out rows of each domain


def specs(method: str) -> dict[str, RunSpec]:
    """The three runs of a method, by domain. Raises what :meth:`RunRequest.complete` raises."""
    return {
        domain: RunRequest(MODEL, method, task, steps=STEPS, eval_rows=SCORED).complete()
        for domain, task in DOMAINS.items()
    }


def keep(runs: Runs, found: Mapping[str, Any]) -> None:
    """Keep what was measured on these runs: it takes a while, and the next visit wants it at once."""
    store.write_json(_file(), {"runs": runs, "found": found})


def kept(runs: Runs) -> dict[str, Any] | None:
    """What was measured on just these runs, if it was."""
    try:
        content = json.loads(_file().read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    same = isinstance(content, dict) and content.get("runs") == runs
    return content.get("found") if same else None


def forget() -> None:
    """Drop what is kept, to measure again."""
    _file().unlink(missing_ok=True)


def _file() -> Path:
    return places.mine() / "serving.json"
