"""What the checks read: a loss curve in a few figures, and the adapter's tensors by kind."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, pstdev
from typing import Any

from peft_lab.interview.clinic.reading import Material, Tensor
from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import HEADS, ModelShape

FEWEST = 6  # losses; with fewer a curve is not judged
#: Name parts of tensors such as LoRA's B or IA³'s vectors, and the value they start from.
STARTS = {"lora_B": 0.0, "lora_embedding_B": 0.0, "lora_E": 0.0, "ia3_l": 1.0}
EMBEDDINGS = ("embed_tokens", "word_embeddings", "wte", "lm_head", "trainable_tokens", "token_adapter")


@dataclass(frozen=True)
class Curve:
    """Training losses, in nats: where they begin and end.

    Attributes:
        start: mean of the first tenth (at least one loss). end: of the last fifth. best: lowest mean of a fifth.
        top: the largest loss. noise: standard deviation of the differences of successive losses, over √2.
    """

    losses: tuple[float, ...]
    start: float
    end: float
    best: float
    top: float
    noise: float

    @property
    def fall(self) -> float:
        """The share of the first loss that is gone at the end; negative if the loss rose."""
        return 1 - self.end / self.start if self.start else 0.0


def curve_of(losses: Sequence[float]) -> Curve | None:
    """Return the curve's figures; ``None`` for fewer than :data:`FEWEST` losses, or if one is not a number."""
    if len(losses) < FEWEST or not all(math.isfinite(loss) for loss in losses):
        return None
    width = max(2, len(losses) // 5)
    means = [fmean(losses[at : at + width]) for at in range(len(losses) - width + 1)]
    steps = [after - before for before, after in itertools.pairwise(losses)]
    return Curve(
        tuple(losses),
        fmean(losses[: max(1, len(losses) // 10)]),
        means[-1],
        min(means),
        max(losses),
        pstdev(steps) / math.sqrt(2),
    )


@dataclass(frozen=True)
class Features:
    """Features derived from the material."""

    of: Material

    @cached_property
    def losses(self) -> tuple[float, ...]:
        """Training losses in the order they were logged."""
        return tuple(row.loss for row in self.of.rows or () if row.loss is not None)

    @cached_property
    def curve(self) -> Curve | None:
        return curve_of(self.losses)

    @cached_property
    def norms(self) -> tuple[float, ...]:
        """Logged gradient norms."""
        return tuple(row.grad_norm for row in self.of.rows or () if row.grad_norm is not None)

    @cached_property
    def rates(self) -> tuple[float, ...]:
        """Logged learning rates."""
        return tuple(row.rate for row in self.of.rows or () if row.rate is not None)

    @cached_property
    def rising(self) -> bool:
        """Whether every logged rate is above the one before, so that no end of a warm-up was seen."""
        steps = list(itertools.pairwise(self.rates))
        return len(self.rates) >= FEWEST and all(before < after for before, after in steps)

    @cached_property
    def last_step(self) -> float:
        """The last logged step; 0 if the rows have none."""
        return max((row.step or 0 for row in self.of.rows or ()), default=0)

    @cached_property
    def steps(self) -> float | None:
        """The planned number of steps, by arguments or log; ``None`` if neither states it."""
        planned = self.number("max_steps")
        if planned and planned > 0:
            return planned
        return self.of.planned or None

    @cached_property
    def rate(self) -> float | None:
        """The configured rate, else the largest logged one."""
        asked = self.of.argument("learning_rate", "lr")
        if isinstance(asked, int | float) and not isinstance(asked, bool):
            return float(asked)
        return max(self.rates, default=None)

    @cached_property
    def method(self) -> str:
        """``peft_type`` in lower case; without a config the method in the arguments, empty if there is none."""
        adapter = self.of.adapter
        if adapter is None:
            said = self.of.argument("finetuning_type", "method")
            return str(said).lower() if said else ""
        return str(adapter.get("peft_type", "")).lower()

    @cached_property
    def base(self) -> ModelShape | None:
        """The shape of the base in the config, if the catalogue has it: by name, id, or the last part of a path."""
        named = (self.of.adapter or {}).get("base_model_name_or_path")
        if not isinstance(named, str) or not named:
            return None
        last = named.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].lower()
        for entry in catalogue().values():
            source = str(entry.source).split(",")[0].rsplit("/", 1)[-1].lower()
            if last in (entry.name.lower(), source):
                return entry.shape
        return None

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """``target_modules`` if they are a list; else empty."""
        found = (self.of.adapter or {}).get("target_modules")
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @cached_property
    def starting(self) -> dict[str, tuple[Tensor, float]]:
        """Tensors that start from one known value (B at 0), with that value."""
        return {
            name: (tensor, start)
            for name, tensor in (self.of.tensors or {}).items()
            for mark, start in STARTS.items()
            if f".{mark}" in name
        }

    @cached_property
    def untouched(self) -> bool:
        """Whether all of those still have their initial value."""
        return bool(self.starting) and all(
            tensor.size and tensor.finite == 1 and tensor.low == start == tensor.high
            for tensor, start in self.starting.values()
        )

    @cached_property
    def head(self) -> str | None:
        """The name of a task head's tensor; ``None`` if there is none."""
        return next(
            (name for name in self.of.tensors or {} if any(part in HEADS for part in name.split("."))),
            None,
        )

    @cached_property
    def embedded(self) -> bool:
        """Whether the adapter holds any part of an embedding."""
        return any(part in name for name in self.of.tensors or {} for part in EMBEDDINGS)

    def yes(self, *names: str) -> bool:
        """Return whether one of these training arguments is true."""
        return any((self.of.arguments or {}).get(name) is True for name in names)

    def number(self, *names: str) -> float | None:
        """Return the first of these training arguments that was given; ``None`` if it is not a number."""
        found: Any = self.of.argument(*names)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
