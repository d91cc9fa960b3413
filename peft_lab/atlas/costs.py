"""What a training step of a type needs and takes, as the probe stored it: one model and one GPU for all types."""

from __future__ import annotations

from dataclasses import dataclass

from peft_lab.atlas import get_entry, probes
from peft_lab.memory.setting import Setting
from peft_lab.models.catalogue import get_model

MODEL, DEVICE = "llama-3.2-3b", "l40s"
#: 4 rows of 256 tokens in bfloat16, kernels as on that GPU.
SETTING = Setting(batch=4, seq=256, capability=(8, 9))


@dataclass(frozen=True)
class Cost:
    """Of one step: bytes of tensors at the peak, bytes that the allocator holds, seconds with their band."""

    peak_bytes: int
    reserved_bytes: int | None
    seconds: float
    low: float
    high: float
    bottleneck: str


def cost(name: str) -> Cost | None:
    """The stored figures of a type or variant; ``None`` where there are none (:func:`refusal`)."""
    kept = probes.found(name).get("costs", {})
    if "peak_bytes" not in kept:
        return None
    step = kept["step_seconds"]
    return Cost(
        kept["peak_bytes"],
        kept["reserved_bytes"],
        step["value"],
        step["low"],
        step["high"],
        kept["bottleneck"],
    )


def asked(name: str) -> bool:
    """Whether figures, or the reason why there are none, are stored."""
    return "costs" in probes.found(name)


def refusal(name: str) -> str:
    """Why there are no figures; empty where there are."""
    return "" if cost(name) else probes.why(name, "costs")


def simulated(name: str) -> Cost:
    """The same found now, in a second or two. Imports torch.

    Raises:
        BadInput, SimulationError: why there are none.
    """
    from peft_lab.memory.request import ConfigRequest
    from peft_lab.memory.simulate import simulate_config
    from peft_lab.timing import estimate

    config = get_entry(name).counted_config(get_model(MODEL).shape)
    done = simulate_config(ConfigRequest(MODEL, config, SETTING))
    step = estimate.seconds(done.work[-1], DEVICE)
    return Cost(done.peak_bytes, done.reserved_bytes, step.value, step.low, step.high, step.bottleneck)
