"""Inside: the picture specific to one method. A method's view is named in :data:`VIEWS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import streamlit as st
import yaml

from peft_lab.core import disk
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.frame import part
from peft_lab.ui.components.knobs import Choice

View = Callable[[Choice], None]
#: By slug, a module here and the function in it that draws.
VIEWS = {
    **{slug: (slug, "show") for slug in ("adapters", "lora", "qlora")},
    **{slug: ("vectors", f"show_{slug}") for slug in ("bitfit", "ia3")},
    **{slug: ("soft", f"show_{slug}") for slug in ("prefix", "prompt", "ptuning")},
}


def view_of(slug: str) -> View | None:
    """Return the function that draws the method's picture; None for a method without one."""
    if slug not in VIEWS:
        return None
    module, name = VIEWS[slug]
    view: View = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return view


# ----------------------------------------
# What several of the pictures need: their words, figures by layer, two parts beside each other.


@cache
def _texts() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(disk.beside(__file__, "texts.yaml"))
    return found


def said(name: str, **values: object) -> str:
    """Return a text of ``texts.yaml`` with its values."""
    return str(_texts()[name]).format(**values)


@contextmanager
def section(name: str, **values: object) -> Iterator[None]:
    """Draw a section of ``texts.yaml``: title with its source, text, what the block draws, caption."""
    texts = {key: text.format(**values) for key, text in _texts()[name].items()}
    source = figures.badge(texts["source"]) if "source" in texts else ""
    st.markdown(f"#### {texts['title']} {source}".strip())
    if "text" in texts:
        st.markdown(texts["text"])
    yield
    if "caption" in texts:
        st.caption(texts["caption"])


def layer_of(path: str) -> int | None:
    """Return a module's layer index; None outside the layers."""
    return _pattern(path)[1]


def by_kind(values: Mapping[str, float]) -> dict[str, dict[int, float]]:
    """Return figures by module path as ``kind: {layer: figure}``."""
    table: dict[str, dict[int, float]] = {}
    for path, value in values.items():
        kind, layer = _pattern(path)
        table.setdefault(kind.split("{}.")[-1], {})[layer or 0] = value
    return table


def _pattern(path: str) -> tuple[str, int | None]:
    from peft_lab.models.meta import pattern_of

    return pattern_of(path)


def side_by_side(left: Callable[[], None], right: Callable[[], None]) -> None:
    """Draw two parts in columns of equal width."""
    for column, draw in zip(st.columns(2, gap="large"), (left, right), strict=True):
        with column:
            draw()


# ----------------------------------------
# A picture that is played along the steps of a training: a slider over its snapshots, and a button that runs it.


PAUSE = 0.7  # seconds between snapshots while playing
BUTTON = 110  # pixels


def played(slug: str, steps: Sequence[int], draw: Callable[[int], None], name: str = "inside-step") -> None:
    """Draw the chosen snapshot: ``draw(index)`` for ``steps[index]``, the last one at first. Only this part is redrawn
    when the slider moves. ``name`` keeps several on one page apart."""
    going = bool(state.remembered(slug, f"{name}-plays", False))

    def snapshot() -> None:
        index = min(int(state.remembered(slug, name, len(steps) - 1)), len(steps) - 1)
        if going:
            index = min(index + 1, len(steps) - 1)
            state.remember(slug, name, index)
        index = _controls(slug, name, steps, index, going)
        draw(index)
        if going and index == len(steps) - 1:
            state.remember(slug, f"{name}-plays", False)
            st.rerun()

    part(snapshot, every=PAUSE if going else None)


def _controls(slug: str, name: str, steps: Sequence[int], index: int, going: bool) -> int:
    row = st.container(horizontal=True, vertical_alignment="bottom")
    # In half of a page's width a share of it would cut the button's word.
    left, right = row.container(width=BUTTON), row.container()
    # A slider that follows the playing has to be a new one at each tick: a control keeps its own value.
    variant = f"at-{index}" if going else "-".join(map(str, steps))
    with right:
        step = st.select_slider(
            "Training step",
            list(steps),
            value=steps[index],
            key=state.widget_key(slug, name, variant, str(state.remembered(slug, f"{name}-round", 0))),
            disabled=going,
        )
    with left:
        if st.button(
            "Stop" if going else "Play",
            key=f"{slug}-{name}-play",
            icon=":material/stop:" if going else ":material/play_arrow:",
            width="stretch",
        ):
            state.remember(slug, f"{name}-plays", not going)
            state.remember(slug, f"{name}-round", state.remembered(slug, f"{name}-round", 0) + 1)
            if not going:
                state.remember(slug, name, -1)
            st.rerun()
    if going:
        return index
    chosen = list(steps).index(step)
    state.remember(slug, name, chosen)
    return chosen
