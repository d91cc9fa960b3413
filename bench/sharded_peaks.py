"""Peaks of a step on several devices, simulated beside measured: real processes that talk over gloo, a tracker in each.

    python -m bench.sharded_peaks [--kinds tp] [--methods ia3] [--json]

Small Llama-shaped models on this machine's processor, 2 and 4 processes. What is measured is each process's tensors, by
the tracker that the simulation uses too; the simulation runs for the processor as well (its kernels, its optimizer).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

from peft_lab.engine.build import Blueprint
from peft_lab.engine.request import StepSetting
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.methods import get_method
from peft_lab.takeaway.ranks import end
from tools.ports import joined, meeting

LAYERS, BATCH, SEQ = 7, 2, 96
REST = 0.02  # seconds
ABOVE = 1.0005  # of what is simulated: a step with tensor parallelism that peaks higher is made once more
_BESIDE = ("ia3", "bitfit", "prompt", "ptuning", "adapters", "prefix")


@dataclass(frozen=True)
class Case:
    """A model adapted by one of the lab's methods, put on devices, and the weights' precision."""

    name: str
    method: str
    how: Sharding
    dtype: str = "float32"
    checkpointing: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    packed: bool = False


def cases(devices: int) -> list[Case]:
    """All that are measured with so many processes."""
    return [
        Case("LoRA, FSDP2", "lora", Sharding("fsdp2", devices)),
        Case("LoRA, FSDP2, layers kept whole", "lora", Sharding("fsdp2", devices, reshard=False)),
        Case("LoRA in float32 beside bfloat16, FSDP2", "lora", Sharding("fsdp2", devices), "bfloat16"),
        Case("full, FSDP2", "full", Sharding("fsdp2", devices)),
        Case("full in bfloat16, FSDP2", "full", Sharding("fsdp2", devices), "bfloat16"),
        Case("full in bfloat16, FSDP2, checkpointing", "full", Sharding("fsdp2", devices), "bfloat16", True),
        Case("full, FSDP2, checkpointing", "full", Sharding("fsdp2", devices), checkpointing=True),
        Case(
            "full, FSDP2, computing in bfloat16", "full",
            Sharding("fsdp2", devices, compute="bfloat16", reduce="float32"),
        ),
        Case("full, FSDP2, ends apart", "full", Sharding("fsdp2", devices, apart=True)),
        Case("full, ZeRO-2", "full", Sharding("zero2", devices)),
        Case(
            "full, FSDP2, two passes, gradients whole between", "full",
            Sharding("fsdp2", devices, accumulate=2, sync_each=False), checkpointing=True,
        ),
        Case("LoRA, DDP", "lora", Sharding("ddp", devices)),
        Case("full, DDP", "full", Sharding("ddp", devices)),
        Case("full, DDP, gradients in buckets", "full", Sharding("ddp", devices, bucket_view=True)),
        Case("LoRA, tensor parallelism", "lora", Sharding("tp", devices)),
        Case("LoRA, tensor parallelism, checkpointing", "lora", Sharding("tp", devices), checkpointing=True),
        Case("LoRA in float32 beside bfloat16, tensor parallelism", "lora", Sharding("tp", devices), "bfloat16"),
        Case("full, tensor parallelism", "full", Sharding("tp", devices)),
        Case("full in bfloat16, tensor parallelism", "full", Sharding("tp", devices), "bfloat16"),
        Case("full, tensor parallelism, two passes", "full", Sharding("tp", devices, accumulate=2)),
        *_by_matrices(devices),
    ]  # fmt: skip


def _by_matrices(devices: int) -> list[Case]:
    """What tensor parallelism splits beside LoRA and full fine-tuning."""
    how, titles = Sharding("tp", devices), {slug: get_method(slug).title for slug in _BESIDE}
    found = [Case(f"{title}, tensor parallelism", slug, how) for slug, title in titles.items()]
    found += [
        Case(f"{title} in float32 beside bfloat16, tensor parallelism", slug, how, "bfloat16")
        for slug, title in titles.items()
    ]
    found += [
        Case(f"{title}, tensor parallelism, checkpointing", slug, how, checkpointing=True)
        for slug, title in titles.items()
        if slug != "prefix"  # its keys and values wait in a cache, which is off then
    ]
    found += [
        Case(f"{title}, packed, tensor parallelism", slug, how, packed=True)
        for slug, title in (("lora", "LoRA"), ("full", "full"))
    ]
    v2, mlp = {"version": "v2"}, {"prefix_projection": True}
    found += [
        Case("P-Tuning v2, tensor parallelism", "ptuning", how, values=v2),
        Case("Prefix Tuning through its MLP, tensor parallelism", "prefix", how, values=mlp),
        Case("parallel Adapters, tensor parallelism", "adapters", how, values={"placement": "parallel"}),
    ]
    return found


def blueprint(case: Case) -> Blueprint:
    """A Llama of 7 layers, 20 million parameters."""
    import torch
    from peft import LoraConfig
    from transformers import LlamaConfig

    from peft_lab.models import meta

    heads = (8, 4) if case.how.runs == "tp" else (6, 2)  # four devices share what they divide
    config = LlamaConfig(
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=LAYERS,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        vocab_size=4001,
        use_cache=case.method in ("prefix", "ptuning"),
        attention_bias=case.method == "bitfit",
        mlp_bias=case.method == "bitfit",
    )
    lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")

    def apply(model: Any, depth: int) -> Any:
        spec, shape = get_method(case.method), meta.read_shape(model, config, "causal-lm", "llama", "Llama")
        return spec.apply(model, shape, spec.require(shape, case.values), "CAUSAL_LM")

    return Blueprint(
        config=config,
        kind="causal-lm",
        method={"lora": lora, "full": None}.get(case.method, apply),
        dtype=getattr(torch, case.dtype),
        checkpointing=case.checkpointing,
        alike=True,
    )


def setting(packed: bool = False) -> StepSetting:
    """The step's sizes, on the processor."""
    return StepSetting(BATCH, SEQ, device="cpu", packed=packed)


