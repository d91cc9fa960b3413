"""Measure the memory of one real training step and of the process, inference time, and forgetting."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from peft_lab.core import machine
from peft_lab.core.later import torch
from peft_lab.engine import build, tracker
from peft_lab.engine.account import timeline
from peft_lab.engine.request import largest
from peft_lab.engine.step import SteppedModel, phases, watching
from peft_lab.training import batches, tasks
from peft_lab.training.evaluation import Asked, Examiner, question
from peft_lab.training.step import Masters
from peft_lab.training.tasks.base import Row

COARSE = ("weights", "adapter", "gradients", "optimizer", "activations")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_process_peak() -> None:
    """Reset the process's peak: a forked child inherits its parent's. Only on Linux."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def process_peak() -> int:
    """Return the largest resident set of this process since its start or the last reset, in bytes."""
    if _STATUS.exists():
        lines = _STATUS.read_text("ascii", "replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


class StepTracker:
    """Tracks every tensor alive during one step of a real run, those that existed before it included. Its figures are
    named as those of a simulation (:mod:`peft_lab.engine`), so that the two can be compared."""

    def __init__(
        self, model: Any, masters: Masters, optimizer: torch.optim.Optimizer, kind: str, num_layers: int
    ) -> None:
        self.recorder = tracker.MemoryRecorder()
        layers = build.stacked_layers(model, num_layers)
        self.subject = SteppedModel(model, kind, layers, head=build.output_head(model, kind))
        for tensor, part in _present(model, masters, optimizer):
            self.recorder.see(tensor, part)

    def result(self) -> dict[str, Any]:
        """Return ``peak_bytes``, its ``parts`` (finer in ``detail``), and the step's ``timeline``."""
        points = timeline(self.recorder.stop())
        top = largest(points)
        coarse = {name: top.parts[name] for name in COARSE}
        return {
            "peak_bytes": top.nbytes,
            "parts": {**coarse, "other": top.nbytes - sum(coarse.values())},
            "detail": top.parts,
            "timeline": [
                {"phase": point.phase, "layer": point.layer, "bytes": point.nbytes} for point in points
            ],
        }


def _present(
    model: Any, masters: Masters, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[torch.Tensor, str]]:
    """Yield every tensor that exists before the step, with its part."""
    for parameter in model.parameters():
        yield parameter.data, "adapter" if parameter.requires_grad else "weights"
        yield from ((constant, "quantisation") for constant in _constants(parameter))
    for module in model.modules():
        yield from ((constant, "quantisation") for constant in _scales(module))
    yield from ((buffer, "weights") for buffer in model.buffers())
    yield from ((master.detach(), "optimizer") for master in masters.parameters)
    states = (value for state in optimizer.state.values() for value in state.values())
    yield from ((tensor, "optimizer") for value in states for tensor in tracker.tensors_in(value))


def _constants(parameter: Any) -> Iterator[torch.Tensor]:
    """Yield the block constants beside a 4-bit matrix (bitsandbytes' QuantState)."""
    state = getattr(parameter, "quant_state", None)
    while state is not None:
        for value in vars(state).values():
            if isinstance(value, torch.Tensor):
                yield value
        state = getattr(state, "state2", None)


def _scales(module: Any) -> Iterator[torch.Tensor]:
    """Yield the row scales of an 8-bit matrix: on its weight at first, in the module's state after use."""
    for owner in (getattr(module, "weight", None), getattr(module, "state", None)):
        scales = getattr(owner, "SCB", None)
        if scales is not None:
            yield scales


@contextmanager
def tracking(step: StepTracker | None) -> Iterator[Callable[[str], None]]:
    """Track what happens inside; yield a function to call with each phase's name. No-op without a tracker."""
    if step is None:
        yield lambda phase: None
        return
    enter = phases(step.subject, step.recorder)
    with watching(step.subject, step.recorder), tracker.recording(step.recorder):
        yield (
            lambda phase: None if phase == "zero_grad" else enter(phase)
        )  # measured from the forward pass on


# ----------------------------------------
# What a comparison of methods measures beyond a run's task: inference time and forgetting.
#
# Inference time: base and tuned model answer the same requests alternately, one at a time, and the median of the
# differences is taken, so that disturbances affect both. A mergeable method is measured unmerged.
#
# Forgetting: the loss per token, before and after, on held-out sentences of another task, read as plain text. It
# needs a causal language model: there is none for an encoder with a classification head, a vision model or an
# encoder-decoder.


UNRELATED_TASK = "sentiment"
UNRELATED_ROWS = 64
UNRELATED_LENGTH = 64  # maximum tokens of such a sentence
AT_ONCE = 16
NEW_TOKENS = 16
ROUNDS = {"classification": 40, "tagging": 40, "generation": 6, "chat": 6}  # pairs of timed requests
UNIT = {"classification": "row", "tagging": "row", "generation": "token", "chat": "token"}
_NO_LOSS = {
    "encoder": "not measurable: the loss on text needs a model that predicts words, and this encoder has only its "
    "task's classification head",
    "vision": "not measurable: the loss on text needs a model that reads text, and this one reads images",
    "seq2seq": "not measured: an encoder-decoder was never trained to continue a text, so its loss on plain "
    "sentences means little",
}

Model = Any


def no_loss(kind: str) -> str:
    """Return why the loss on unrelated text is not measured for that kind of model; empty if it is."""
    return _NO_LOSS.get(kind, "")


def inference_time(
    examiner: Examiner, base: Model, tuned: Model, rows: Sequence[Row], heartbeat: Callable[[], None]
) -> dict[str, Any]:
    """Return the event ``inference``, per row or generated token. ``heartbeat``: called before each pair; may raise."""
    kind = examiner.task.kind
    per_request = NEW_TOKENS if examiner.task.writes else 1
    base.eval()
    tuned.eval()
    pairs: list[tuple[float, float]] = []
    for number in range(-1, ROUNDS[kind]):
        heartbeat()
        asked = question(rows[number % len(rows)])
        order = (base, tuned) if number % 2 else (tuned, base)
        taken = {id(model): _timed(examiner, model, asked) / per_request for model in order}
        if number >= 0:  # the first pair warms up
            pairs.append((taken[id(base)], taken[id(tuned)]))
    return {
        "unit": UNIT[kind],
        "amount": per_request,
        "base_seconds": statistics.median(first for first, _ in pairs),
        "tuned_seconds": statistics.median(second for _, second in pairs),
        "added_seconds": statistics.median(second - first for first, second in pairs),
        "rounds": len(pairs),
    }


def _timed(examiner: Examiner, model: Model, asked: Asked) -> float:
    settle = machine.device_of(examiner.device).synchronise
    request = examiner.prepare([asked])
    with torch.no_grad():
        settle()
        start = time.perf_counter()
        if examiner.task.writes:
            examiner.write(model, request, NEW_TOKENS, least=NEW_TOKENS)
        else:
            model(**request)
        settle()
    return time.perf_counter() - start


def unrelated_loss(examiner: Examiner, model: Model, heartbeat: Callable[[], None]) -> dict[str, Any]:
    """Return the event ``unrelated`` of one causal model: nats per token, without each row's first token."""
    model.eval()
    rows = tasks.get_task(UNRELATED_TASK).load().test[:UNRELATED_ROWS]
    ids = examiner.tokenizer([row.text for row in rows], add_special_tokens=False)["input_ids"]
    encoded = [batches.Encoded(tuple(row[:UNRELATED_LENGTH]), 1) for row in ids if len(row) > 1]
    encoded.sort(key=len)
    total, tokens = 0.0, 0
    with torch.no_grad():
        for first in range(0, len(encoded), AT_ONCE):
            heartbeat()
            batch: dict[str, torch.Tensor] = batches.collate(
                encoded[first : first + AT_ONCE], examiner.pad, examiner.device
            )
            amount = int((batch["labels"] != batches.IGNORED).sum())
            total += float(batches.loss_of(model, batch)) * amount
            tokens += amount
    return {"loss": total / tokens, "tokens": tokens, "rows": len(encoded), "task": UNRELATED_TASK}
