"""The whole method on one screen: its file of :mod:`peft_lab.scratch`, with the lines of a chosen part lit."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import groupby
from pathlib import Path

import streamlit as st

from peft_lab.core import content
from peft_lab.ui import state, web
from peft_lab.ui.components.knobs import Choice


@dataclass(frozen=True)
class File:
    """A file from scratch: the page that shows it, its parts with names in its code, and those that the drawing has."""

    name: str
    page: str
    parts: Mapping[str, tuple[str, ...]]
    drawn: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Return what the file says."""
        return files("peft_lab").joinpath("scratch", f"{self.name}.py").read_text(encoding="utf-8")


#: Pixels of code in view: the file scrolls, so that the page stays short.
HEIGHT = 640
FILES = content.read_table([Path(__file__).with_suffix(".yaml")], File, "name")


def lines_of(text: str, names: Sequence[str]) -> list[int]:
    """Return the lines, from 1, in which one of the names stands; of a function or class so named, all lines."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        own = {getattr(node, place, None) for place in ("id", "attr", "arg", "name")}
        if isinstance(node, ast.expr | ast.arg | ast.stmt) and own & set(names):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sorted(lines)


def runs_of(lines: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each row of lines that follow one another."""
    for _, group in groupby(enumerate(lines), lambda pair: pair[1] - pair[0]):
        run = [line for _, line in group]
        yield run[0], run[-1]


def from_scratch(choice: Choice, selected: str | None) -> None:
    """Draw the page's files; ``selected``: the path chosen in the block drawing, whose part is lit at first."""
    mine = [file.name for file in FILES.values() if file.page == choice.spec.slug]
    with st.container(key="scratch"):
        st.markdown("#### The whole method on one screen")
        file = FILES[(_chosen("File", mine, mine[0]) or mine[0]) if len(mine) > 1 else mine[0]]
        with st.container(key="scratch-parts", gap="xsmall"):
            parts = choice.spec.parts(choice.shape, choice.values)
            kinds = (part.kind for part in parts if part.at == selected)
            first = next((file.drawn[kind] for kind in kinds if kind in file.drawn), "")
            part = _chosen("Part", list(file.parts), first, file.name, first)
            lines = lines_of(file.text, file.parts.get(part, ()))
            rows = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs_of(lines))
            lit = f"{part}: lines {rows}." if part else "Choose a part to see its lines."
            st.caption(f"{file.name}.py, {file.text.count(chr(10))} lines of torch without PEFT. {lit}")
        # Lines are equally high and not broken, so a stripe behind the code is as good as one behind each line.
        stripes = [
            f"linear-gradient(var(--stripe) 0 0) 0 {a - 1}lh / 100% {b - a + 1}lh no-repeat"
            for a, b in runs_of(lines)
        ]
        st.html(f"<style>{web.read('scratch.css', lit=', '.join(stripes) or 'none')}</style>")
        st.code(file.text, language="python", line_numbers=True, height=HEIGHT)
        name = f"{file.name}.py"
        st.download_button(f"Download {name}", file.text, name, "text/x-python", on_click="ignore")


def _chosen(label: str, options: Sequence[str], first: str, *variants: str) -> str:
    """Draw a row of buttons and return the chosen one, which the session remembers; empty if none is."""
    start = state.remembered("scratch", label, first, *variants) or None
    key = state.widget_key("scratch", label, *variants)
    picked = st.segmented_control(label, options, default=start, key=key, label_visibility="collapsed")
    state.remember("scratch", label, picked, *variants)
    return picked or ""
