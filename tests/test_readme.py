"""README: short, with a picture of the app as it is now, and links that lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.test_house import ROOMS
from tools import readme_picture

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_its_picture_shows_the_doors_and_tabs_of_today() -> None:
    shown = json.loads(readme_picture.LAYOUT.read_text("utf-8"))
    assert shown == readme_picture.layout(), "python -m tools.readme_picture URL takes the picture again"
    assert f"]({readme_picture.PICTURE.relative_to(ROOT)})" in README


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 120


def test_files_it_links_to_are_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_map_of_rooms_is_that_of_the_house() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("| room of `peft_lab/` |")[2]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE)) == ROOMS
