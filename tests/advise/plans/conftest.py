"""A tiny model of this machine's own, and plans for it that need no simulation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.takeaway.conftest import tiny

__all__ = ["rows_file", "tiny"]


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of unequal lengths to learn from."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = ({"prompt": "q" * (number % 7 + 1), "completion": f"answer {number}"} for number in range(24))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path
