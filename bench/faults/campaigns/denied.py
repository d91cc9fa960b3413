"""Files and folders that this user may not read or write, one at a time: commands and pages end in a sentence.

Root passes permissions by, so each case runs in a forked process that has given that right up (Linux's capabilities to
override access); what belongs to root is then refused to it as to any owner.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.faults.campaigns.corrupt import _page
from bench.faults.children import apart, invoke, preload
from bench.faults.rows import LIMIT, Outcome, Place, Row
from peft_lab.interview.learners.schedule import Learners
from peft_lab.runs import store
from peft_lab.studies.compare import store as comparisons
from peft_lab.studies.compare.store import ComparisonRequest, make_plan
from tests.models import homemade

TIMES = 60
_PASSING_BY = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_DROP, _VERSION_3 = 24, 0x20080522  # prctl's PR_CAPBSET_DROP; of capset's header
MEMORY = 9 * 2**30
#: What may be refused: the mode, and what it is called.
MODES = ((0o000, "nothing"), (0o444, "reading only"), (0o222, "writing only"))


def _as_anybody(function: Callable[..., object], *arguments: str) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    held = (
        ctypes.c_uint32 * 6
    )()  # effective, permitted, inheritable; then the same of capabilities beyond 31
    libc.capget(header, held)
    for number in _PASSING_BY:
        libc.prctl(_DROP, number, 0, 0, 0)  # what this process starts does not get it back
        for kind in range(3):
            held[kind] &= ~(1 << number)
    if libc.capset(header, held):
        raise OSError(ctypes.get_errno(), "capabilities cannot be given up")
    return function(*arguments)


def _command(*arguments: str) -> Outcome:
    """One command line. Right is a result, or one line on stderr."""
    outcome, result = apart(_as_anybody, (invoke, *arguments), LIMIT, MEMORY)
    if isinstance(result, tuple):
        status, said = result
        if "Traceback" in said:
            outcome.traceback = said
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        if status not in (0, 1, 2) or (status and len(lines) != 1):
            outcome.faults.append(f"exit status {status}: {said.strip()[-400:]!r}")
    return outcome


def _opened(name: str, *address: str) -> Outcome:
    return apart(_as_anybody, (_page_of, name, *address), LIMIT, MEMORY)[0]


def _page_of(name: str, *address: str) -> bool:
    _page(name, **dict(each.split("=", 1) for each in address))
    return True


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for commands, one for pages."""
    preload()
    home = place.home("home")
    places_below = _prepared(place, home)
    cases = [(path, mode, what) for path in places_below for mode, what in MODES]
    commands = list(_cases(home, place.scratch))
    yield Row("files and folders that may not be read or written: commands").take(
        place.in_time(_tried(cases, commands, times, _command)), "a result, or one line"
    )
    pages = [("runs",), ("compare",), ("practice",), ("home",), ("lora", "tab=inside")]
    yield Row("the same: pages").take(
        place.in_time(_tried(cases, pages, times // 2, _opened)), "a page or a sentence"
    )


def _prepared(place: Place, home: Path) -> list[Path]:
    # in a process of its own: what is forked later would take this one's fork server for its own
    asked = "--model minilm-l6 --method lora --task sentiment --steps 2 --batch 2 --eval-rows 4"
    command = [sys.executable, "-m", "peft_lab", "train", *asked.split()]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = store.runs()
    comparison = comparisons.keep(
        make_plan(
            ComparisonRequest(model="minilm-l6", task="sentiment", methods=("lora",), steps=2, seeds=(0,))
        )
    )
    Learners().create("Ada")
    own = place.scratch / "own"
    homemade.folder("qwen2", own)
    (place.scratch / "mine.csv").write_text(
        "text,label\n" + "".join(f"t{n},{'ab'[n % 2]}\n" for n in range(30))
    )
    (place.scratch / "sweep.json").write_text(
        json.dumps({"model": "minilm-l6", "methods": ["lora"], "steps": 2})
    )
    (place.scratch / "out").mkdir()
    files = (
        "spec.json",
        "events.jsonl",
        "record.json",
        "adapter",
        "adapter/adapter_model.safetensors",
        "beat",
    )
    return [
        home, home / "runs", made.folder, *(made.folder / name for name in files), comparison.folder,
        comparison.folder / "plan.json", home / "comparisons", home / "learners.db", own, own / "config.json",
        own / "model.safetensors", own / "tokenizer.json", place.scratch / "mine.csv", place.scratch / "sweep.json",
        place.scratch / "out",
    ]  # fmt: skip


def _cases(home: Path, scratch: Path) -> Iterator[tuple[str, ...]]:
    (run,) = store.runs()
    own, mine, out = str(scratch / "own"), str(scratch / "mine.csv"), scratch / "out"
    yield from (("runs",), ("runs", run.id), ("runs", "--json"), ("status",), ("doctor",))
    yield ("count", "-m", own, "--method", "lora")
    yield ("train", "--model", own, "--method", "lora", "--task", "style", "--steps", "1")
    yield ("train", "--model", "minilm-l6", "--method", "lora", "--own", mine, "--steps", "1")
    yield ("export", run.id, "--out", str(out / "made"))
    yield ("sweep", str(scratch / "sweep.json"), "--plan")


def _tried(
    cases: list[tuple[Path, int, str]],
    uses: list[tuple[str, ...]],
    times: int,
    use: Callable[..., Outcome],
) -> Iterator[tuple[str, Outcome]]:
    """Every so many of all pairs of what is refused and who meets it."""
    pairs = [(case, each) for case in cases for each in uses]
    for (path, mode, what), each in pairs[:: max(1, len(pairs) // times)]:
        before = path.stat().st_mode & 0o777
        kept = path.parent / f".{path.name}.kept" if path.is_file() else None
        if kept is not None:
            shutil.copy2(path, kept)
        path.chmod(mode)
        try:
            yield f"{what} of {path.name}: {' '.join(each)}", use(*each)
        finally:
            path.chmod(before)
            if kept is not None:
                kept.unlink()
