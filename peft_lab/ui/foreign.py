"""Text from outside the app, made safe to show: from URLs, files, learners and errors.

Streamlit reads almost every text as Markdown. A link's sender could otherwise put pictures, links and
formulas into the app. :func:`plain` shows a text letter by letter wherever Markdown is read, :func:`code` the
same in monospace. ``tests/ui/test_foreign.py`` looks for errors shown without them, and
``tests/browser/test_foreign.py`` gives every page hostile addresses.
"""

from __future__ import annotations

import re

JOINER = "\N{WORD JOINER}"  # invisible, and no line breaks at it
_SPACE = re.compile(r"\s+")
# What is drawn as nothing or turns the writing round, the joiner itself included.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_MARKS = re.compile(r"[\\`*_\[\]<>&$~|]")
_FIRST = re.compile(r"^(?:[#+=-]|\d+(?=[.)]))")
# Streamlit looks for icons, emoji, colours and bare addresses once more after escapes have been taken away, so that no
# backslash helps: ":red[", ":joy:", ":material/home:", "http://", "www.", "a@b.c".
_LATER = re.compile(r":(?=\S)|(?<=\w)@(?=\w)|(?<=www)(?=\.)", re.IGNORECASE)


def plain(text: object) -> str:
    """Return Markdown that shows the text literally, on one line; for an exception, its message."""
    shown = _SPACE.sub(" ", _UNSEEN.sub("", str(text))).strip()
    shown = _LATER.sub(lambda found: found[0] + JOINER, shown)
    shown = _MARKS.sub(r"\\\g<0>", shown)
    first = _FIRST.match(shown)
    if first and first[0].isdigit():
        return f"{first[0]}\\{shown[first.end() :]}"
    return f"\\{shown}" if first else shown


def code(text: object) -> str:
    """Return the text as a span of Markdown code, on one line."""
    shown = _SPACE.sub(" ", _UNSEEN.sub("", str(text))).strip()
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if len(fence) > 1 or not shown else ""
    return f"{fence}{space}{shown}{space}{fence}"
