"""Record a run of IA³: the factors of every target, and which channels they amplify or inhibit.

Works on a ``PeftModel`` whose layers hold ``ia3_l``; torch is imported inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peft_lab.core.later import torch
from peft_lab.methods.recording.recorder import (
    ADAPTER,
    FreshBase,
    Inputs,
    Recorder,
    Watched,
    merge_check,
    row,
    slot_of,
)
from peft_lab.models import quantise
from peft_lab.models.meta import clean_path, pattern_of

CELLS = 64  # cells of a vector on screen
BINS = 40
FELT = 0.05  # distance from 1 from which a factor counts as amplifying or inhibiting
LISTED = 8  # strongest factors of each direction
# The attention's output map and the map that makes the values it averages, by the endings of their paths.
TWINS = {"attention.output.dense": "attention.self.value", "self_attn.o_proj": "self_attn.v_proj"}


def scaled(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every module that holds a vector, with its path in the bare model."""
    for name, module in model.named_modules():
        if ADAPTER in getattr(module, "ia3_l", {}):
            yield clean_path(name), module


def vectors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """Yield every vector with its module's path in the bare model and whether it multiplies the input. Each has one
    dimension, that of the features it multiplies."""
    for path, module in scaled(model):
        yield path, module.ia3_l[ADAPTER].detach().flatten().float(), bool(module.is_feedforward)


def summary(path: str, vector: torch.Tensor) -> dict[str, Any]:
    """Return one vector's summary for the screen.

    ``vector`` has one dimension.

    Returns:
        ``cells``: distances from 1, each cell the largest of its patch; ``rms`` of all distances; smallest and
        largest factor; how many are above 1 + FELT and below 1 - FELT.
    """
    distance = vector - 1
    return {
        "module": path,
        "size": vector.numel(),
        "cells": cells(distance),
        "rms": float(distance.square().mean().sqrt()),
        "low": float(vector.min()),
        "high": float(vector.max()),
        "amplified": int((distance > FELT).sum()),
        "inhibited": int((distance < -FELT).sum()),
    }


def cells(vector: torch.Tensor) -> list[float]:
    """Return ``vector`` reduced to at most CELLS cells, each the entry of its patch that is largest in magnitude.
    ``vector`` has one dimension."""
    flat, size = vector[None, None], min(CELLS, vector.numel())
    high = torch.nn.functional.adaptive_max_pool1d(flat, size)[0, 0]
    low = -torch.nn.functional.adaptive_max_pool1d(-flat, size)[0, 0]
    strongest = torch.where(high.abs() >= low.abs(), high, low)
    return [float(f"{value:.3g}") for value in strongest.tolist()]


def histograms(
    snapshots: Sequence[Mapping[str, torch.Tensor]],
) -> tuple[list[float], list[dict[str, list[int]]]]:
    """Return histograms of the factors of each kind of target, with the same bins at every snapshot.

    The vectors have one dimension each.

    Returns:
        the BINS + 1 edges; for each snapshot the numbers of factors by kind (path without the layer index).
    """
    values = torch.cat([vector for snapshot in snapshots for vector in snapshot.values()])
    reach = max(float((values - 1).abs().max()), 2 * FELT) * 1.001
    edges = torch.linspace(1 - reach, 1 + reach, BINS + 1)
    found = []
    for snapshot in snapshots:
        kinds: dict[str, list[torch.Tensor]] = {}
        for path, vector in snapshot.items():
            kinds.setdefault(kind_of(path), []).append(vector.cpu())
        found.append(
            {
                kind: torch.histogram(torch.cat(parts), edges).hist.int().tolist()
                for kind, parts in kinds.items()
            }
        )
    return edges.tolist(), found


def kind_of(path: str) -> str:
    """Return ``attention.self.key`` for ``encoder.layer.3.attention.self.key``."""
    return pattern_of(path)[0].split("{}.")[-1]


