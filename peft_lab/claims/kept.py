"""Results that ship with the lab, of the checks that take seconds: those that need torch, on their first model.

``found.json`` is written by ``python -m tools.refresh_claims``; a slow test runs every check again. A result found with
other versions of the libraries is not used.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import metadata, resources

from peft_lab.claims.base import Found

FILE = "found.json"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


def versions() -> dict[str, str]:
    """The libraries that results depend on, as installed; without a build's local part."""
    return {name: metadata.version(name).partition("+")[0] for name in PACKAGES}


@cache
def _read() -> dict[str, Found]:
    file = resources.files(__package__) / FILE
    if not file.is_file():
        return {}
    content = json.loads(file.read_text("utf-8"))
    if content["packages"] != versions():
        return {}
    return {name: Found(**found) for name, found in content["found"].items()}


def found(claim: str) -> Found | None:
    """The kept result of a claim, ``None`` where there is none that holds for the installed libraries."""
    return _read().get(claim)
