"""What would have to be bought: the memory that a card needs, by method and number of cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from peft_lab.choose.room import HEADROOM, HEADROOM_SPLIT
from peft_lab.choose.step import SPLIT
from peft_lab.memory.devices import Device, devices
from peft_lab.methods import get_method
from peft_lab.plan.ranking import advice_for, room_for
from peft_lab.plan.wanted import Wanted

COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Need:
    """Of one row, checkpointed. ``card``: the smallest known one that has as much; empty where none has."""

    method: str
    cards: int
    nbytes: int
    card: str


def need(fields: Mapping[str, Any], method: str, cards: int) -> Need:
    """What each of so many cards must have. Imports torch.

    Raises:
        BadInput, SimulationError: what cannot be, or cannot be simulated.
    """
    wanted = replace(Wanted(**fields), devices=cards).check()
    situation = wanted.situation()
    room = room_for(wanted)
    spec = get_method(method)
    values = spec.require(situation.shape, advice_for(situation, room, method).knobs(situation.shape))
    taken = room.least(method, values, "none" if cards == 1 else SPLIT)
    smallest = _smallest(taken, cards)
    return Need(method, cards, taken, smallest.title if smallest else "")


def _kept_free(cards: int) -> float:
    """Share of a card's memory that a step on so many of them leaves."""
    return HEADROOM if cards == 1 else HEADROOM_SPLIT


def _smallest(taken: int, count: int) -> Device | None:
    cards = sorted((card for card in devices().values() if card.kind == "cuda"), key=lambda card: card.memory)
    return next((card for card in cards if card.memory * (1 - _kept_free(count)) >= taken), None)
