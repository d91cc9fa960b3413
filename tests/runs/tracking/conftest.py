"""MLflow and trackio as they are, in a folder of their own beside the environment (make trackers)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import missing

FOLDER = Path(__file__).parents[3] / ".venv-trackers"


def with_trackers(home: Path) -> dict[str, str]:
    """The environment of a process that finds them, and keeps its runs in ``home``."""
    if not (FOLDER / "mlflow").is_dir() or not (FOLDER / "trackio").is_dir():
        missing(f"no trackers for {Path(sys.executable).name}: make trackers")
    return {"PYTHONPATH": str(FOLDER), "PEFT_LAB_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture
def trackers(tmp_path: Path) -> dict[str, str]:
    return with_trackers(tmp_path)
