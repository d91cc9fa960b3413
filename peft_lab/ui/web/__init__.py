"""Style sheets and scripts of the pages and their components, each in a file of its own language."""

from __future__ import annotations

from importlib.resources import files


def read(name: str, **values: object) -> str:
    """Return one file's text, with each ``%NAME%`` in it replaced by the value of that name."""
    text = (files(__package__) / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"%{key}%", str(value))
    return text
