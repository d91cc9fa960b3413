"""``atlas``: every type that PEFT knows, with what is counted, probed, simulated and published about it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peft_lab.atlas import FAMILIES, all_types, get_entry, variants
from peft_lab.atlas import rows as probes
from peft_lab.atlas.base import AtlasType
from peft_lab.atlas.rows import row
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.output import ProgressBars
from peft_lab.core import units
from peft_lab.models.catalogue import resolve

DEFAULT = "llama-3.2-3b"


@command("atlas")
def atlas_command(
    name: Annotated[
        str | None, typer.Argument(metavar="TYPE", help="A type or a variant of LoRA: vera, rslora ...")
    ] = None,
    model: options.Model = DEFAULT,
    as_json: options.Json = False,
) -> None:
    """Every type that PEFT knows: its update, its count on a model, what it can do, what it costs."""
    entry = resolve(model)
    chosen = list(all_types().values()) if name is None else [get_entry(name)]
    rows: list[dict[str, Any]] = []
    with ProgressBars(lines=False) as bars:
        for done, each in enumerate(chosen):
            bars.update("Counting", done / len(chosen), each.title)
            rows.append(_with_variants(each, entry.name))
    if name is None:
        output.show(rows, as_json, human=lambda: [_table(entry.title, rows)])
    else:
        output.show(rows, as_json, human=lambda: _one(rows[0]))


def _with_variants(entry: AtlasType, model: str) -> dict[str, Any]:
    below = () if entry.variant else variants(entry.type)
    return {**row(entry, model), "variants": [row(each, model) for each in below]}


def _trainable(found: dict[str, Any]) -> str:
    count = found["count"]
    if count["trainable"] is None:
        return "–"
    return units.count(count["trainable"]) + (" ✓" if count["equal"] else "")


def _table(title: str, rows: list[dict[str, Any]]) -> Any:
    columns = {
        "Type": "left",
        "Family": "left",
        "Update": "left",
        "Trained": "right",
        "Can": "right",
        "Trains on": "left",
    }
    cells = []
    for each in [one for top in rows for one in (top, *top["variants"])]:
        name = f"  {each['title']}" if each["variant"] else each["title"]
        able = sum(value is True for value in each["capabilities"].values())
        share = f"{able} of {len(probes.CAPABILITIES)}"
        family, trains = FAMILIES[each["family"]][0], ", ".join(each["trains_on"])
        cells.append((name, family, each["update"], _trainable(each), share, trains))
    return output.table(f"Trained parameters on {title}; ✓ equal to a closed form", columns, cells)


def _one(found: dict[str, Any]) -> list[Any]:
    """One type on its own: sentences, then its capabilities with their reasons."""
    count = found["count"]
    lines = [
        f"{found['title']}: {found['update']}",
        f"{FAMILIES[found['family']][0]}. {found['differs']} {found['when']}",
        f"Paper: {found['paper']['cite']} {found['paper']['url']} (looked up in: {found['paper']['checked']})",
        f"Trained on {count['model']}: {_trainable(found)}"
        + (f" ({found['formula']})" if found["formula"] else ""),
        *([found["stand_in"]] if found["stand_in"] else []),
        *([count["why"]] if count.get("why") else []),
    ]
    marks = {True: "yes", False: "no", None: "not probed"}
    cells = [
        (title, marks[found["capabilities"][name]], found["why"].get(name, ""))
        for name, (title, _) in probes.CAPABILITIES.items()
    ]
    return [
        "\n".join(lines),
        output.table("Asked of PEFT", {"It": "left", "": "left", "Why not": "left"}, cells),
    ]
