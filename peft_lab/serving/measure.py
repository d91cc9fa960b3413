"""What serving three domains from one base costs and gives, measured on finished runs. Torch is imported inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from peft_lab.classroom.asking import in_person
from peft_lab.serving import DOMAINS, SCORED, Runs, keep
from peft_lab.serving.served import Batch, Served, ServedAdapters, ServedLora

if TYPE_CHECKING:
    import torch

    from peft_lab.models.loading import Base

REQUESTS = 8  # of each domain in the mixed batch
SHOWN = 2  # of them on screen
REPEATS = 9
SWITCHES = 200
AT_ONCE = 64  # rows of one forward pass when scoring


@in_person
def measure(runs: Runs) -> dict[str, Any]:
    """Everything that is shown of the finished runs, kept for the next visit.

    Returns:
        ``methods``: for each its ``accuracy`` by adapter and domain, ``mixed_difference`` (largest difference of a
        row's logits from those it gets in a batch of its own kind), ``seconds`` of a batch and of a switch, and
        ``stored_bytes``. ``examples``: the first rows of the mixed batch.

    Raises:
        RunError: a run that is gone.
    """
    import torch

    with torch.no_grad():
        ours, theirs = ServedAdapters(runs["adapters"]), ServedLora(runs["lora"])
        rows = _rows(ours.base)
        batch, asked = _mixed_batch(ours.base, rows)
        served: dict[str, Served] = {"adapters": ours, "lora": theirs}
        answered = {name: _answered(each, rows, batch, asked) for name, each in served.items()}
        examples = _examples(ours, rows, batch, asked)
        times = _times(served, theirs, batch, asked)
    found = {
        "methods": {
            name: {**answered[name], "seconds": times[name], "stored_bytes": each.stored_bytes}
            for name, each in served.items()
        },
        "examples": examples,
        "requests": len(asked),
        "scored": {name: len(pairs) for name, pairs in rows.items()},
        "base_bytes": ours.base.entry.shape.total * 4,
        "dtype": str(ours.base.dtype).removeprefix("torch."),
    }
    keep(runs, found)
    return found


def _answered(served: Served, rows: Mapping[str, Any], batch: Batch, asked: Sequence[str]) -> dict[str, Any]:
    import torch

    accuracy = {
        name: {domain: _accuracy(served, name, pairs) for domain, pairs in rows.items()}
        for name in served.runs
    }
    together = served.mixed(batch, asked)
    alone = torch.empty_like(together)
    for name in served.runs:
        served.use(name)
        mine = [row for row, wanted in enumerate(asked) if wanted == name]
        alone[mine] = served.answer(batch)[mine]
    return {
        "accuracy": accuracy,
        "mixed_difference": float((together - alone).abs().max()),
        "max_logit": float(alone.abs().max()),
    }


def _times(
    served: Mapping[str, Served], lora: ServedLora, batch: Batch, asked: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Medians in seconds. All kinds of work take turns, so that whatever else the machine does meets all alike."""
    work: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, each in served.items():
        work |= {
            (name, "bare"): partial(each.bare, batch),
            (name, "one"): partial(_one, each, batch),
            (name, "mixed"): partial(each.mixed, batch, asked),
            (name, "apart"): partial(_apart, each, batch, asked),
        }
    lora.use(next(iter(lora.runs)))
    work["lora", "merge"] = lora.merge_and_unmerge
    times: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for turn in range(REPEATS + 1):
        for key, task in work.items():
            start = time.perf_counter()
            task()
            if turn:  # the first does not count
                times[key].append(time.perf_counter() - start)
    found: dict[str, dict[str, float]] = {
        name: {"switch": _switch_seconds(each)} for name, each in served.items()
    }
    for (name, kind), taken in times.items():
        found[name][kind] = median(taken)
    return found


def _one(served: Served, batch: Batch) -> None:
    """The same rows, all through one adapter."""
    served.use(next(iter(served.runs)))
    served.answer(batch)


def _apart(served: Served, batch: Batch, asked: Sequence[str]) -> None:
    """The same requests as a batch for each adapter, with a switch between them."""
    for name in served.runs:
        mine = [row for row, wanted in enumerate(asked) if wanted == name]
        served.use(name)
        served.answer({key: tensor[mine] for key, tensor in batch.items()})


def _switch_seconds(served: Served) -> float:
    names = list(served.runs)
    times = []
    for turn in range(SWITCHES):
        start = time.perf_counter()
        served.use(names[turn % len(names)])
        times.append(time.perf_counter() - start)
    return median(times)


def _rows(base: Base) -> dict[str, Any]:
    """Held-out rows of every domain, each with its tokens."""
    from peft_lab import tasks
    from peft_lab.training import batches

    found = {}
    for domain, name in DOMAINS.items():
        task = tasks.get_task(name)
        rows = task.load().test[:SCORED]
        found[domain] = list(
            zip(rows, batches.encode(task, rows, base.tokenizer, task.max_length), strict=True)
        )
    return found


def _collate(base: Base, encoded: Sequence[Any]) -> tuple[Batch, torch.Tensor]:
    from peft_lab.models import loading
    from peft_lab.training import batches

    batch = batches.collate(encoded, loading.pad_token(base.tokenizer), base.device)
    return batch, batch.pop("labels")


def _accuracy(served: Served, name: str, pairs: Sequence[Any]) -> float:
    served.use(name)
    encoded = sorted((tokens for _, tokens in pairs), key=len)
    right = 0
    for first in range(0, len(encoded), AT_ONCE):
        batch, labels = _collate(served.base, encoded[first : first + AT_ONCE])
        right += int((served.answer(batch).argmax(-1) == labels).sum())
    return right / len(encoded)


def _mixed_batch(base: Base, rows: Mapping[str, Any]) -> tuple[Batch, list[str]]:
    """REQUESTS of each domain in turn, as they might arrive, and the adapter that each asks for."""
    order = [(domain, turn) for turn in range(REQUESTS) for domain in rows]
    batch, _ = _collate(base, [rows[domain][turn][1] for domain, turn in order])
    return batch, [domain for domain, _ in order]


def _examples(
    served: Served, rows: Mapping[str, Any], batch: Batch, asked: Sequence[str]
) -> list[dict[str, Any]]:
    from peft_lab.tasks.rated import LABELS

    scores = served.mixed(batch, asked).float().softmax(-1)
    order = [rows[domain][turn][0] for turn in range(REQUESTS) for domain in rows]
    return [
        {
            "adapter": name,
            "text": row.text,
            "label": row.target,
            "answer": LABELS[int(score.argmax())],
            "probability": float(score.max()),
        }
        for name, row, score in list(zip(asked, order, scores, strict=True))[: SHOWN * len(rows)]
    ]
