"""Finished comparisons that come with the app, measured elsewhere: ``shipped/*.json``, made by
``python -m tools.ship_comparison``. What follows from their figures is worked out when they are read."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from peft_lab.compare.results import with_conclusions

FOLDER = "shipped"


@cache
def all_shipped() -> dict[str, dict[str, Any]]:
    """Documents of :mod:`peft_lab.compare.results` by id, in the order of their files; none while none ships."""
    folder = resources.files(__package__) / FOLDER
    if not folder.is_dir():
        return {}
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda f: f.name)
    documents = [json.loads(file.read_text("utf-8")) for file in files]
    return {document["id"]: with_conclusions(document) for document in documents}


def to_ship(found: dict[str, Any], note: str = "") -> dict[str, Any]:
    """A document as it is shipped: conclusions left out, curves rounded, run ids kept as evidence.

    Args:
        note: what a reader should know of how it was measured, such as the machine being shared.

    Raises:
        ValueError: a comparison that is not finished.
    """
    if found["status"] not in ("done", "incomplete") or not found["done"]:
        raise ValueError(f"'{found['id']}' is {found['status']}: only a finished comparison ships")
    kept = {key: value for key, value in found.items() if key not in ("pairs", "says")}
    rows = [
        {**row, "loss": {name: [_short(value) for value in values] for name, values in row["loss"].items()}}
        for row in kept["rows"]
    ]
    return {**kept, "rows": rows, "note": note}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
