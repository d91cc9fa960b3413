"""What the checks read: a loss curve in a few figures, the adapter's tensors sorted by what they are."""

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

FEWEST = 6  # losses below which nothing is said about a curve
#: How B, IA³'s vectors and the like are called, and the value they start from.
STARTS = {"lora_B": 0.0, "lora_embedding_B": 0.0, "lora_E": 0.0, "ia3_l": 1.0}
EMBEDDINGS = ("embed_tokens", "word_embeddings", "wte", "lm_head", "trainable_tokens", "token_adapter")


@dataclass(frozen=True)
class Curve:
    """Training losses, in nats: where they begin and end.

    Attributes:
        start: mean of the first tenth (at least one loss). end: of the last fifth. best: lowest mean of a fifth.
        top: the largest loss. noise: standard deviation of the steps from one loss to the next, over √2.
    """

    losses: tuple[float, ...]
    start: float
    end: float
    best: float
    top: float
    noise: float

    @property
    def fall(self) -> float:
        """Share of the first loss that is gone at the end; negative when it rose."""
        return 1 - self.end / self.start if self.start else 0.0


def curve_of(losses: Sequence[float]) -> Curve | None:
    """``None`` for fewer than :data:`FEWEST` losses, or when one of them is no number."""
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
    """Material, looked at."""

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
        """Norms of the gradients."""
        return tuple(row.grad_norm for row in self.of.rows or () if row.grad_norm is not None)

    @cached_property
    def rates(self) -> tuple[float, ...]:
        """Learning rates as they were logged."""
        return tuple(row.rate for row in self.of.rows or () if row.rate is not None)

    @cached_property
    def rising(self) -> bool:
        """Whether every logged rate is above the one before, so that no warm-up was seen to end."""
        steps = list(itertools.pairwise(self.rates))
        return len(self.rates) >= FEWEST and all(before < after for before, after in steps)

    @cached_property
    def last_step(self) -> float:
        """The last step that was logged; 0 where rows do not say."""
        return max((row.step or 0 for row in self.of.rows or ()), default=0)

    @cached_property
    def steps(self) -> float | None:
        """How many steps the run was to have, by its arguments or its log; ``None`` where neither says it."""
        planned = self.number("max_steps")
        if planned and planned > 0:
            return planned
        return self.of.planned or None

    @cached_property
    def rate(self) -> float | None:
        """The rate that was asked for, else the largest that was logged."""
        asked = self.of.argument("learning_rate", "lr")
        if isinstance(asked, int | float) and not isinstance(asked, bool):
            return float(asked)
        return max(self.rates, default=None)

    @cached_property
    def method(self) -> str:
        """``peft_type`` in lower case; ``full`` where arguments say so, empty where nothing says it."""
        adapter = self.of.adapter
        if adapter is None:
            said = self.of.argument("finetuning_type", "method")
            return str(said).lower() if said else ""
        return str(adapter.get("peft_type", "")).lower()

    @cached_property
    def base(self) -> ModelShape | None:
        """The base that the config names, where the catalogue has it: by name, id, or the last part of a path."""
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
        """``target_modules`` where they are a list."""
        found = (self.of.adapter or {}).get("target_modules")
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @cached_property
    def starting(self) -> dict[str, tuple[Tensor, float]]:
        """Tensors that begin at one known value (B at 0), with that value."""
        return {
            name: (tensor, start)
            for name, tensor in (self.of.tensors or {}).items()
            for mark, start in STARTS.items()
            if f".{mark}" in name
        }

    @cached_property
    def untouched(self) -> bool:
        """Whether all of those are still where they began."""
        return bool(self.starting) and all(
            tensor.size and tensor.finite == 1 and tensor.low == start == tensor.high
            for tensor, start in self.starting.values()
        )

    @cached_property
    def head(self) -> str | None:
        """The name of a tensor of a task head."""
        return next(
            (name for name in self.of.tensors or {} if any(part in HEADS for part in name.split("."))),
            None,
        )

    @cached_property
    def embedded(self) -> bool:
        """Whether the adapter holds anything of an embedding."""
        return any(part in name for name in self.of.tensors or {} for part in EMBEDDINGS)

    def yes(self, *names: str) -> bool:
        """Whether one of these training arguments is switched on."""
        return any((self.of.arguments or {}).get(name) is True for name in names)

    def number(self, *names: str) -> float | None:
        """The first of these training arguments, where it is a number."""
        found: Any = self.of.argument(*names)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
