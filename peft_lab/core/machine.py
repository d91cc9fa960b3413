"""Read facts about this machine: its processor, its memory, and the devices that torch can train on.

:data:`DEVICES` lists them in order of preference, and :func:`in_use` returns the first that is available. Everything
that differs between devices is a method of :class:`LocalDevice`; no other code asks torch which devices exist. Torch is
imported inside the functions.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from peft_lab.core.errors import BadInput
from peft_lab.core.later import torch

#: Processor features that decide how fast training in bfloat16 and float32 is.
CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
#: Features with which a processor multiplies bfloat16 itself; without them it is emulated and slow.
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
CPUINFO = Path("/proc/cpuinfo")
#: Files of which one exists where a GPU driver is installed: NVIDIA's, AMD's (ROCm). Apple's belongs to the system.
DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/dev/kfd"))
#: Where a container finds its limits.
GROUP = Path("/sys/fs/cgroup")


class LocalDevice:
    """A kind of device that torch can train on, by torch's name (``kind``), and whose kernels and allocator a
    simulation uses for it (``simulated_as``); this base class is the processor."""

    kind = "cpu"
    simulated_as = "cpu"

    def available(self) -> bool:
        """Return whether torch can use such a device here."""
        return True

    def describe(self) -> dict[str, Any]:
        """Return ``kind``, ``name`` and ``count``, and ``bytes`` of memory, ``threads`` or ``platform`` where known."""
        return {
            "kind": self.kind,
            "name": torch.backends.cpu.get_cpu_capability(),
            "count": os.cpu_count() or 1,
            "threads": torch.get_num_threads(),
        }

    def free(self) -> int:
        """Return how many bytes of memory a new process may allocate there now."""
        return free_memory()

    def computes_bfloat16(self) -> bool:
        """Return whether the hardware multiplies bfloat16 itself."""
        return bool(BF16_FEATURES & set(cpu_features()))

    def random_states(self) -> list[torch.Tensor]:
        """Return the states of the device's own random generators, a one-dimensional byte tensor each."""
        return []

    def set_random_states(self, states: list[torch.Tensor]) -> None:
        """Restore the states that :meth:`random_states` returned: one-dimensional byte tensors."""

    def synchronise(self) -> None:
        """Wait until the device has finished all its work."""

    def reset_peaks(self) -> None:
        """Reset the allocator's peaks to what is allocated now."""

    def peaks(self) -> dict[str, int]:
        """Return the allocator's own peaks since the reset, in bytes; empty if it does not count them."""
        return {}

    def quantisation_problem(self) -> str | None:
        """Return one sentence on why weights cannot be stored in 4 or 8 bits there; ``None`` if they can."""
        return None

    def require_quantisation(self) -> None:
        """Check that weights can be stored in 4 or 8 bits there. Raises BadInput with the reason if they cannot."""
        if problem := self.quantisation_problem():
            raise BadInput(problem, "method")


