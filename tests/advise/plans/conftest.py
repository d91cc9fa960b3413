"""A tiny model of this machine's own, and plans for it that need no simulation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from peft_lab.advise.plans.nearest import ask
from peft_lab.advise.plans.wanted import Wanted
from tests.takeaway.conftest import tiny

__all__ = ["rows_file", "tiny"]


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of unequal lengths to learn from."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = ({"prompt": "q" * (number % 7 + 1), "completion": f"answer {number}"} for number in range(24))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read(told: Mapping[str, str]) -> Wanted:
    """The request; raises the first of its problems."""
    asked = ask(told)
    for error in asked.problems():
        raise error
    return asked.wanted
