"""The machine that a comparison ran on, as far as its figures depend on it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from peft_lab import doctor
from peft_lab.workers import processes

_CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, Any]:
    """processor, cores (those this process may use), features, memory_bytes, system, python. Loads no torch; the
    device and the packages are in the runs' records."""
    import psutil

    return {
        "processor": _processor(),
        "cores": processes.cores(),
        "features": doctor.cpu_features(),
        "memory_bytes": int(psutil.virtual_memory().total),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