class Cuda(LocalDevice):
    """NVIDIA's GPUs, and AMD's, which torch for ROCm calls ``cuda`` too."""

    kind = "cuda"
    simulated_as = "cuda"

    def available(self) -> bool:
        return torch.cuda.is_available()

    def describe(self) -> dict[str, Any]:
        found = torch.cuda.get_device_properties(0)
        rocm = torch.version.hip
        return {
            "kind": self.kind,
            "name": found.name,
            "count": torch.cuda.device_count(),
            "bytes": int(found.total_memory),
            "platform": f"ROCm {rocm}" if rocm else f"CUDA {torch.version.cuda}",
        }

    def capability(self) -> tuple[int, int]:
        """Return the compute capability of the first GPU, as major and minor number."""
        found = torch.cuda.get_device_properties(0)
        return found.major, found.minor

    def free(self) -> int:
        return int(torch.cuda.mem_get_info()[0])

    def computes_bfloat16(self) -> bool:
        return torch.cuda.is_bf16_supported(including_emulation=False)

    def random_states(self) -> list[torch.Tensor]:
        return torch.cuda.get_rng_state_all()

    def set_random_states(self, states: list[torch.Tensor]) -> None:
        torch.cuda.set_rng_state_all(states)

    def synchronise(self) -> None:
        torch.cuda.synchronize()

    def reset_peaks(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def peaks(self) -> dict[str, int]:
        return {
            "device_allocated_bytes": torch.cuda.max_memory_allocated(),
            "device_reserved_bytes": torch.cuda.max_memory_reserved(),
        }


class Mps(LocalDevice):
    """Apple's GPUs. They share the main memory, and torch does not count their peaks."""

    kind = "mps"

    def available(self) -> bool:
        return torch.backends.mps.is_available()

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": platform.processor() or platform.machine(),
            "count": 1,
            "bytes": int(torch.mps.recommended_max_memory()),
            "platform": "Metal",
        }

    def free(self) -> int:
        left = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return min(int(left), free_memory())

    def computes_bfloat16(self) -> bool:
        return torch.backends.mps.is_macos_or_newer(14, 0)  # torch refuses the type on older ones

    def random_states(self) -> list[torch.Tensor]:
        return [torch.mps.get_rng_state()]

    def set_random_states(self, states: list[torch.Tensor]) -> None:
        torch.mps.set_rng_state(states[0])

    def synchronise(self) -> None:
        torch.mps.synchronize()

    def quantisation_problem(self) -> str | None:
        if find_spec("bitsandbytes.backends.mps") is not None:
            return None
        return (
            "The installed bitsandbytes cannot quantise on Apple's GPUs. Install 0.50 or newer, or choose a method "
            "that stores the base in 16 or 32 bits."
        )


CUDA, MPS, CPU = Cuda(), Mps(), LocalDevice()
DEVICES: tuple[LocalDevice, ...] = (CUDA, MPS, CPU)


def in_use() -> LocalDevice:
    """Return the device that training runs on: the first of :data:`DEVICES` that is available."""
    return next(device for device in DEVICES if device.available())


def device_of(kind: str) -> LocalDevice:
    """Return the device by torch's name for its kind: ``cuda``, ``mps`` or ``cpu``."""
    return next(device for device in DEVICES if device.kind == kind)


def device_of_rank() -> str:
    """Return this process's device under torchrun: a GPU of its own, made the current one, or ``cpu``.

    Scripts of plans print this function, so it uses nothing else of this module.
    """
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    torch.cuda.set_device(device)
    return device


def may_have_gpu() -> bool:
    """Return whether a GPU may be present: its driver is installed, or this is macOS. Loads no torch."""
    return sys.platform == "darwin" or any(driver.exists() for driver in DRIVERS)


def compute_dtype() -> torch.dtype:
    """Return bfloat16 if the hardware multiplies it itself, else float32."""
    return torch.bfloat16 if in_use().computes_bfloat16() else torch.float32


def cpu_features(cpuinfo: Path | None = None) -> list[str]:
    """Return those of :data:`CPU_FEATURES` that the processor has; empty where the system does not list them."""
    cpuinfo = cpuinfo or CPUINFO
    if not cpuinfo.exists():
        return []
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    listed = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return [feature for feature in CPU_FEATURES if feature in listed]


def processor() -> str:
    """Return the name of the processor, as precisely as the system gives it."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed_memory() -> int:
    """Return the installed main memory, in bytes."""
    import psutil

    return int(psutil.virtual_memory().total)


def memory_limit() -> int | None:
    """Return the memory limit of this container, in bytes; ``None`` without a container or a limit."""
    try:
        return int((GROUP / "memory.max").read_text("ascii"))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return None


def free_memory() -> int:
    """Return the main memory available now, in bytes, within the limit of this container."""
    import psutil

    available, limit = int(psutil.virtual_memory().available), memory_limit()
    if limit is None:
        return available
    try:
        return min(available, limit - int((GROUP / "memory.current").read_text("ascii")))
    except (OSError, ValueError):
        return available


def describe_machine() -> dict[str, Any]:
    """Return what figures of a training depend on: processor, cores (available to this process), features,
    memory_bytes, system and python. Loads no torch; the runs' records hold the device and the packages."""
    return {
        "processor": processor(),
        "cores": cores(),
        "features": cpu_features(),
        "memory_bytes": installed_memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
