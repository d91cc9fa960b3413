"""The machine that a comparison ran on, as far as its figures depend on it."""

from __future__ import annotations

import platform
from typing import Any

from peft_lab import machine


def describe() -> dict[str, Any]:
    """processor, cores (those this process may use), features, memory_bytes, system, python. Loads no torch; the
    device and the packages are in the runs' records."""
    return {
        "processor": machine.processor(),
        "cores": machine.cores(),
        "features": machine.cpu_features(),
        "memory_bytes": machine.installed_memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
