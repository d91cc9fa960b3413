"""How far training moved each bias, and which of these moves the answers depend on. Torch is imported inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peft_lab.methods.adapters.insight import answers
from peft_lab.models.shapes import is_bias

if TYPE_CHECKING:
    import torch


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the trained biases, except those of a task head, by their path in the model."""
    from peft_lab.models.shapes import in_head

    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and is_bias(name) and not in_head(name)
    }


def moves(now: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Return, for every bias, root mean square and maximum of its entries' moves, and its initial root mean square.

    ``now`` and ``start``: biases of one dimension, by name.
    """
    rows = []
    for name, value in now.items():
        move = value.detach().float() - start[name].float()
        rows.append(
            {
                "bias": name,
                "size": move.numel(),
                "moved": float(move.square().mean().sqrt()),
                "most": float(move.abs().max()),
                "start": float(start[name].float().square().mean().sqrt()),
            }
        )
    return rows


def kind_of(name: str) -> tuple[str, int | None]:
    """Split ``bert.encoder.layer.3.output.dense.bias`` into (``output.dense``, 3); outside layers into path, None."""
    from peft_lab.models.meta import pattern

    path, layer = pattern(name.removesuffix(".bias"))
    return path.split("{}.")[-1], layer


@contextmanager
def put_back(
    biases: Mapping[str, torch.nn.Parameter], start: Mapping[str, torch.Tensor], kind: str
) -> Iterator[None]:
    """Reset the biases of one kind to their values before training, until the block is left.

    ``start``: biases of one dimension, by name.
    """
    import torch

    chosen = {name: bias for name, bias in biases.items() if kind_of(name)[0] == kind}
    kept = {name: bias.detach().clone() for name, bias in chosen.items()}
    try:
        with torch.no_grad():
            for name, bias in chosen.items():
                bias.copy_(start[name])
        yield
    finally:
        with torch.no_grad():
            for name, bias in chosen.items():
                bias.copy_(kept[name])


def without(
    model: torch.nn.Module,
    biases: Mapping[str, torch.nn.Parameter],
    start: Mapping[str, torch.Tensor],
    inputs: Mapping[str, torch.Tensor],
) -> list[dict[str, Any]]:
    """Measure what each kind of bias is worth: reset it and return the mean change of the logits and the number of rows
    whose answer changes. The largest change comes first.

    ``start``: biases of one dimension, by name. ``inputs``: ids and mask of shape (rows, length).
    """
    tuned = answers(model, inputs)
    rows = []
    for kind in dict.fromkeys(kind_of(name)[0] for name in biases):
        with put_back(biases, start, kind):
            found = answers(model, inputs)
        rows.append(
            {
                "kind": kind,
                "mean_change": float((found - tuned).abs().mean()),
                "changed": int((found.argmax(-1) != tuned.argmax(-1)).sum()),
            }
        )
    return sorted(rows, key=lambda row: -float(row["mean_change"]))
