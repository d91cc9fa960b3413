"""``ship`` and ``check``: what other engines do with an adapter, and whether each stage of its life went well.
``blend``: several adapters of one base as one.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import known_run, option
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.interview.clinic import stages
from peft_lab.interview.computed import wilson
from peft_lab.studies import blending
from peft_lab.studies.blending import BEST, HOW, SCORED, TASKS, Part
from peft_lab.takeaway.ship.adapter import CONFIG, WEIGHTS, read
from peft_lab.takeaway.ship.convert import TARGETS, Shipped, write
from peft_lab.takeaway.ship.passport import MADE, Measured, base_of, engines, passport

_Base = Annotated[
    str | None,
    option(
        "--base -b",
        "MODEL",
        "The adapter's base model; by default, the base model that the adapter's config names.",
    ),
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
    to: Annotated[
        str | None, option("--to", "ENGINE", f"Write the files for an engine: {', '.join(TARGETS)}.")
    ] = None,
    out: Annotated[Path | None, option("--out", "DIR", "A new folder for the files.")] = None,
    as_json: options.Json = False,
) -> None:
    """For each engine, say whether it takes the adapter, what has to change, and where the engine's source shows this.

    With --to and --out, write the files that an engine needs, read them back and compare them with the adapter.
    """
    found = read(adapter)
    if to is not None or out is not None:
        if to is None or out is None:
            raise BadInput("Give both an engine and a folder: --to ENGINE --out DIR.", "to")
        with output.ProgressBars(lines=False) as bars:
            made = write(found, base or "", to, out, lambda what, share: bars.update("Files", share, what))
        output.show(asdict(made), as_json, human=lambda: _told(made))
        return
    model = base_of(found, base or "")
    rows = [verdict.row() for verdict in passport(found, model)]
    columns: dict[str, output.Column] = {
        "Engine": lambda row: f"{engines()[row['engine']].title} {row['version']}",
        "Does it load?": lambda row: SAID[row["verdict"]],
        "Change": lambda row: MADE.get(row["change"], row["change"]),
        "Answers": lambda row: str(Measured(**row["measured"])) if row["measured"] else "not measured",
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


# ----------------------------------------
# ``blend``: each adapter's score on its task, alone and in the blend.


_Blended = typer.Argument(
    metavar="ADAPTER...",
    help="A run's id; a PEFT adapter and the task it learned, as FOLDER=TASK or ZIP=TASK; or one of "
    f"{', '.join(TASKS)}, which come with PEFT Lab.",
)


@command("blend")
def blend(
    adapters: Annotated[list[str], _Blended],
    how: Annotated[str, option("--how", "NAME", f"{', '.join(HOW)}; {BEST} finds the best.")] = "cat",
    weights: Annotated[
        str, option("--weights", "NUMBERS", "One weight for each adapter, such as 1,0.5; 1 by default.")
    ] = "",
    base: _Base = None,
    as_json: options.Json = False,
) -> None:
    """Blend LoRA adapters of one base without training, and score the blend on the task of each adapter."""
    if how not in (names := (*HOW, BEST)):
        raise BadInput(f"There is no way to blend called '{how}'. Choose one of {', '.join(names)}.", "how")
    if how == BEST and (weights or len(adapters) < 2):
        raise BadInput(
            f"'{BEST}' blends two or more adapters and finds their weights: leave --weights out.", "how"
        )
    try:
        given = [float(text) for text in weights.split(",")] if weights else [1.0] * len(adapters)
    except ValueError:
        raise BadInput(f"--weights needs numbers separated by commas, not '{weights}'.", "weights") from None
    if len(given) != len(adapters):
        raise BadInput(f"{len(adapters)} adapters and {len(given)} weights: give one for each.", "weights")
    with TemporaryDirectory() as scratch:
        parts = [_part(text, Path(scratch) / str(at), base or "") for at, text in enumerate(adapters)]
        document = blending.measure(parts, how, given)
    document["intervals"] = {
        name: wilson(row["blended"] * SCORED, SCORED) for name, row in document["scores"].items()
    }
    output.show(document, as_json, human=lambda: _blended(document))


def _part(text: str, scratch: Path, base: str) -> Part:
    place, _, task = text.rpartition("=")
    if not place and text in TASKS:
        return blending.shipped_part(text)
    if not place:
        return blending.part_of_run(known_run(text).id)
    found = read(place)
    if found.folder is None:  # a zip, or from the hub
        scratch.mkdir()
        for name in (CONFIG, WEIGHTS):
            (scratch / name).write_bytes(found.take(name))
    return blending.part_of_folder(found.name, found.folder or scratch, task, base)


def _blended(document: dict[str, Any]) -> list[Any]:
    rows = []
    for name, row in document["scores"].items():
        between = " to ".join(f"{end:.2f}" for end in document["intervals"][name])
        rows.append((name, f"{row['alone']:.3f}", f"{row['blended']:.3f}", between))
    title = f"{document['method']}, rank {document['rank']}: scores on {SCORED} held-out rows (measured)"
    lines: list[Any] = [output.table(title, rows, ("Adapter", ">Alone", ">Blended", ">95% interval"))]
    for cell in document["tried"]:
        weights = ", ".join(f"{weight:g}" for weight in cell["weights"])
        when = f", recorded {cell['recorded'][:10]}" if "recorded" in cell else ""
        lines.append(f"{cell['how']}, weights {weights}: worst share {blending.worth(cell)[0]:.0%}{when}")
    for pair in dict.fromkeys(tuple(row["pair"]) for row in document["overlap"]):
        mine = [row for row in document["overlap"] if tuple(row["pair"]) == pair]
        means = ", ".join(f"{side} {fmean(row[side] for row in mine):.3f}" for side in ("A", "B"))
        lines.append(f"Overlap of {' and '.join(pair)}, mean of {len(mine)} maps (computed): {means}")
    return lines