def measure(rank: int, devices: int, asked: list[Case], expected: list[int], port: int, results: Any) -> None:
    """One process: makes every case's two steps and tells its peaks in bytes."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", store=joined(port), rank=rank, world_size=devices)
    found = []
    for case, wanted in zip(asked, expected, strict=True):
        peak = _peak(case)
        # What gloo's threads keep too long only adds to a peak, so the lower of two is the step's own.
        above = torch.tensor(case.how.runs == "tp" and peak > wanted * ABOVE).int()
        dist.all_reduce(above)
        found.append(min(peak, _peak(case)) if above else peak)
    results.put((rank, found))
    end(devices)


def _resting() -> AbstractContextManager[object]:
    """After each wait for the others the process rests: gloo's thread lets go of a tensor some time after it said that
    it had ended, which on a busy machine is after the next one was made. Between GPUs a stream says when."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Resting(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            found = func(*args, **(kwargs or {}))
            if func.__name__.startswith("wait_tensor"):
                time.sleep(REST)
            return found

    return Resting()  # type: ignore[no-untyped-call]


def _peak(case: Case) -> int:
    """Builds the model with values, wraps it, and makes two steps."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh

    from peft_lab.engine import build, step
    from peft_lab.engine.account import timeline
    from peft_lab.engine.running import Stage
    from peft_lab.engine.sharding import tensor, watch, wrap
    from peft_lab.engine.sharding.simulate import SHARDED_PARTS, schedule
    from peft_lab.engine.tracker import MemoryRecorder, recording

    mesh = init_device_mesh("cpu", (case.how.devices,))
    plan = blueprint(case)
    torch.manual_seed(0)
    model = plan.build().to_empty(device="cpu")
    with torch.no_grad():
        for each in (*model.parameters(), *model.buffers()):
            each.normal_(0, 0.02)
    prompts: Any = getattr(model, "prompt_tokens", {})
    prompts |= {name: torch.arange(len(ids)) for name, ids in prompts.items()}
    recorder = MemoryRecorder()

    def split(model: torch.nn.Module, layers: Any) -> torch.nn.Module:
        if case.how.runs == "ddp":
            return wrap.replicate(model, case.how, recorder, real=True)
        if case.how.runs == "tp":
            return tensor.split_matrices(model, mesh, "cpu")
        return wrap.shard(model, layers, mesh, case.how, recorder)

    with watch.following(recorder):
        subject = build.make_subject(model, plan, recorder, LAYERS, split)
        del model
        optimizer = step.make_optimizer("adamw", subject.model, False)
        with (
            _resting() if case.how.runs == "tp" else nullcontext(),
            recording(recorder, watched=watch.watched(recorder)), step.watching(subject, recorder),
        ):  # fmt: skip
            schedule(case.how)(Stage(subject, recorder, optimizer, setting(case.packed)))
    top = max(timeline(recorder.stop(), SHARDED_PARTS), key=lambda point: point.nbytes)
    return top.nbytes


def measured(asked: list[Case], devices: int, expected: list[int]) -> list[list[int]]:
    """Of every case each process's peak in bytes, by rank; ``expected`` is what the simulation says of it."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    store = meeting()
    results = context.SimpleQueue()
    ranks = range(devices)
    processes = [
        context.Process(target=measure, args=(rank, devices, asked, expected, store.port, results))
        for rank in ranks
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"Processes ended with {[process.exitcode for process in processes]}")
    found = dict(results.get() for _ in processes)
    return [[found[rank][place] for rank in ranks] for place in range(len(asked))]


