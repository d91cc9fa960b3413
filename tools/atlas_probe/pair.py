"""The cell with two processes: a type under DistributedDataParallel, beside one process that has the whole batch.

Two processes answer about all types, since starting them takes longest. Each question gets a process group of its own,
so that what fails on both ranks leaves nothing behind for the next one; what fails on one of them or hangs ends with
both processes, and the next question gets new ones. Where the process that asks ends, their questions end, and so do
they.

    python -m tools.atlas_probe.pair RANK PORT       one of the two: a question a line in, an answer a line out
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.atlas import get_entry
from peft_lab.atlas.base import AtlasType
from tools.atlas_probe.held import EQUAL, Held, No, apart, hold
from tools.ports import joined, meeting

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[2]
WORLD, EACH, STEPS, RATE = 2, 2, 2, 0.05  # processes, rows of each, steps, their rate
#: Largest difference of a trained weight, as a share of the way that its tensor went.
SAME = 1e-3
SECONDS, STARTING = 60.0, 240.0  # of one answer, and besides of the first one, on a busy machine
#: What DDP says in the second step where a trained parameter got no gradient in the first one.
UNUSED = "Expected to have finished reduction in the prior iteration"


class Lost(Exception):
    """There is no answer, with the reason as a sentence."""


class Pair:
    """Two processes that answer together."""

    def __init__(self) -> None:
        self.limit = SECONDS + STARTING
        self.store = meeting()
        self.ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "tools.atlas_probe.pair", str(rank), str(self.store.port)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT,
            )
            for rank in range(WORLD)
        ]  # fmt: skip

    def ask(self, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Both ranks' answers. Raises Lost where one dies or does not answer in time. Where they
        no longer go together the next question gets a new pair."""
        limit, self.limit = self.limit, SECONDS
        until = time.monotonic() + limit
        try:
            for rank in self.ranks:
                assert rank.stdin is not None
                rank.stdin.write(json.dumps(question) + "\n")
            found = [self._answer(rank, until) for rank in self.ranks]
        except BrokenPipeError:
            end()
            raise Lost("One of two processes died between two questions.") from None
        except Lost:
            end()
            raise
        if len({each.get("raised") for each in found}) > 1:
            end()  # one may wait for the other still
        return found

    def _answer(self, rank: subprocess.Popen[str], until: float) -> dict[str, Any]:
        assert rank.stdout is not None
        ready, _, _ = select.select([rank.stdout], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise Lost(f"Two processes did not end {STEPS} steps together in {SECONDS:.0f} seconds.")
        line = rank.stdout.readline()
        if not line:
            raise Lost(f"One of two processes died (exit code {rank.wait()}).")
        found: dict[str, Any] = json.loads(line)
        return found


_running: list[Pair] = []


def end() -> None:
    """End the two processes, where they run."""
    while _running:
        for rank in _running.pop().ranks:
            rank.kill()
            rank.communicate()


def _asked(entry: AtlasType, own_seeds: bool, find_unused: bool, drawing: bool) -> dict[str, Any]:
    """Rank 0's answer, or the failure of the one that failed."""
    if not _running:
        _running.append(Pair())
    how = {"own_seeds": own_seeds, "find_unused": find_unused, "drawing": drawing}
    answers = _running[0].ask({"name": entry.name, **how})
    failed = [each for each in answers if each.get("raised")]
    failed.sort(
        key=lambda each: "gloo" in each["text"]
    )  # which may be told of a rank only that the other one failed
    return failed[0] if failed else answers[0]


def _tried(entry: AtlasType, own_seeds: bool = True, find_unused: bool = False) -> tuple[str, dict[str, Any]]:
    """Why it does not work like this (empty where it does), and the answer. What draws by chance in training (dropout,
    a sampled weight) has to train; its weights are compared with one process' where nothing is drawn."""
    found = _asked(entry, own_seeds, find_unused, drawing=True)
    why = _why(found)
    if not why and found["draws"]:
        found = _asked(entry, own_seeds, True, drawing=False)
        why = _why(found)
    return why, found


def with_ddp(entry: AtlasType) -> dict[str, float]:
    """As DDP comes, and with a seed for each rank, since DDP promises to send round where rank 0 starts. Where that
    does not do, what helps is looked for: telling DDP to look for unused parameters, one seed for both."""
    why, found = _tried(entry)
    if not why:
        return {"off": found["off"]}
    if found.get("mixes"):
        raise No(
            f"{why}: what it does to a row depends on the other rows of its batch, and each rank has half of it."
        )
    unused = UNUSED in found.get("text", "")
    for helps, ways in (
        ("with find_unused_parameters=True it works", {"find_unused": True}),
        ("with the same seed on both it works", {"own_seeds": False}),
        ("with the same seed on both and find_unused_parameters=True it works",
         {"own_seeds": False, "find_unused": True}),
    ):  # fmt: skip
        if ways.get("find_unused", False) == unused and not _tried(entry, **ways)[0]:
            raise No(f"{why}; {helps}.")
    helpless = "find_unused_parameters=True" if unused else "the same seed on both"
    raise No(f"{why}, and {helpless} does not help.")


def _why(found: Mapping[str, Any]) -> str:
    """Why not, without a full stop; empty where it works. What is raised by anything but DDP comes out as it is."""
    if UNUSED in found.get("text", ""):
        return (
            f"DDP refuses the second step, since {found['unused']} of {found['trained']} trained tensors get no "
            "gradient in the first"
        )
    if found.get("raised"):
        raise RuntimeError(found["text"])
    if not found["moved"]:
        return f"{STEPS} steps change no trained weight"
    for what, told in (
        ("ranks", "After {} steps the two ranks have different weights"),
        ("off", "After {} steps the weights are not those of one process with the whole batch"),
    ):
        if not found[what] <= SAME and not (what == "off" and found["draws"]):
            return f"{told.format(STEPS)} (off by up to {100 * found[what]:.3g}% of the way they went)"
    return ""


# What follows runs in the two processes.


def _held(entry: AtlasType, seed: int, drawing: bool) -> Held:
    held = hold(entry, seed=seed, rows=EACH * WORLD)
    held.model.train(drawing)
    return held


def _steps(
    model: Any, inputs: Mapping[str, Any], trained: list[torch.nn.Parameter], told: dict[str, Any]
) -> None:
    """Plain descent: what Adam makes of a gradient near zero would be rounding. ``told`` gets how many are unused."""
    import torch

    optimizer = torch.optim.SGD(trained, lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        told["unused"] = sum(value.grad is None for value in trained)
        optimizer.step()


def _trained(model: Any) -> list[torch.nn.Parameter]:
    return [value for value in model.parameters() if value.requires_grad]


def _copies(values: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [value.detach().clone() for value in values]


def _half(inputs: Mapping[str, Any], rank: int) -> dict[str, Any]:
    return {name: value.chunk(WORLD)[rank] for name, value in inputs.items()}


def furthest(
    found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], start: Sequence[torch.Tensor]
) -> float:
    """The largest difference, as a share of the way that its tensor went (at least a thousandth of its largest entry,
    or rounding would count)."""
    shares = []
    for one, other, before in zip(found, wanted, start, strict=True):
        way = max(float((other - before).abs().max()), 1e-3 * float(before.abs().max()), 1e-9)
        shares.append(float((one - other).abs().max()) / way)
    return max(shares)


#: Kept, not ended: a group's end waits for gloo's threads, which may hold a tensor still and wait for Python.
_groups: list[Any] = []


def _together(rank: int, port: int) -> Any:
    """A process group for one question."""
    import torch

    limit = timedelta(seconds=SECONDS / 2)
    if not _groups:
        torch.distributed.init_process_group(
            "gloo", store=joined(port), rank=rank, world_size=WORLD, timeout=limit
        )
    _groups.append(torch.distributed.new_group(timeout=limit))
    return _groups[-1]


def answer(
    rank: int, port: int, name: str, own_seeds: bool, find_unused: bool, drawing: bool
) -> dict[str, Any]:
    """What one rank says: how far the ranks' weights are apart, and, on rank 0, how far from one process' weights."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    entry = get_entry(name)
    held = _held(entry, 1 + rank * own_seeds, drawing)
    trained = _trained(held.model)
    told: dict[str, Any] = {"trained": len(trained)}
    start = _copies(trained)
    try:
        group = _together(rank, port)
        spread = DistributedDataParallel(held.model, process_group=group, find_unused_parameters=find_unused)
        start = _copies(trained)
        _steps(spread, _half(held.inputs, rank), trained, told)
        others = _copies(trained)
        for value in others:
            torch.distributed.broadcast(value, src=1, group=group)
    except Exception as error:  # noqa: BLE001  whatever is raised is the answer
        return {**told, **_raised(error)}
    alone = _held(entry, 1, drawing)  # on both ranks: EVA's start asks all of them for their rows
    if rank:
        return told
    whole = _trained(alone.model)
    _steps(alone.model, alone.inputs, whole, {})
    told["off"] = furthest(trained, whole, start)
    told["ranks"] = furthest(others, _copies(trained), start)
    told["moved"] = any(not torch.equal(one, before) for one, before in zip(whole, start, strict=True))
    told["draws"] = len({_loss(alone, seed) for seed in (7, 8, 9)}) > 1
    told["mixes"] = apart(_logits(alone, _half(alone.inputs, 0)), _logits(alone, alone.inputs)) > EQUAL
    return told


def _loss(held: Held, seed: int) -> float:
    import torch

    torch.manual_seed(seed)
    return float(held.model(**held.inputs).loss.detach())


def _logits(held: Held, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Of the first half's rows, nothing drawn."""
    import torch

    held.model.eval()
    with torch.no_grad():
        found: torch.Tensor = held.model(**inputs).logits[:EACH]
    return found.float()


def _raised(error: Exception) -> dict[str, Any]:
    kind = type(error).__name__
    return {"raised": kind, "text": str(error) or f"PEFT ends in a {kind} without words."}


def main() -> None:
    import warnings

    from peft_lab.core import quiet  # noqa: F401

    warnings.filterwarnings("ignore")
    rank, port = map(int, sys.argv[1:])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        question = json.loads(line)
        try:
            found = answer(rank, port, **question)
        except Exception as error:  # noqa: BLE001
            found = _raised(error)
        answers.write(json.dumps(found) + "\n")
    # gloo's threads may hold a tensor still, and abort the process where Python is taken down before they let go.
    os._exit(0)


if __name__ == "__main__":
    main()
