"""SIGKILL to a comparison's command, as of a sweep's: see there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.faults.campaigns import sweeps
from bench.faults.rows import Place, Row

TIMES = 50


def _command(home: Path, scratch: Path) -> subprocess.Popen[str]:
    return sweeps.lab(
        home, "compare", "--model", "minilm-l6", "--task", "sentiment", "--methods", "lora,bitfit", "--steps", "25",
        "--batch", "4", "--seeds", "0,1,2", "--eval-rows", "4", "--json",
    )  # fmt: skip


def run(place: Place, times: int) -> Iterator[Row]:
    """Two rows."""
    yield from sweeps.killed_again_and_again(place, times, "a comparison", _command)
