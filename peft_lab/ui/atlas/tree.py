"""The family tree: who changes whom, as nested lists with connectors; a click on an entry chooses it."""

from __future__ import annotations

import html
from collections.abc import Sequence

from peft_lab.atlas import lineage
from peft_lab.atlas.base import AtlasType
from peft_lab.ui.atlas import cards

MANY = 12  # children from which on a branch takes the whole width, its children in columns


def tree(chosen: Sequence[str]) -> str | None:
    """Draw every entry under the one that it changes; the name of one that was clicked just now."""
    return cards.mounted("atlas-tree", drawing(), chosen)


def drawing() -> str:
    """The lists as HTML: each root with those that change it, and so on; the largest branch last,
    before it those that nothing changes."""
    roots = sorted(lineage()[""], key=lambda entry: (_many(entry.name), entry.name not in lineage()))
    return (
        f'<nav class="atlas tree" aria-label="Who changes whom"><ul>{"".join(map(_branch, roots))}</ul></nav>'
    )


def _branch(entry: AtlasType) -> str:
    children = lineage().get(entry.name, ())
    below = f"<ul>{''.join(map(_branch, children))}</ul>" if children else ""
    wide = ' class="wide"' if _many(entry.name) else ""
    kind = "leaf variant" if entry.variant else "leaf"
    return (
        f'<li{wide}><button type="button" class="{kind}" data-name="{html.escape(entry.name)}">'
        f"{html.escape(entry.title)}</button>{below}</li>"
    )


def _many(name: str) -> bool:
    return len(lineage().get(name, ())) >= MANY
