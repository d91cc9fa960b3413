"""Define the functions of a plan's script: updates over many ranks, the loss on held-out rows, and checkpoints.

``templates/plan.py.j2`` prints their source and calls them.
"""

from __future__ import annotations

import json
import math
import os
import platform
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.engine.sharding.tensor import split_matrices

if TYPE_CHECKING:
    import torch

# ----------------------------------------
# Functions in which all ranks of a training take part. Exported scripts contain their source.
#
# Sharding is PyTorch's: DistributedDataParallel, or ``fully_shard`` on every layer and then on the whole (FSDP2).
# The step itself is :func:`peft_lab.training.step.train_step`.


def begin(device: str, sharding: str) -> tuple[int, int]:
    """Join the ranks that torchrun has started, over NCCL between GPUs or gloo between CPU processes. They
    wait up to four hours, not torch's ten minutes, as the first may fetch and load a model for all.

    Offloaded gradients are in main memory, where their norm is taken too: NCCL cannot sum there
    (github.com/pytorch/pytorch/issues/148532), so gloo does.

    Returns:
        this rank, and the number of ranks.
    """
    import torch

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        between = "cpu:gloo,cuda:nccl" if sharding.endswith("+offload") else "nccl"
        backend = "gloo" if device == "cpu" else between
        torch.distributed.init_process_group(backend, timeout=timedelta(hours=4))
    return rank, world


def end(world: int) -> None:
    """Leave the other ranks, which must be the last thing that a process does."""
    import torch

    if world == 1:
        return
    backend = torch.distributed.get_backend_config()
    torch.distributed.destroy_process_group()
    if "gloo" in backend:
        # gloo's threads may still hold a tensor, and abort the process where Python is taken down before they let go
        # (github.com/pytorch/pytorch/pull/179291). All is written by now, so Python is not taken down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def layers_of(model: Any) -> list[torch.nn.Module]:
    """Return the repeated blocks, by transformers' class names for them. Raises ValueError if the model names none."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = set(inner._no_split_modules or ())
    layers = [module for module in inner.modules() if type(module).__name__ in names]
    if not layers:
        raise ValueError("this model does not state its layers, so it cannot be sharded by layers")
    return layers


def received(module: Any, device: str) -> None:
    """Copy a module's parameters and buffers from the first rank to the device of every rank, even if the others
    built the module without values. Parameters that are split already stay as they are.
    """
    import torch
    from torch.distributed.tensor import DTensor

    places = [
        (held, name)
        for part in module.modules()
        for held in (part._parameters, part._buffers)
        for name, own in held.items()
        if own is not None and not isinstance(own, DTensor)
    ]
    # The loaded model may differ from the one built: in a precision, or because a file unties two tensors.
    described = [[(held[name].dtype, held[name].requires_grad, id(held[name])) for held, name in places]]
    torch.distributed.broadcast_object_list(described, 0, device=torch.device(device))
    sent: dict[int, torch.Tensor] = {}  # by the first rank's tensor: a tied one stays tied
    for (held, name), (dtype, learns, tensor) in zip(places, described[0], strict=True):
        own = held[name]
        if tensor not in sent:
            whole = torch.empty(own.shape, dtype=dtype, device=device) if own.is_meta else own.data.to(device)
            torch.distributed.broadcast(whole, 0)
            sent[tensor] = torch.nn.Parameter(whole, learns) if isinstance(own, torch.nn.Parameter) else whole
        held[name] = sent[tensor]


def spread(model: Any, sharding: str, device: str, computes: torch.dtype | None, alone: bool = False) -> Any:
    """Return the model as the ranks share it: ``ddp``, ``tp``, ``fsdp2``, ``fsdp2+offload``, or ``none``.

    Args:
        alone: whether only the first rank has loaded it, and sends its layers one by one to the others.
        computes: the precision in which gathered parameters compute, if it is not the one they are stored in; their
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
    # A head trained beside LoRA has another precision, and the trained parameters of one part must share one.
    heads = [part for part in model.modules() if type(part).__name__ == "ModulesToSaveWrapper"]
    for part in [*layers_of(model), *heads, model]:
        if alone:
            received(part, device)
        fully_shard(part, **how)
    return model


def gathered(model: Any) -> dict[str, Any]:
    """Return the trained parameters, whole, in the first rank's main memory; every rank must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    return dict(get_model_state_dict(model, options=options))


def shares(rows: Sequence[int], rank: int, world: int, batch: int) -> list[Sequence[int]]:
    """Return one rank's rows of an update, cut into passes of ``batch`` rows. Every rank makes equally many passes.

    >>> shares([0, 1, 2, 3, 4, 5], rank=1, world=2, batch=2)
    [[1, 3], [5]]
    """
    own = rows[rank::world]
    passes = math.ceil(len(rows) / (world * batch))
    return [own[start * batch : (start + 1) * batch] for start in range(passes)]


def predicted(parts: Sequence[Mapping[str, torch.Tensor]], world: int) -> int:
    """Return the number of tokens that an update learns to predict, over all its passes and ranks.

    ``parts``: the rank's passes, labels of shape (rows, length); the first token of a row is never predicted.
    """
    import torch

    count = torch.stack([(part["labels"][:, 1:] != -100).sum() for part in parts]).sum()
    if world > 1:
        torch.distributed.all_reduce(count)
    return int(count)


def update_loss(
    model: Any, parts: Sequence[Mapping[str, torch.Tensor]], tokens: int, world: int
) -> torch.Tensor:
    """Return an update's mean loss, a scalar whose backward pass is the last part's; the others' are run here.
    ``parts``: the rank's passes, each with tensors of shape (rows, length). ``tokens``: that the whole update predicts;
    the ranks' gradients are averaged, so each loss is counted ``world`` times. 0: rows are counted, not tokens."""
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
    raise ValueError("an update has no rows")


