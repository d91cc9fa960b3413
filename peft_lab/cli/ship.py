"""``ship`` and ``check``: what other engines do with an adapter, and whether each stage of its life went well."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import option
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.interview.clinic import stages
from peft_lab.takeaway.ship.adapter import read
from peft_lab.takeaway.ship.convert import TARGETS, Shipped, write
from peft_lab.takeaway.ship.passport import MADE, base_of, engines, passport

_Base = Annotated[
    str | None,
    option("--base -b", "MODEL", "The model it runs on; by default the one that the adapter names."),
]
_Adapter = Annotated[
    str, typer.Argument(metavar="ADAPTER", help="A run's id, a PEFT folder or zip, or a Hugging Face id.")
]
SAID = {
    "runs": "runs", "change": "after a change", "wrong": "LOADS, ANSWERS WRONGLY", "refused": "refused",
    "unknown": "not known",
}  # fmt: skip


@command("ship")
def ship(
    adapter: _Adapter,
    base: _Base = None,
    to: Annotated[str | None, option("--to", "ENGINE", f"Write its files: {', '.join(TARGETS)}.")] = None,
    out: Annotated[Path | None, option("--out", "DIR", "A new folder for the files.")] = None,
    as_json: options.Json = False,
) -> None:
    """Tell for each engine whether it takes the adapter, what has to change, and where its source shows it.

    With --to and --out, write the files that an engine needs, and compare what is read back.
    """
    found = read(adapter)
    if to is not None or out is not None:
        if to is None or out is None:
            raise BadInput("Give both an engine and a folder: --to ENGINE --out DIR.", "to")
        made = write(found, base or "", to, out)
        output.show(asdict(made), as_json, human=lambda: _told(made))
        return
    model = base_of(found, base or "")
    rows = [verdict.row() for verdict in passport(found, model)]
    columns: dict[str, output.Column] = {
        "Engine": lambda row: f"{engines()[row['engine']].title} {row['version']}",
        "Does it load?": lambda row: SAID[row["verdict"]],
        "Change": lambda row: MADE.get(row["change"], row["change"]),
        "Why": lambda row: row["reasons"][0]["what"],
    }
    caption = f"{found.type or 'no PEFT type'} on {model.title if model else 'an unknown base (name it with --base)'}"
    output.show(rows, as_json, human=lambda: [output.table(found.name, rows, columns, caption)])


def _told(made: Shipped) -> list[str]:
    """Return the lines that say what was written."""
    files = [f"{one['path']} · {units.size(one['bytes'])}" for one in made.files]
    read_back = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in made.compared.items())
    return [*files, f"Read back: {read_back}", made.command]


@command("check")
def check(adapter: _Adapter, base: _Base = None, as_json: options.Json = False) -> None:
    """Check an adapter: did it train, was it saved, does it load, merge and serve?"""
    found = read(adapter)
    rows = [asdict(stage) for stage in stages.check(found, base_of(found, base or ""))]
    marks = {True: "yes", False: "NO", None: "not known"}
    columns: dict[str, output.Column] = {
        "Stage": "stage", "OK": lambda row: marks[row["ok"]], "Evidence": "evidence", "Fix": "fix",
    }  # fmt: skip
    output.show(rows, as_json, human=lambda: [output.table(found.name, rows, columns)])
