"""The component's one ES module, put together from the files in ``js``: nothing is built, nothing is fetched."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

#: In this order: a file uses what stands before it.
FILES = (
    "numbers.js", "recorded.js", "lanes.js", "motion.js", "marks.js", "player.js", "panels.js", "details.js",
    "handles.js", "block.js",
)  # fmt: skip
_IMPORT = re.compile(r"^import [^;]+;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@cache
def module() -> str:
    """All files as one module, whose default export mounts the component.

    The files import each other by name, as browsers and editors read them; in one module those names are simply there.
    """
    folder = files(__package__) / "js"
    parts = [(folder / name).read_text(encoding="utf-8") for name in FILES]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)