def simulated(case: Case) -> int:
    """The fullest process's peak in bytes."""
    from peft_lab.engine.sharding.simulate import simulate_blueprint

    return simulate_blueprint(
        blueprint(case), setting(case.packed), case.how, "llama", case.method
    ).peak_bytes


def rows(
    counts: tuple[int, ...] = (2, 4), kinds: tuple[str, ...] = (), methods: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Every case, or those of some kinds of sharing a step and of some methods, measured and simulated, in bytes."""
    found = []
    for devices in counts:
        asked = [case for case in cases(devices) if not kinds or case.how.kind in kinds]
        asked = [case for case in asked if not methods or case.method in methods]
        simulations = [simulated(case) for case in asked]
        for case, expected, peaks in zip(
            asked, simulations, measured(asked, devices, simulations), strict=True
        ):
            row = {"name": case.name, "devices": devices, "measured": peaks, "simulated": expected}
            row["off"] = expected / max(peaks) - 1
            row["how"] = asdict(case.how)
            found.append(row)
            print(f"{case.name}, {devices}: {peaks} {expected} {row['off']:+.2%}", flush=True)
    return found


def main() -> None:
    """Prints a table in Markdown, or with ``--json`` the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--devices", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--kinds", nargs="*", default=[], help="such as tp; all of them where none is named")
    parser.add_argument(
        "--methods", nargs="*", default=[], help="such as ia3; all of them where none is named"
    )
    given = parser.parse_args()
    found = rows(tuple(given.devices), tuple(given.kinds), tuple(given.methods))
    if given.json:
        print(json.dumps(found))
        return
    print("| step | devices | measured, fullest of them (MB) | all of them | simulated (MB) | off |")
    print("|---|---|---|---|---|---|")
    for row in found:
        peaks = row["measured"]
        print(
            f"| {row['name']} | {row['devices']} | {max(peaks) / 1e6:.2f} | {min(peaks) / 1e6:.2f} to "
            f"{max(peaks) / 1e6:.2f} | {row['simulated'] / 1e6:.2f} | {row['off']:+.2%} |"
        )


if __name__ == "__main__":
    main()
