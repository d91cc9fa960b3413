"""What a comparison of methods asks of a run beyond its task: the time of inference, and what was forgotten.

Time: base and tuned model answer the same requests in turn, one request at a time, and the median of the differences
is taken: the two then meet the same disturbances. A method that can be merged is measured unmerged.

Forgetting: the loss per token, before and after, on held-out sentences of another task, read as plain text. It needs a
model that goes on with a text, so there is none for an encoder with a classification head, for a model of images, nor
for an encoder-decoder.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from peft_lab import machine, tasks
from peft_lab.training import batches
from peft_lab.training.evaluation import question

if TYPE_CHECKING:
    import torch

    from peft_lab.models.shapes import ModelKind
    from peft_lab.tasks.base import Row
    from peft_lab.training.evaluation import Asked, Examiner

UNRELATED_TASK = "sentiment"
UNRELATED_ROWS = 64
UNRELATED_LENGTH = 64  # tokens after which such a sentence is cut
AT_ONCE = 16
NEW_TOKENS = 16
ROUNDS = {"classification": 40, "generation": 6, "chat": 6}  # pairs of timed requests
UNIT = {"classification": "row", "generation": "token", "chat": "token"}
_NO_LOSS = {
    "encoder": "not measurable here: the loss on text needs a model that predicts words, and this encoder has only the "
    "classification head of its task",
    "vision": "not measurable here: the loss on text needs a model that reads words, and this one reads images",
    "seq2seq": "not measured: an encoder-decoder was never trained to go on with a text, so its loss on plain "
    "sentences says little",
}

Model = Any


def no_loss(kind: str) -> str:
    """Why the loss on unrelated text is not taken of that kind of model."""
    return _NO_LOSS.get(kind, "")


def check(kind: ModelKind) -> None:
    """Make sure that the unrelated text is here. Raises AssetError."""
    if kind == "causal-lm":
        tasks.get_task(UNRELATED_TASK).load()


def inference(
    examiner: Examiner, base: Model, tuned: Model, rows: Sequence[Row], heartbeat: Callable[[], None]
) -> dict[str, Any]:
    """The event ``inference``: seconds of one unit (a generated token, its prompt's share included, or a row).

    ``heartbeat`` is called before every pair of requests and may raise.
    """
    kind = examiner.task.kind
    per_request = 1 if kind == "classification" else NEW_TOKENS
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
    import torch

    settle = machine.device_of(examiner.device).synchronise
    request = examiner.prepare([asked])
    with torch.no_grad():
        settle()
        start = time.perf_counter()
        if examiner.task.kind == "classification":
            model(**request)
        else:
            examiner.write(model, request, NEW_TOKENS, least=NEW_TOKENS)
        settle()
    return time.perf_counter() - start


def unrelated(examiner: Examiner, model: Model, heartbeat: Callable[[], None]) -> dict[str, Any]:
    """The event ``unrelated`` of one causal model: nats per token; the first token of a row is not predicted."""
    import torch

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
