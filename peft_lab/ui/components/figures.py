"""How a figure is shown: with its unit, its source badge and a note, the same on every page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

import streamlit as st

from peft_lab.units import SOURCE_HELP, Finding, Source

_BADGE = {Source.COUNTED: "blue", Source.SIMULATED: "violet", Source.MEASURED: "green", Source.CITED: "gray"}


def badge(source: Source | str) -> str:
    """The source badge as Streamlit markdown."""
    source = Source(source)
    return f":{_BADGE[source]}-badge[{source}]"


def card(
    label: str, finding: Finding | None, note: str = "", text: str | None = None, absent: str = ""
) -> None:
    """One headline figure in a bordered box; ``absent`` is what stands there while there is no figure."""
    with st.container(border=True, height="stretch"):
        if finding is None:
            st.metric(label, "–")
            st.caption(absent)
            return
        st.metric(
            label,
            text or str(finding),
            help=f"{str(finding.source).capitalize()}: {SOURCE_HELP[finding.source]}.",
        )
        st.markdown(f":small[{note or finding.note}] {badge(finding.source)}".strip())


def legend() -> None:
    """What the four badges mean."""
    st.markdown("\n\n".join(f"{badge(source)} {text}" for source, text in SOURCE_HELP.items()))


def unbroken(text: str) -> str:
    """A cell's text on one line: a narrow screen breaks between such parts or scrolls the table."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def whole(text: str) -> str:
    """A figure that no cell breaks at its minus sign."""
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
    """A plain table: right-aligned figures, text as given (escaped), scrolls sideways on a phone.

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
