"""Folders that somebody calls a model, each counted and trained for a step: numbers or a sentence, never their code.

Huge and odd configs, unknown types, ``quantization_config``, weights that are no numbers or not the config's, broken
tokenizers, chat templates that loop, raise, eat memory or reach for files.
"""

from __future__ import annotations

import json
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bench.faults.folder_cases import CASES
from bench.faults.rows import Place, Row, counted
from bench.faults.watching import PATIENCE
from peft_lab.core import inspector
from peft_lab.core.errors import PeftLabError
from peft_lab.methods.counting import count as counting
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.spec import RunRequest
from tests.models import homemade

TIMES = len(CASES)
LONGEST = 600  # characters of a refusal
MEMORY = 10 * 2**30  # of address space of each process: what eats more is told so, and harms nobody else


def made(place: Path) -> Iterator[tuple[str, Path]]:
    """Each case's name and folder, made when it is asked for."""
    whole = place / "whole"
    homemade.folder("qwen2", whole)
    for number, (what, change) in enumerate(CASES.items()):
        folder = place / str(number)
        shutil.copytree(whole, folder)
        change(folder)
        yield what, folder


def run(place: Place, times: int) -> Iterator[Row]:
    """One row."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    talk = place.scratch / "talk.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{2 * n}."}]}
        for n in range(12)
    ]
    talk.write_text("\n".join(map(json.dumps, rows)))
    row, endings = Row("folders that somebody calls a model: counted, trained a step"), Counter[str]()
    for what, folder in islice(place.in_time(made(place.scratch / "models")), times):
        row.tried += 1
        data: dict[str, Any] = (
            {"task": "own", "own_data": str(talk)} if what.startswith("chat:") else {"task": "style"}
        )
        request = RunRequest(str(folder), "lora", steps=1, batch=2, eval_rows=2, max_length=300, **data)
        _answer(row, f"{what}: count", partial(inspector.ask, counting.count, str(folder), "lora", {}))
        identity = _answer(row, f"{what}: train", partial(get_queue().submit, request))
        endings[_ended(row, what, identity) if isinstance(identity, str) else "refused"] += 1
        if (folder / "ran").exists():
            row.other(f"{what}: code of the folder was run")
    row.notes = f"{counted(endings)}, each in a sentence"
    yield row


def _answer(row: Row, label: str, ask: Callable[[], object]) -> object:
    """An answer or a refusal of one sentence."""
    answer = row.guarded(label, ask)
    if isinstance(answer, PeftLabError) and ("\n" in str(answer) or len(str(answer)) > LONGEST):
        row.other(f"{label}: not one sentence: {str(answer)[:LONGEST]!r}")
    return answer


def _ended(row: Row, what: str, identity: str) -> str:
    status, run = get_queue().wait(identity, PATIENCE), store.get(identity)
    if not status.final:
        row.hang(f"{what}: {identity} is {status}")
        get_queue().stop(identity)
        get_queue().wait(identity, PATIENCE)
    log = run.folder / "worker.log"
    if log.exists() and "Traceback" in log.read_text("utf-8", "replace"):
        row.traceback(f"{what}: {log.read_text('utf-8', 'replace')[-1200:]}")
    elif run.status() == "failed" and not run.view().message:
        row.other(f"{what}: it does not say why it failed")
    return str(run.status())
