"""Run the simulations that ship with the decision tree: every place that can be clicked, every model on every device:

    python -m tools.refresh_choices [--all] [SCENARIOS.yaml OUT.json]

Only what is missing is run; ``--all`` runs everything again. With a file of scenarios, those instead, for the tests.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import yaml

from peft_lab.choose import kept
from peft_lab.choose.examples import EXAMPLES
from peft_lab.choose.flips import flips
from peft_lab.choose.reach import reach
from peft_lab.choose.reading import parse
from peft_lab.choose.recommend import recommend
from peft_lab.choose.room import Room
from peft_lab.choose.simulating import simulating
from peft_lab.choose.situation import Situation
from peft_lab.choose.tree import places
from peft_lab.memory.devices import devices
from peft_lab.models.catalogue import catalogue

TARGET = Path(kept.__file__).with_name(kept.FILE)
USUAL = Situation()
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


def asking(situation: Situation) -> Room:
    """A room that simulates all it is asked for, so that what ships does not hang on what was known before."""
    return Room(situation, simulating)


def clicked() -> list[Situation]:
    """A situation for each place, starting from the usual one."""
    found = [reach(Situation(), place, {}) for place in places()]
    return [Situation(), *dict.fromkeys(found)]


def offered() -> list[Situation]:
    """Every model on every device that the page offers, all else as usual: who changes either waits for nothing."""
    found = []
    for entry in catalogue().values():
        for device in devices().values():
            seq = min(USUAL.seq, entry.shape.max_positions or USUAL.seq)
            if device.kind == "cuda":
                found.append(replace(USUAL, model=entry.name, device=device.name, seq=seq))
    return found


def main(arguments: list[str]) -> None:
    again, files = "--all" in arguments, [name for name in arguments if name != "--all"]
    target, situations = TARGET, clicked()
    if files:
        scenarios = yaml.safe_load(Path(files[0]).read_text("utf-8"))
        target = Path(files[1])
        _beside(target)
        situations = [
            parse([(key, str(value)) for key, value in each["answers"].items()])[0] for each in scenarios
        ]
    if again:
        target.unlink(missing_ok=True)
        if target == TARGET:
            kept.simulations.cache_clear()  # they were read to know what ships
    with kept.watching() as asked:
        for example in () if files else EXAMPLES:
            there = Situation(
                model=example.model, device=example.device, devices=example.devices, link=example.link
            )
            room = asking(there)
            print(f"{example.model} on {example.device}: {room.base()}, full {room.full()}")
        for number, situation in enumerate(situations, start=1):
            here = asking(situation)
            found = recommend(situation, here)
            changes = len(flips(situation, here, found)) if not files else 0
            print(
                f"{number}/{len(situations)} {situation.model} on {situation.device}: {found.method}, {changes} flips"
            )
            _write(target, asked if not files else _new(asked))
        for situation in () if files else offered():
            found = recommend(situation, asking(situation))
            print(f"{situation.model} on {situation.device}: {found.method}", flush=True)
            _write(target, asked)


SHIPPED = frozenset(kept.simulations())


def _beside(target: Path) -> None:
    """What the tests' file holds already is not run again."""
    known = {
        **kept.simulations(),
        **(json.loads(target.read_text("utf-8"))["bytes"] if target.is_file() else {}),
    }
    setattr(kept, "simulations", lambda: known)  # noqa: B010 (mypy refuses to assign to a function)


def _new(asked: dict[str, int]) -> dict[str, int]:
    """What does not ship already."""
    return {settings: needed for settings, needed in asked.items() if settings not in SHIPPED}


def _write(target: Path, needed: dict[str, int]) -> None:
    versions = {name: metadata.version(name) for name in PACKAGES}
    content = {"packages": versions, "bytes": dict(sorted(needed.items()))}
    target.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
