"""What a written script keeps while it trains, so that it can go on, and how it reads the rows it holds out.

Written scripts hold these functions as their source; the checkpoint is one file, whole, from the first rank.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Share of the rows that a script holds out, and the parts of a training after each of which it keeps and reads them.
HELD, PARTS = 0.05, 10


def held_out(rows: int, share: float, seed: int) -> list[int]:
    """Numbers of the rows that are not trained on: the same whichever ranks there are, one at least of several.

    >>> held_out(40, 0.05, 0), held_out(1, 0.05, 0)
    ([24, 26], [])
    """
    number = max(1, round(rows * share)) if rows > 1 and share else 0
    return sorted(random.Random(seed).sample(range(rows), number))


def held_loss(
    model: Any, parts: Sequence[Mapping[str, torch.Tensor]], weights: Sequence[int], world: int
) -> float:
    """The mean loss of held-out rows over all ranks, dropout off; every rank has to ask.

    Args:
        parts: the rank's passes, each with tensors of shape (rows, length). weights: the tokens or rows that each pass
            counts for; 0 for one that is made only because the other ranks make one.
    """
    import torch

    model.eval()
    for module in model.modules():
        if hasattr(module, "quant_state"):
            # On a processor its eval mode repacks the weights, and takes what is gathered anew for repacked.
            module.training = True
    found = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for part, weight in zip(parts, weights, strict=True):
            found += torch.tensor([float(model(**part).loss) * weight, weight], dtype=torch.float64)
    model.train()
    if world > 1:
        found = found.float().to(parts[0]["input_ids"].device)  # a GPU's ranks talk between GPUs
        torch.distributed.all_reduce(found)
    return float(found[0] / found[1])


def counted(labels: torch.Tensor, first: int) -> int:
    """What a mean loss is the mean of: rows where ``labels`` (rows,) are classes, else the tokens of (rows, length)
    from ``first`` on that are learned."""
    return len(labels) if labels.dim() == 1 else int((labels[:, first:] != -100).sum())


def kept_state(model: Any, optimizer: Any, sharded: bool) -> dict[str, Any]:
    """Trained parameters and the optimizer's state, whole, for the first rank; every rank has to ask."""
    if sharded:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        parameters, moments = get_state_dict(model, optimizer, options=options)
        return {"model": parameters, "optimizer": moments}
    trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return {"model": trained, "optimizer": optimizer.state_dict()}


def put_back(model: Any, optimizer: Any, state: Mapping[str, Any], sharded: bool) -> None:
    """What :func:`kept_state` gave, into the same model and optimizer; every rank has to."""
    if sharded:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False
        )
        set_state_dict(
            model,
            optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=options,
        )
        return
    model.load_state_dict(state["model"], strict=False)
    optimizer.load_state_dict(state["optimizer"])


def keep(file: Path, state: Mapping[str, Any], device: str, rank: int, world: int) -> None:
    """Write a checkpoint in place of the one before, with every rank's random numbers (those of dropout)."""
    import torch

    own = [torch.get_rng_state()]
    if not device.startswith("cpu"):
        own.append(torch.get_device_module().get_rng_state())
    everyones: list[Any] = [own] * world
    if world > 1:
        torch.distributed.all_gather_object(everyones, own)
    if rank == 0:
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(".new")
        torch.save({**state, "random": everyones}, scratch)
        scratch.replace(file)  # whole or not at all


def kept(file: Path, same: Mapping[str, Any], rank: int) -> dict[str, Any] | None:
    """The checkpoint to go on from, random numbers put back; ``None`` where there is none.

    Raises:
        SystemExit: it is of other rows, settings or ranks than ``same`` says.
    """
    import torch

    if not file.exists():
        return None
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    if state["same"] != dict(same):
        raise SystemExit(f"{file} is of other rows, settings or ranks: name another folder, or delete it.")
    own = state["random"][rank]
    torch.set_rng_state(own[0])
    if len(own) > 1:
        torch.get_device_module().set_rng_state(own[1])
    return state
