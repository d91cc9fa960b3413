"""What a step of a type needs and takes, as it is stored."""

from __future__ import annotations

from typing import Any

from peft_lab.atlas import rows
from peft_lab.core.errors import PeftLabError


def run(name: str) -> dict[str, Any]:
    """Bytes and seconds, or why there are none."""
    try:
        found = rows.simulated_cost(name)
    except PeftLabError as error:
        return {"why": str(error)}
    return {
        "peak_bytes": found.peak_bytes,
        "reserved_bytes": found.reserved_bytes,
        "step_seconds": {"value": found.seconds, "low": found.low, "high": found.high},
        "bottleneck": found.bottleneck,
    }
