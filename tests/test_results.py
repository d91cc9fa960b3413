"""The tables of bench/RESULTS.md are made from data that says where and when it was measured."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest

from bench import tables

FILES = sorted(tables.FOLDER.glob("*.json"))
TEXT = tables.RESULTS.read_text("utf-8")


def test_every_table_is_as_its_data_say() -> None:
    assert len(FILES) > 50
    assert tables.filled(TEXT) == TEXT, "python -m bench.tables writes them anew"


def test_no_table_is_written_by_hand() -> None:
    assert re.findall(r"^\|.*", tables.TABLE.sub("", TEXT), re.MULTILINE) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_table_says_where_and_when_it_was_measured(file: Path) -> None:
    table = json.loads(file.read_text("utf-8"))
    assert date.fromisoformat(table["date"]) and table["machine"]
    assert re.fullmatch("[0-9a-f]{7,40}", table["commit"])
    assert f"\n## {table['section']}" in TEXT
    numbers = [cell for row in table["rows"] for cell in row if not isinstance(cell, str)]
    assert numbers or file.stem.startswith("summary") or "result" in [one["name"] for one in table["columns"]]
    for column in table["columns"]:
        assert column["align"] in tables.RULES and column.keys() <= {"name", "align", "unit", "forms"}


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (-0.5, "−0.50%"),
        ([1, 2.25], "1 to 2.2"),
        ({"form": "below {:.0e}", "values": [2e-5]}, "below 2e-5"),
        ("none", "none"),
    ],
)
def test_a_cell_is_written_by_the_form_with_as_many_places(cell: object, text: str) -> None:
    column = {"name": "off", "forms": ["{:.2f}%", "{} to {:.1f}"]}
    assert tables.written(cell, column) == text


def test_more_numbers_than_any_form_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="off"):
        tables.written([1, 2], {"name": "off", "forms": ["{}"]})