def twins(snapshot: Mapping[str, torch.Tensor], on_input: Sequence[str]) -> dict[str, Any]:
    """Compare the vectors on the values with those on the input of the attention's output map. Both do the
    same, as ``l ⊙ Σ p v = Σ p (l ⊙ v)``. Empty if a model lacks either, or shares values between heads.

    The vectors have one dimension each.

    Returns:
        ``size``: the number of factors on each side; ``correlation``: between the two sides.
    """
    pairs = [
        (snapshot[value], snapshot[path])
        for path in on_input
        for ending, other in TWINS.items()
        if path.endswith(ending) and (value := path.removesuffix(ending) + other) in snapshot
        if len(snapshot[value]) == len(snapshot[path])
    ]
    if not pairs:
        return {}
    sides = torch.stack([torch.cat([pair[side] for pair in pairs]) for side in (0, 1)])
    return {"size": sides.shape[1], "correlation": float(torch.corrcoef(sides)[0, 1])}


def strongest(snapshot: Mapping[str, torch.Tensor]) -> dict[str, list[dict[str, Any]]]:
    """Return the LISTED largest and smallest factors of all, with module and channel. The vectors have one dimension
    each."""
    rows: list[dict[str, Any]] = [
        {"module": path, "channel": int(channel), "factor": float(vector[channel])}
        for path, vector in snapshot.items()
        for channel in {*vector.topk(min(LISTED, len(vector))).indices.tolist(),
                        *vector.topk(min(LISTED, len(vector)), largest=False).indices.tolist()}
    ]  # fmt: skip
    rows.sort(key=lambda row: float(row["factor"]))
    return {"amplified": rows[: -LISTED - 1 : -1], "inhibited": rows[:LISTED]}


class RunRecorder(Recorder):
    """Record the vectors at some steps, and test merging at the end."""

    sees = True

    def watched(self) -> Sequence[Watched]:
        """Return every vector of factors."""
        return [Gate(path, slot_of(path, self.shape), module) for path, module in scaled(self.model)]

    def now(self) -> dict[str, torch.Tensor]:
        return {path: vector.clone() for path, vector, _ in vectors(self.model)}

    def finish(self, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
        on_input = [path for path, _, inside in vectors(self.model) if inside]
        edges, spread = histograms([vectors for _, vectors in self._kept])
        last = self._kept[-1][1]
        return {
            "snapshots": [
                {
                    "step": step,
                    "vectors": [summary(path, vector) for path, vector in state.items()],
                    "spread": counts,
                }
                for (step, state), counts in zip(self._kept, spread, strict=True)
            ],
            "edges": edges,
            "on_input": on_input,
            "twins": twins(last, on_input),
            "strongest": strongest(last),
            "merge": merge_check(self.model, inputs, scaled),
        }


class Gate(Watched):
    """One vector of factors. ``share`` is of the output: (l - 1) * Wx, or W((l - 1) * x) if it scales the input."""

    kind = "gate"

    def __init__(self, path: str, slot: str, module: Any) -> None:
        self._module, self._vector = module, module.ia3_l[ADAPTER]
        super().__init__(path, slot, (self._vector.numel(),), [self._vector])

    def _distance(self) -> torch.Tensor:
        return self._vector.detach().float().flatten() - 1

    def listen(self) -> Sequence[Any]:
        def compare(_: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
            distance, plain = self._distance(), output.float()
            if self._module.is_feedforward:
                weight = quantise.expanded(self._module.get_base_layer()).detach().float()
                # GPT-2's are (inputs, outputs)
                matrix = weight if weight.shape[1] == distance.numel() else weight.T
                added = (args[0].float() * distance) @ matrix.T
                plain = plain - added
            else:
                added = plain * distance
            self.share = float(added.norm() / plain.norm())

        heard = self._module if self._module.is_feedforward else self._module.get_base_layer()
        return (heard.register_forward_hook(compare),)

    def change(self) -> float:
        return float(self._distance().square().mean().sqrt())

    def tensors(self) -> dict[str, dict[str, Any]]:
        return {"l": row(self._distance())}
