"""A short training of a type on a live model: does the loss fall, and at which rate.

A few rows are learnt by heart. That says whether a type trains here at all, not how good it is.
Torch is imported inside.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.atlas.attach import attach, inputs_for
from peft_lab.atlas.base import AtlasType
from peft_lab.methods.base import TaskType
from peft_lab.models.shapes import HEADS, ModelShape

if TYPE_CHECKING:
    import torch

ShortBatch = dict[str, "torch.Tensor"]
STEPS = 20
#: Of the run that a page offers, and after how many seconds it makes no more, once :data:`STEPS` are made.
SHOWN, PATIENCE = 60, 60.0
#: Rows and tokens a row, by kind: the decoder is the larger model.
SIZES = {"causal": (1, 12), "encoder": (2, 16)}
#: What the rows are of, by kind.
TASKS = {"causal": "json", "encoder": "sentiment"}
#: Live models by kind, and the task type that a type is put on them with.
LIVE = {"causal": "smollm2-135m", "encoder": "minilm-l6"}
#: Of a type's start.
SEED = 1
#: A fall of less than this share of the loss is none.
LEAST = 0.001


@dataclass(frozen=True)
class ShortRun:
    """Losses of the same rows, in nats: before, in the steps, and after."""

    rate: float
    before: float
    steps: tuple[float, ...]
    after: float

    @property
    def fell(self) -> bool:
        return self.after < self.before * (1 - LEAST)


def rows_for(name: str, layers: int | None = None) -> tuple[Any, ShortBatch]:
    """A live model (float32, so that small changes show) and the rows to learn. ``layers``: keep the first ones."""
    import torch

    from peft_lab.models.loading import load_base
    from peft_lab.training.tasks import get_task

    labels = 2 if name == LIVE["encoder"] else None
    many, longest = SIZES["encoder" if labels else "causal"]
    torch.manual_seed(0)
    base = load_base(name, num_labels=labels, dtype=torch.float32)
    if layers is not None:
        stack: Any = base.model
        stack.model.layers = stack.model.layers[:layers]
        stack.config.num_hidden_layers = layers
    tokenizer: Any = base.tokenizer
    task = get_task(TASKS["encoder" if labels else "causal"])
    rows = task.load().train[:many]
    texts = [row.text if labels else f"{row.text}{row.target}" for row in rows]
    made = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=longest)
    batch = {"input_ids": made["input_ids"], "attention_mask": made["attention_mask"]}
    if labels:
        batch["labels"] = torch.tensor([task.labels.index(row.target) for row in rows])
    else:
        batch["labels"] = made["input_ids"].masked_fill(made["attention_mask"] == 0, -100)
    return base, batch


# Written scripts hold this function as its source.
def learn(
    model: Any, inputs: dict[str, Any], rate: float, steps: int, least: int = 0, seconds: float = math.inf
) -> tuple[float, list[float], float]:
    """Losses before, in ``steps`` steps of Adam on the same rows, and after. Once ``least`` are made, no step is begun
    when ``seconds`` are over."""
    import torch

    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate)
    until = time.monotonic() + seconds
    model.eval()
    with torch.no_grad():
        before = float(model(**inputs).loss)
    model.train()
    seen: list[float] = []
    while len(seen) < steps and (len(seen) < least or time.monotonic() < until):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    model.eval()
    with torch.no_grad():
        after = float(model(**inputs).loss)
    return before, seen, after


def short_run(
    model: Any,
    entry: AtlasType,
    shape: ModelShape,
    task: TaskType,
    batch: ShortBatch,
    rate: float,
    steps: int,
    seconds: float = math.inf,
) -> ShortRun:
    """Put the type on the model and learn the rows. A task head stays as it started, so that what falls is owed to the
    type. ``seconds``: after which no step is begun beyond :data:`STEPS`."""
    import torch

    torch.manual_seed(SEED)
    adapted: Any = attach(model, entry, shape, task, batch)
    for name, value in adapted.named_parameters():
        if any(f".{head}." in name for head in HEADS):
            value.requires_grad_(False)
    before, seen, after = learn(adapted, inputs_for(entry, batch), rate, steps, STEPS, seconds)
    return ShortRun(rate, before, tuple(seen), after)


def train_live(
    name: str,
    kind: str,
    steps: int = STEPS,
    rates: tuple[float, ...] = (),
    start: Any = None,
    seconds: float = math.inf,
) -> ShortRun:
    """A type's short training on a live model; of several rates the first at which the loss falls, else the last.

    ``start``: what :func:`rows_for` gave, to be used again; the model is copied.
    """
    from peft_lab.atlas import get_entry

    entry = get_entry(name)
    base, batch = start or rows_for(LIVE[kind])
    task: TaskType = "SEQ_CLS" if kind == "encoder" else "CAUSAL_LM"
    run = None
    for rate in rates or (entry.rate, entry.rate * 10, entry.rate / 10):
        run = short_run(copy.deepcopy(base.model), entry, base.entry.shape, task, batch, rate, steps, seconds)
        if run.fell:
            break
    assert run is not None
    return run


def try_live(name: str, kind: str, steps: int, rates: tuple[float, ...]) -> ShortRun:
    """:func:`train_live` for a page: a type whose steps are slow makes fewer, but :data:`STEPS` at least.

    Raises:
        Unsupported: PEFT cannot train it there, with PEFT's reason.
    """
    from peft_lab.core.errors import Unsupported
    from peft_lab.models.catalogue import REFUSALS, reason

    try:
        return train_live(name, kind, steps, tuple(rates), seconds=PATIENCE)
    except REFUSALS as error:
        raise Unsupported(f"PEFT cannot train this here: {reason(error)}") from error
