"""Run the simulations that ship with the decision tree, of every place that can be clicked, of all :func:`offered` and
:func:`planned`:

    python -m tools.refresh_choices [--all] [--jobs N] [SCENARIOS.yaml OUT.json]

Only what is missing is run; ``--all`` runs everything again. With a file of scenarios, those instead, for the tests.
Models are shared out among so many processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import yaml

from peft_lab.advise import simulating
from peft_lab.advise.flips import flips
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.recommend import reach, recommend
from peft_lab.advise.room import Room
from peft_lab.advise.situation import Situation, parse
from peft_lab.advise.tree import EXAMPLES, FEW_ROWS, MANY_ROWS, places
from peft_lab.engine.devices import devices
from peft_lab.models.catalogue import readers_of_text

TARGET = Path(simulating.__file__).with_name(simulating.SHIPPED_SIMULATIONS)
USUAL = Situation()
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")
#: Rows that answer the tree's question in each way, and longer rows than usual: between two that ship most steps need
#: no simulation.
ROWS = (USUAL.rows, int(MANY_ROWS.value), FEW_ROWS // 10)
LENGTHS = (1024,)
#: What is done in a process of its own: a situation, and how.
Task = tuple[Situation, Callable[[Situation], str]]


def asking(situation: Situation) -> Room:
    """A room that simulates all it is asked for, so that what ships does not hang on what was known before."""
    return Room(situation, simulating.simulating)


def clicked() -> list[Situation]:
    """A situation for each place, starting from the usual one."""
    found = [reach(Situation(), place, {}) for place in places()]
    return [Situation(), *dict.fromkeys(found)]


def offered() -> list[Situation]:
    """Every model on every device that the page offers, all else as usual but for the rows, and with longer ones: who
    changes one of these waits for nothing."""
    found = []
    for entry in readers_of_text().values():
        most = entry.shape.max_positions or max(LENGTHS)
        each = [(rows, min(USUAL.seq, most)) for rows in ROWS]
        each += [(rows, seq) for seq in LENGTHS if seq <= most for rows in ROWS[:1]]
        cards = [device.name for device in devices().values() if device.kind == "cuda"]
        here = replace(USUAL, model=entry.name)
        found += [replace(here, device=card, rows=rows, seq=seq) for rows, seq in each for card in cards]
    return found


def planned() -> list[Situation]:
    """What Plan opens with, and an 8B, on two cards: an engineer's first change, whose verdict would wait for it."""
    return [Wanted(model, devices=2).check().situation() for model in (Wanted().model, "llama-3.1-8b")]


def _advised(situation: Situation) -> str:
    return recommend(situation, asking(situation)).method


def _turned(situation: Situation) -> str:
    room = asking(situation)
    found = recommend(situation, room)
    return f"{found.method}, {len(flips(situation, room, found))} flips"


def _found(situation: Situation) -> str:
    room = asking(situation)
    return f"{room.base()}, full {room.full()}"


def _done(tasks: list[Task]) -> tuple[list[str], dict[str, int]]:
    """A line for each task, and every simulation that was asked for."""
    with simulating.watching() as asked:
        lines = [f"{at.model} on {at.device}: {do(at)}" for at, do in tasks]
    return lines, asked


def shipped() -> list[Task]:
    """Examples, places and what is offered."""
    examples = [
        Situation(model=one.model, device=one.device, devices=one.devices, link=one.link) for one in EXAMPLES
    ]
    return [
        *((at, _found) for at in examples), *((at, _turned) for at in clicked()),
        *((at, _advised) for at in (*offered(), *planned())),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("files", nargs="*", type=Path)
    asked = parser.parse_args()
    if len(asked.files) not in (0, 2):
        parser.error("name both files, or none")
    target: Path = asked.files[1] if asked.files else TARGET
    if asked.all:
        target.unlink(missing_ok=True)
        if target == TARGET:
            simulating.shipped_simulations.cache_clear()  # they were read to know what ships
    if asked.files:
        scenarios = yaml.safe_load(asked.files[0].read_text("utf-8"))
        _beside(target)
        answers = [[(key, str(value)) for key, value in each["answers"].items()] for each in scenarios]
        tasks: list[Task] = [(parse(each)[0], _advised) for each in answers]
    else:
        tasks = shipped()
    known = dict(simulating.shipped_simulations())
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task[0].model, []).append(task)
    found: dict[str, int] = {}
    # forked, so that they know what is known here; no torch yet
    with ProcessPoolExecutor(asked.jobs, multiprocessing.get_context("fork")) as pool:
        for number, done in enumerate(as_completed(pool.submit(_done, each) for each in groups.values()), 1):
            lines, needed = done.result()
            found |= needed
            print(*lines, f"{number} of {len(groups)} models", sep="\n", flush=True)
            _write(target, _new(known | found) if asked.files else known | found)
    _write(target, _new(found) if asked.files else found)


SHIPPED = frozenset(simulating.shipped_simulations())


def _beside(target: Path) -> None:
    """What the tests' file holds already is not run again."""
    known = {
        **simulating.shipped_simulations(),
        **(json.loads(target.read_text("utf-8"))["bytes"] if target.is_file() else {}),
    }
    setattr(simulating, "shipped_simulations", lambda: known)  # noqa: B010 (mypy refuses to assign to a function)


def _new(asked: dict[str, int]) -> dict[str, int]:
    """What does not ship already."""
    return {settings: needed for settings, needed in asked.items() if settings not in SHIPPED}


def _write(target: Path, needed: dict[str, int]) -> None:
    versions = {name: metadata.version(name) for name in PACKAGES}
    content = {"packages": versions, "bytes": dict(sorted(needed.items()))}
    target.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
