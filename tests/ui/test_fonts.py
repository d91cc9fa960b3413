"""The fonts that are cut down to what the app writes hold its icons and letters; Streamlit's have all others."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from peft_lab.drawing.trajectory import sentence as recorded
from peft_lab.ui import home, web
from peft_lab.ui.server import app
from peft_lab.ui.shell import dress
from tools import subset_fonts

RULES = web.read("fonts/fonts.css")
AGAIN = "run python -m tools.subset_fonts"


def test_every_icon_is_in_the_font_of_icons() -> None:
    held = set(web.read("fonts/icons.txt").split())
    assert len(held) > 100
    assert not subset_fonts.icon_words() - held, AGAIN


def test_every_letter_of_home_is_left_to_our_fonts() -> None:
    files = (
        *Path(web.__file__).parent.glob("sentence.*"),
        Path(home.__file__),
        Path(recorded.__file__).parent / "sentence.json",
    )
    letters = {
        ord(letter) for file in files for letter in file.read_text(encoding="utf-8")
    } | subset_fonts.LATIN
    runs = [run.removeprefix("U+").split("-") for run in web.read("fonts/others.txt").split(",")]
    assert not [
        chr(code) for code in letters if any(int(run[0], 16) <= code <= int(run[-1], 16) for run in runs)
    ], AGAIN


def test_rules_name_the_files_and_the_files_fit_a_slow_line() -> None:
    files = {file.name: file.stat().st_size for file in web.FONTS.glob("*.woff2")}
    assert set(re.findall(r"\./static/media/([^)]+)\)", RULES)) == set(files)
    assert sum(files.values()) < 130_000
    assert RULES.encode() in dress.STYLE


def test_streamlits_fonts_are_for_other_letters_only() -> None:
    [style] = (Path(st.__file__).parent / "static/static/css").glob("index.*.css")
    text = app._without_whole_fonts(style.read_bytes()).decode()
    rules = [rule for rule in re.findall(r"@font-face\{[^}]*\}", text) if "Source" in rule]
    assert len(rules) >= 6 and all(f"unicode-range:{web.read('fonts/others.txt')};" in rule for rule in rules)
    assert "Material Symbols" not in text
