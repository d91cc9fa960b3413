"""Write docs/reference.md, the functions that ``import peft_lab`` gives, from their docstrings.

python -m tools.write_reference
"""

from __future__ import annotations

import inspect
from pathlib import Path

import peft_lab
from peft_lab import api

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"


def page() -> str:
    """Return the page."""
    parts = ["# peft_lab, from Python", _block(api.__doc__)]
    for name in peft_lab.__all__:
        found = getattr(peft_lab, name)
        signature = inspect.signature(found) if inspect.isfunction(found) else ""
        parts += [f"## `{name}`", f"```python\n{name}{signature}\n```", _block(found.__doc__)]
    return "\n\n".join(parts) + "\n"


def _block(doc: str | None) -> str:
    return f"```text\n{inspect.cleandoc(doc or '')}\n```"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
