"""Facts about this machine: its processor, its memory, and the devices that torch can train on, as one table.

:data:`DEVICES` is in order of preference, and :func:`in_use` is the first that is there. Whatever differs between
devices is asked of their :class:`Device`; nothing else asks torch which there are. Torch is imported inside.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_lab.core.errors import BadInput

if TYPE_CHECKING:
    import torch

#: processor features that decide how fast bfloat16 and float32 training is
CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
#: those with which a processor multiplies bfloat16 itself; elsewhere it is emulated and slow
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
CPUINFO = Path("/proc/cpuinfo")
#: One of them is there where a GPU's driver is: NVIDIA's, and AMD's (ROCm). Apple's belongs to the system.
DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/dev/kfd"))
#: Where a container finds its limits.
GROUP = Path("/sys/fs/cgroup")


class Device:
    """A kind of device that torch can train on; this class is the processor.

    Attributes:
        kind: torch's word for it.
        simulated_as: the kind whose kernels and allocator a simulation of it uses.
    """

    kind = "cpu"
    simulated_as = "cpu"

    def available(self) -> bool:
        """Whether torch can use one here."""
        return True

    def describe(self) -> dict[str, Any]:
        """kind, name, count and what else is known: ``bytes`` of memory, ``threads``, ``platform``."""
        import torch

        return {
            "kind": self.kind,
            "name": torch.backends.cpu.get_cpu_capability(),
            "count": os.cpu_count() or 1,
            "threads": torch.get_num_threads(),
        }

    def free(self) -> int:
        """Bytes that a new process may take there now."""
        return free_memory()

    def computes_bfloat16(self) -> bool:
        """Whether it multiplies bfloat16 itself."""
        return bool(BF16_FEATURES & set(cpu_features()))

    def random_states(self) -> list[torch.Tensor]:
        """Of its own generators, one tensor each."""
        return []

    def set_random_states(self, states: list[torch.Tensor]) -> None:
        """Put back what :meth:`random_states` gave."""

    def synchronise(self) -> None:
        """Return when all that was asked of it is done."""

    def reset_peaks(self) -> None:
        """Forget what its allocator peaked at so far; what it holds now counts on."""

    def peaks(self) -> dict[str, int]:
        """Its allocator's own peaks since the reset, in bytes: what tensors had of it, and what it had of the device.

        Empty where the allocator counts none.
        """
        return {}

    def quantisation_problem(self) -> str | None:
        """Why weights cannot be stored in 4 or 8 bits there, in one sentence; ``None`` when they can."""
        return None

    def require_quantisation(self) -> None:
        """Raises :class:`BadInput` with the reason where weights cannot be stored in 4 or 8 bits."""
        problem = self.quantisation_problem()
        if problem is not None:
            raise BadInput(problem, "method")


class Cuda(Device):
    """NVIDIA's GPUs, and AMD's: torch built for ROCm calls them ``cuda`` as well."""

    kind = "cuda"
    simulated_as = "cuda"

    def available(self) -> bool:
        import torch

        return torch.cuda.is_available()

    def describe(self) -> dict[str, Any]:
        import torch

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
        """Compute capability of the first one."""
        import torch

        found = torch.cuda.get_device_properties(0)
        return found.major, found.minor

    def free(self) -> int:
        import torch

        return int(torch.cuda.mem_get_info()[0])

    def computes_bfloat16(self) -> bool:
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)

    def random_states(self) -> list[torch.Tensor]:
        import torch

        return torch.cuda.get_rng_state_all()

    def set_random_states(self, states: list[torch.Tensor]) -> None:
        import torch

        torch.cuda.set_rng_state_all(states)

    def synchronise(self) -> None:
        import torch

        torch.cuda.synchronize()

    def reset_peaks(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()

    def peaks(self) -> dict[str, int]:
        import torch

        return {
            "device_allocated_bytes": torch.cuda.max_memory_allocated(),
            "device_reserved_bytes": torch.cuda.max_memory_reserved(),
        }


class Mps(Device):
    """Apple's GPUs. They share the main memory, and torch counts no peaks for them."""

    kind = "mps"

    def available(self) -> bool:
        import torch

        return torch.backends.mps.is_available()

    def describe(self) -> dict[str, Any]:
        import torch

        return {
            "kind": self.kind,
            "name": platform.processor() or platform.machine(),
            "count": 1,
            "bytes": int(torch.mps.recommended_max_memory()),
            "platform": "Metal",
        }

    def free(self) -> int:
        import torch

        left = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return min(int(left), free_memory())

    def computes_bfloat16(self) -> bool:
        import torch

        return torch.backends.mps.is_macos_or_newer(14, 0)  # torch refuses the type on older ones

    def random_states(self) -> list[torch.Tensor]:
        import torch

        return [torch.mps.get_rng_state()]

    def set_random_states(self, states: list[torch.Tensor]) -> None:
        import torch

        torch.mps.set_rng_state(states[0])

    def synchronise(self) -> None:
        import torch

        torch.mps.synchronize()

    def quantisation_problem(self) -> str | None:
        if find_spec("bitsandbytes.backends.mps") is not None:
            return None
        return (
            "The installed bitsandbytes cannot quantise on Apple's GPUs: install 0.50 or newer, or choose a method "
            "that keeps the base in 16 or 32 bits."
        )


CUDA, MPS, CPU = Cuda(), Mps(), Device()
DEVICES: tuple[Device, ...] = (CUDA, MPS, CPU)


def in_use() -> Device:
    """The device that training runs on: the first of :data:`DEVICES` that is there."""
    return next(device for device in DEVICES if device.available())


def device_of(kind: str) -> Device:
    """The device by torch's word for it: ``cuda``, ``mps`` or ``cpu``."""
    return next(device for device in DEVICES if device.kind == kind)


def device_of_rank() -> str:
    """The device of this process among those that torchrun started: a GPU of its own, made the current one, or ``cpu``.

    Scripts of plans hold this function as its source, so it asks nothing else of this module.
    """
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    torch.cuda.set_device(device)
    return device


def may_have_gpu() -> bool:
    """Whether it is worth asking torch for a GPU, which takes a second: there is a driver. Loads no torch."""
    return sys.platform == "darwin" or any(driver.exists() for driver in DRIVERS)


def compute_dtype() -> torch.dtype:
    """bfloat16 where the hardware multiplies it itself, else float32."""
    import torch

    return torch.bfloat16 if in_use().computes_bfloat16() else torch.float32


def cpu_features(cpuinfo: Path | None = None) -> list[str]:
    """Those of CPU_FEATURES that the processor has; empty where the system does not list them (only Linux does)."""
    cpuinfo = cpuinfo or CPUINFO
    if not cpuinfo.exists():
        return []
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    listed = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return [feature for feature in CPU_FEATURES if feature in listed]


def processor() -> str:
    """The processor by its name, where the system tells it."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed_memory() -> int:
    """Main memory in bytes, whoever may have it."""
    import psutil

    return int(psutil.virtual_memory().total)


def memory_limit() -> int | None:
    """Bytes that the container this runs in may have; ``None`` without one, or without a limit."""
    try:
        return int((GROUP / "memory.max").read_text("ascii"))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return None


def free_memory() -> int:
    """Bytes of main memory that are available now, to this container if it has a limit."""
    import psutil

    available, limit = int(psutil.virtual_memory().available), memory_limit()
    if limit is None:
        return available
    try:
        return min(available, limit - int((GROUP / "memory.current").read_text("ascii")))
    except (OSError, ValueError):
        return available
