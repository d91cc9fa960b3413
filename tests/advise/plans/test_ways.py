"""What Plan names as the nearest that works is given back as a question, and the answer is yes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from peft_lab.advise.plans import ranking, steps
from peft_lab.advise.plans.nearest import meeting, nearest, quickest, too_late
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.advise.plans.steps import Pace
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.recipes.rules import OBJECTIVES
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import Step
from peft_lab.advise.situation import Situation
from peft_lab.engine.devices import devices
from peft_lab.engine.timing.estimate import Seconds
from peft_lab.models.catalogue import readers_of_text
from tests.advise import standin

CASES, EACH = 50, 3


def _pace(
    situation: Situation, method: str, values: Mapping[str, Any], step: Step, accumulate: int, trainable: int
) -> Pace:
    """What stands for the time of an update: in proportion to tokens and parameters."""
    del method, values, trainable
    one = step.batch * situation.seq * situation.shape.total / 1e14 + 0.01

    def took(seconds: float) -> Seconds:
        return Seconds(0.7 * seconds, seconds, 1.5 * seconds, "compute", {"compute": seconds})

    return Pace(took(one * accumulate), accumulate, 0.0, took(one / 3))


def _ask(wanted: Wanted, candidate: Candidate) -> Planned:
    return ranking.evaluate(asdict(wanted), asdict(candidate))


def _ranked(wanted: Wanted) -> list[Planned]:
    return ranking.rank(wanted, [_ask(wanted, one) for one in ranking.candidates(wanted)])


def _some(drawn: random.Random) -> Wanted:
    pick = drawn.choice
    cards = [name for name, card in devices().items() if card.kind == "cuda"]
    while True:
        hard = drawn.random() < 0.5
        tokens = pick([64, 512, 4096])
        wanted = Wanted(
            model=pick(["llama-3.1-70b", "llama-3.1-8b"] if hard else list(readers_of_text())),
            objective=pick(["", *OBJECTIVES]),
            rows=int(10 ** drawn.uniform(0, 7)),
            row_tokens=tokens,
            seq=tokens * pick([1, 2]),
            gpu=pick(["t4", "rtx-3060", "8GB"] if hard else cards),
            devices=pick([1, 1, 2, 3, 8]),
            link=pick(["pcie", "nvlink"]),
            deadline=pick(["", f"{10 ** drawn.uniform(-3, 4):.6f}"]),
            optimizer=pick(["", "", "adamw", "adamw8bit", "adafactor"]),
        )
        if not wanted.problems():
            return wanted


@pytest.mark.sampled(51)
@pytest.mark.parametrize("number", range(CASES))
def test_every_way_that_is_named_works(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def room_for(wanted: Wanted) -> Room:
        return Room(wanted.situation(), standin.ask, optimizer=wanted.optimizer, packed=bool(wanted.packed))

    monkeypatch.setattr(ranking, "room_for", room_for)
    monkeypatch.setattr(steps, "step_pace", _pace)
    drawn, named = random.Random(number), 0
    while named < EACH:
        wanted = _some(drawn)
        ranked = _ranked(wanted)
        best = quickest(ranked)
        if not ranked:
            ways = nearest(wanted, _ask).ways
        elif best is not None and too_late(wanted, ranked):
            ways = meeting(wanted, best, _ask)
            assert ways, "the deadline at least"
        else:
            continue
        named += bool(ways)
        for way in ways:
            there = replace(wanted, **way.changes).check()
            found = _ranked(there)
            assert found, (wanted, way)
            assert not ranked or not too_late(there, found), (wanted, way)
