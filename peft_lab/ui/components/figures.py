"""Drawing of figures: with unit, source badge and a note, the same on every page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import streamlit as st

from peft_lab.core import units
from peft_lab.core.units import SOURCE_HELP, Finding, Source
from peft_lab.interview import glossary
from peft_lab.methods.base import Part
from peft_lab.methods.counting.count import CountReport, GroupCount
from peft_lab.models.shapes import ModelShape
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from peft_lab.ui.foreign import plain as foreign_plain

_BADGE = {Source.COUNTED: "blue", Source.SIMULATED: "violet", Source.MEASURED: "green", Source.CITED: "gray"}


def badge(source: Source | str) -> str:
    """Return the source badge as Streamlit markdown."""
    source = Source(source)
    return f":{_BADGE[source]}-badge[{source}]"


def card(
    label: str,
    finding: Finding | None,
    note: str = "",
    text: str | None = None,
    absent: str = "",
    word: str = "",
) -> None:
    """Draw one headline figure in a bordered box. ``absent`` is the text if there is none; ``word``: the word of the
    glossary that explains the label. Where there is a note, the finding's own stands in the help."""
    meaning = f"{glossary.meaning(word)} " if word else ""
    with st.container(border=True, height="stretch"):
        if finding is None:
            st.metric(label, "–")
            st.caption(absent)
            return
        st.metric(
            label,
            text or str(finding),
            help=f"{meaning}{str(finding.source).capitalize()}: {SOURCE_HELP[finding.source]}. {note and finding.note}",
        )
        st.markdown(f":small[{note or finding.note}] {badge(finding.source)}".strip())


def explained(text: str) -> None:
    """Draw a line of plain text in which each word of the glossary explains itself, on hover or focus, where it
    is used first."""
    shown = "".join(
        html.escape(piece)
        if word is None
        else f'<span class="term" tabindex="0">{html.escape(piece)}'
        f'<span class="meaning" role="tooltip">{html.escape(word.meaning, quote=False)}</span></span>'
        for piece, word in glossary.pieces(text)
    )
    st.html(f'<p class="explained">{shown}</p>')


def legend() -> None:
    """Draw the meaning of the four badges."""
    st.markdown("\n\n".join(f"{badge(source)} {text}" for source, text in SOURCE_HELP.items()))


def unbroken(text: str) -> str:
    """Return a cell's text with no-break spaces, so that it stays on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def whole(text: str) -> str:
    """Return a figure with a non-breaking hyphen in its exponent."""
    return text.replace("e-", "e\N{NON-BREAKING HYPHEN}")


_LONG = 30  # letters of a name in a folded table that may have to be broken on a phone: after a dot
_PARTS = re.compile(r"(?<=\.)(?=\w)")


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Iterable[int] = (),
    caption: str = "",
    fold: bool = False,
    links: Sequence[str] = (),
) -> None:
    """Draw a plain table: right-aligned figures, text escaped; it scrolls sideways on a phone.

    ``numeric`` lists the columns that hold figures. With ``fold`` a phone shows a row's other cells, each with its
    column's name, under the first one, and nothing has to be scrolled. A cell that starts with a backquote is shown
    as code. ``links``: by row where its first cell leads, empty for nowhere.
    """
    right = set(numeric)

    def cell(tag: str, index: int, text: str, link: str = "") -> str:
        kind = ' class="n"' if index in right else ""
        inner = (
            f"<code>{html.escape(text[1:-1])}</code>" if text[:1] == text[-1:] == "`" else html.escape(text)
        )
        if fold and not index and len(text) > _LONG and " " not in text:
            inner = _PARTS.sub("<wbr>", inner)
        if link:
            inner = f'<a href="{html.escape(link)}">{inner}</a>'
        scope = (
            ' scope="col"' if tag == "th" else f' data-label="{html.escape(header[index])}"' if fold else ""
        )
        return f"<{tag}{kind}{scope}>{inner}</{tag}>"

    head = "".join(cell("th", i, text) for i, text in enumerate(header))
    lines = []
    for number, row in enumerate(rows):
        link = links[number] if number < len(links) else ""
        lines.append("".join(cell("td", i, text, "" if i else link) for i, text in enumerate(row)))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    label = f"<caption style='text-align:left'>{html.escape(caption)}</caption>" if caption else ""
    folds = " fold" if fold else ""
    st.html(
        f'<div class="figures-scroll" tabindex="0"><table class="figures{folds}">{label}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


# ----------------------------------------
# What a part of the drawing or a row of the tree is made of: the parameters behind one path.


HEADER = ("Parameter", "Shape, type, state", "All layers")
_STATE = {"frozen": "frozen", "method": "trainable", "head": "task head, trainable"}
# What a method keeps outside the model's own modules stands behind these parts.
_OUTSIDE = ("cells", "encoder", "columns")


@dataclass(frozen=True)
class Detail:
    """The parameters at one path. ``rows``: name, shape with type and state, number of parameters of all layers
    together. ``note``: text if there are no rows."""

    title: str
    rows: tuple[tuple[str, str, str], ...]
    note: str = ""


def plain(path: str) -> str:
    """Return a path with a star in place of the layer's number."""
    return path.replace("{}", "∗")


def groups_at(
    tree: Sequence[GroupCount], path: str, shape: ModelShape, parts: Sequence[Part] = ()
) -> list[GroupCount]:
    """Return the parameters at ``path`` and below, including those that a part there keeps elsewhere."""
    here = [group for group in tree if group.module == path or group.module.startswith(f"{path}.")]
    if any(part.at == path and part.kind in _OUTSIDE for part in parts):
        own = tuple(group.path for group in shape.groups)
        here += [
            group
            for group in tree
            if group.role == "method"
            and group.added
            and not any(group.module == at or group.module.startswith(f"{at}.") for at in own)
        ]
    return here


def detail(path: str, report: CountReport | None, shape: ModelShape, parts: Sequence[Part] = ()) -> Detail:
    """Return the parameters at ``path``, or a note that they are still being counted."""
    titles = {"tokens": "Virtual tokens", "attention": "Attention", "ffn": "Feed-forward"}
    title, rows = titles.get(path, plain(path)), list[tuple[str, str, str]]()
    for group in () if report is None else groups_at(report.tree, path, shape, parts):
        name = f"{group.module}.{group.name}".removeprefix(f"{path}.")
        dims = " × ".join(f"{size:,}" for size in group.shape)
        state = "quantised" if group.quantised else _STATE[group.role]
        rows.append((plain(name), f"{dims}, {group.dtype}, {state}", units.count(group.parameters)))
    tied = any(group.path == path and not group.each for group in shape.groups)
    none = "Shares the parameters of the embeddings, where they are counted." if tied else "No parameters."
    return Detail(title, tuple(rows), "" if rows else "Counting…" if report is None else none)


# ----------------------------------------
# What trackers were told of the runs that a page shows together.


def told_to(runs: Sequence[Run]) -> None:
    """Draw one sentence per tracker that receives any of the runs."""
    for one in start.trackers_summed(runs):
        sentence = foreign_plain(one.sentence())
        st.markdown(f":red[:material/error: {sentence}]" if one.failed else f":small[{sentence}]")
