"""bench/RESULTS.md: a table an area; each figure with its bound, a command that exists and the day it was measured."""

from __future__ import annotations

import importlib.util
import re
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "bench/RESULTS.md").read_text("utf-8")
HEAD = "| figure | value | bound | command | date, load |"
TABLES = re.findall(
    rf"^## .+$(?:\n(?!## |\|).*)*\n{re.escape(HEAD)}\n\|[-|]+\|\n((?:\|.*\n)+)", TEXT, re.MULTILINE
)
ROWS = [
    tuple(cell.strip() for cell in row[1:-1].split(" | ")) for table in TABLES for row in table.splitlines()
]


def test_every_area_has_one_table_of_one_form() -> None:
    assert len(TABLES) == TEXT.count("\n## ") and len(ROWS) > 60
    assert sum(line.startswith("|") for line in TEXT.splitlines()) == len(ROWS) + 2 * len(TABLES)
    assert {len(row) for row in ROWS} == {5} and all(all(row) for row in ROWS)


def test_a_result_can_be_carried() -> None:
    assert len(TEXT.splitlines()) <= 300


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_figure_says_when_it_was_measured_and_by_what(row: tuple[str, ...]) -> None:
    day, _, load = row[4].partition(", ")
    assert date.fromisoformat(day) and load in ("", "quiet", "loaded")
    command = row[3].strip("`").split()
    if command[0] == "python":
        assert importlib.util.find_spec(command[2]), command
    elif command[0] == "pytest":
        assert (ROOT / command[1]).exists(), command
    else:
        assert command[0] == "none", command
