"""What the ranks of a training do together. Written scripts hold these functions as their source.

Sharding is PyTorch's: DistributedDataParallel, or ``fully_shard`` on every layer and then on the whole (FSDP2). The
step itself is :func:`peft_lab.training.step.train_step`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from peft_lab.sharding.tensor import split_matrices

if TYPE_CHECKING:
    import torch


def begin(device: str, sharding: str) -> tuple[int, int]:
    """Join the other ranks that torchrun has started: NCCL between GPUs, gloo between processes of a CPU. They wait for
    each other as long as the first may need to fetch and load a model for all, not torch's ten minutes.

    What is offloaded has its gradients in main memory, where their norm is taken too: NCCL sums up nothing there
    (github.com/pytorch/pytorch/issues/148532), so gloo does.

    Returns:
        this rank, and how many there are.
    """
    import torch

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        between = "cpu:gloo,cuda:nccl" if sharding.endswith("+offload") else "nccl"
        met = "gloo" if device == "cpu" else between
        torch.distributed.init_process_group(met, timeout=timedelta(hours=4))
    return rank, world


def end(world: int) -> None:
    """Leave the other ranks, which must be the last thing that a process does."""
    import torch

    if world == 1:
        return
    met = torch.distributed.get_backend_config()
    torch.distributed.destroy_process_group()
    if "gloo" in met:
        # gloo's threads may still hold a tensor, and abort the process where Python is taken down before they let go
        # (github.com/pytorch/pytorch/pull/179291). All is written by now, so Python is not taken down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def layers_of(model: Any) -> list[torch.nn.Module]:
    """The repeated blocks, which transformers names for each of its models.

    Raises:
        ValueError: a model that names none.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = set(inner._no_split_modules or ())
    found = [module for module in inner.modules() if type(module).__name__ in names]
    if not found:
        raise ValueError("this model does not say what its layers are, so it cannot be split by layers")
    return found


def received(module: Any, device: str) -> None:
    """A module's parameters and buffers, as the first rank has them, on the device of every rank: the others may have
    built the module without any. What is split already stays as it is."""
    import torch
    from torch.distributed.tensor import DTensor

    places = [
        (held, name)
        for part in module.modules()
        for held in (part._parameters, part._buffers)
        for name, own in held.items()
        if own is not None and not isinstance(own, DTensor)
    ]
    # What a model is loaded as may differ from what is built: in a precision, or where a file unties two tensors.
    told = [[(held[name].dtype, held[name].requires_grad, id(held[name])) for held, name in places]]
    torch.distributed.broadcast_object_list(told, 0, device=torch.device(device))
    got: dict[int, torch.Tensor] = {}  # by the first rank's tensor: a tied one stays tied
    for (held, name), (dtype, learns, tensor) in zip(places, told[0], strict=True):
        own = held[name]
        if tensor not in got:
            whole = torch.empty(own.shape, dtype=dtype, device=device) if own.is_meta else own.data.to(device)
            torch.distributed.broadcast(whole, 0)
            got[tensor] = torch.nn.Parameter(whole, learns) if isinstance(own, torch.nn.Parameter) else whole
        held[name] = got[tensor]


def spread(model: Any, sharding: str, device: str, computes: torch.dtype | None, alone: bool = False) -> Any:
    """The model as the ranks share it: ``ddp``, ``tp``, ``fsdp2``, ``fsdp2+offload``, or ``none``.

    Args:
        alone: whether the first rank alone has loaded it, and the others are sent its layers one by one.
        computes: the precision in which gathered parameters compute where it is not the one they are kept in; their
            gradients are then added up in float32.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard

    kind = device.partition(":")[0]
    if sharding == "none" or not torch.distributed.is_initialized():
        return model.to(device)
    if sharding == "ddp":
        where = [device] if kind == "cuda" else None
        return torch.nn.parallel.DistributedDataParallel(model.to(device), device_ids=where)
    mesh = init_device_mesh(kind, (torch.distributed.get_world_size(),))
    if sharding == "tp":
        return split_matrices(model, mesh, device)
    how: dict[str, Any] = {"mesh": mesh}
    if computes is not None:
        how["mp_policy"] = MixedPrecisionPolicy(param_dtype=computes, reduce_dtype=torch.float32)
    if sharding == "fsdp2+offload" and kind == "cuda":
        how["offload_policy"] = CPUOffloadPolicy()
    # A head that learns beside LoRA is kept in another precision, and what learns in one part has one.
    heads = [part for part in model.modules() if type(part).__name__ == "ModulesToSaveWrapper"]
    for part in [*layers_of(model), *heads, model]:
        if alone:
            received(part, device)
        fully_shard(part, **how)
    return model


def gathered(model: Any) -> dict[str, Any]:
    """What was trained, whole, in the first rank's main memory; every rank has to ask."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    return dict(get_model_state_dict(model, options=options))


def shares(rows: Sequence[int], rank: int, world: int, batch: int) -> list[Sequence[int]]:
    """One rank's rows of an update, cut into passes of ``batch`` rows. Every rank makes as many passes as the others.

    >>> shares([0, 1, 2, 3, 4, 5], rank=1, world=2, batch=2)
    [[1, 3], [5]]
    """
    own = rows[rank::world]
    passes = math.ceil(len(rows) / (world * batch))
    return [own[start * batch : (start + 1) * batch] for start in range(passes)]


def predicted(parts: Sequence[Mapping[str, torch.Tensor]], world: int) -> int:
    """Tokens that an update learns to predict, over all its passes and ranks.

    ``parts``: the rank's passes, labels of shape (rows, length); the first token of a row is predicted by nothing.
    """
    import torch

    count = torch.stack([(part["labels"][:, 1:] != -100).sum() for part in parts]).sum()
    if world > 1:
        torch.distributed.all_reduce(count)
    return int(count)


def update_loss(
    model: Any, parts: Sequence[Mapping[str, torch.Tensor]], tokens: int, world: int
) -> torch.Tensor:
    """The mean loss of an update, a scalar whose backward pass is that of the last part; the others' are made here.

    Args:
        parts: the rank's passes, each with tensors of shape (rows, length). tokens: that the whole update predicts; the
            ranks' gradients are averaged, so each loss is counted ``world`` times. 0: rows are counted, not tokens.
    """
    total: Any = 0.0
    for number, part in enumerate(parts, start=1):
        last = number == len(parts)
        # DDP would average after every pass; once is enough.
        alone = nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync()
        with alone:
            if tokens:
                loss = model(**part, num_items_in_batch=tokens).loss * world
            else:
                loss = model(**part).loss / len(parts)
            if last:
                return loss + total
            loss.backward()
        total = total + loss.detach()
    raise ValueError("an update without rows")


def averaged(value: torch.Tensor, world: int) -> float:
    """The mean of a number without dimensions over the ranks."""
    import torch

    found = value.detach().float().clone()
    if world > 1:
        torch.distributed.all_reduce(found)
    return float(found) / world