def averaged(value: torch.Tensor, world: int) -> float:
    """Return the mean of a scalar over the ranks."""
    import torch

    total = value.detach().float().clone()
    if world > 1:
        torch.distributed.all_reduce(total)
    return float(total) / world


# ----------------------------------------
# The checkpoints of an exported script, and its loss on the rows it holds out.
#
# Exported scripts contain the source of these functions; the first rank writes the whole checkpoint as one file.


#: The share of rows that a script holds out, and the number of checkpoints, at each of which it computes their loss.
HELD, PARTS = 0.05, 10


def held_out(rows: int, share: float, seed: int) -> list[int]:
    """Return the numbers of the held-out rows: the same for any number of ranks, at least one if there are several.

    >>> held_out(40, 0.05, 0), held_out(1, 0.05, 0)
    ([24, 26], [])
    """
    number = max(1, round(rows * share)) if rows > 1 and share else 0
    return sorted(random.Random(seed).sample(range(rows), number))


def held_loss(
    model: Any, parts: Sequence[Mapping[str, torch.Tensor]], weights: Sequence[int], world: int
) -> float:
    """Return the mean loss of held-out rows over all ranks, without dropout; every rank must call it. ``parts``: the
    rank's passes, each with tensors of shape (rows, length). ``weights``: the tokens or rows that each pass counts for;
    0 for one that is made only because the other ranks make one."""
    import torch

    model.eval()
    for module in model.modules():
        if hasattr(module, "quant_state"):
            # On a CPU its eval mode repacks the weights, and takes newly gathered ones for repacked.
            module.training = True
    sums = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for part, weight in zip(parts, weights, strict=True):
            sums += torch.tensor([float(model(**part).loss) * weight, weight], dtype=torch.float64)
    model.train()
    if world > 1:
        sums = sums.float().to(parts[0]["input_ids"].device)  # ranks on GPUs exchange tensors on GPUs
        torch.distributed.all_reduce(sums)
    return float(sums[0] / sums[1])


def counted(labels: torch.Tensor, first: int) -> int:
    """Return how many rows or tokens a mean loss is taken over: rows where ``labels`` (rows,) are classes, else the
    learned tokens of (rows, length) from ``first`` on.
    """
    return len(labels) if labels.dim() == 1 else int((labels[:, first:] != -100).sum())


def kept_state(model: Any, optimizer: Any, sharded: bool) -> dict[str, Any]:
    """Return trained parameters and the optimizer's state, whole, for the first rank; every rank must call it."""
    if sharded:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        parameters, moments = get_state_dict(model, optimizer, options=options)
        return {"model": parameters, "optimizer": moments}
    trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return {"model": trained, "optimizer": optimizer.state_dict()}


def put_back(model: Any, optimizer: Any, state: Mapping[str, Any], sharded: bool) -> None:
    """Restore the result of :func:`kept_state` in the same model and optimizer; every rank must call it."""
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
    """Write a checkpoint in place of the previous one, with every rank's random state (for dropout)."""
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
    """Return the checkpoint to continue from, random state restored; ``None`` if there is none. Raises SystemExit if
    its rows, settings or ranks differ from ``same``."""
    import torch

    if not file.exists():
        return None
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    if state["same"] != dict(same):
        raise SystemExit(
            f"{file} is from other rows, settings or ranks. Name another folder, or delete this file."
        )
    own = state["random"][rank]
    torch.set_rng_state(own[0])
    if len(own) > 1:
        torch.get_device_module().set_rng_state(own[1])
    return state


# ----------------------------------------
# How a training outside the lab reports its progress, in the format of :mod:`peft_lab.runs.events`. Exported scripts
# contain these functions' source, which needs nothing of this package; ``runs --adopt`` adopts such a folder as a run.


def tell(folder: Path | None, kind: str, **fields: Any) -> None:
    """Append one event to the folder's file, if there is a folder. Raises ValueError for NaN and infinity."""
    if folder is not None:
        line = json.dumps({"time": time.time(), "type": kind, **fields}, allow_nan=False)
        with (folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def begin_telling(folder: Path | None, spec: dict[str, Any], facts: dict[str, Any], first: int = 0) -> None:
    """Write the first events, touch ``beat`` every five seconds from now on, and report a fatal error. ``first``: steps
    that were made before; an earlier file's events about them are kept."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    events = folder / "events.jsonl"
    before = [json.loads(line) for line in events.read_text("utf-8").splitlines()] if events.exists() else []
    events.write_text("", "utf-8")
    (folder / "spec.json").write_text(json.dumps(spec, indent=2) + "\n", "utf-8")
    node = platform.node()
    owner = {"pid": os.getpid(), "started": time.time(), "host": f"{node}, outside PEFT Lab", "name": node}
    tell(folder, "queued", owner=owner, carrier="script")
    tell(folder, "starting")
    tell(folder, "ready", **facts)
    for event in before:
        if event["type"] == "step" and event["step"] <= first:
            tell(
                folder, "step", **{key: value for key, value in event.items() if key not in ("type", "time")}
            )

    def beat() -> None:
        while folder.is_dir():
            (folder / "beat").touch()
            time.sleep(5)

    def failed(kind: Any, error: Any, trace: Any) -> None:
        tell(folder, "failed", message=f"{kind.__name__}: {error}")
        sys.__excepthook__(kind, error, trace)

    threading.Thread(target=beat, daemon=True).start()
    sys.excepthook = failed
