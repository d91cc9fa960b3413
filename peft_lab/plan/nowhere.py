"""What to say of what cannot be planned as it was asked, and the nearest plans that work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from peft_lab import units
from peft_lab.choose.step import TENSOR
from peft_lab.choose.words import larger_device, smaller_model
from peft_lab.models.catalogue import catalogue
from peft_lab.plan import ranking
from peft_lab.plan.ranking import Candidate, Planned
from peft_lab.plan.wanted import HOUR, Wanted

#: Tries a candidate.
Ask = Callable[[Wanted, Candidate], Planned]
#: How a base in 4 bits is split, and what to say of it beside.
_WAYS = {"fsdp2": "", "fsdp2+offload": ", offloaded to {} of main memory for each"}
_COUNTS = (2, 4, 8, 16, 32)
_TRIES = 8  # numbers of rows that are tried until one meets a deadline


@dataclass(frozen=True)
class Way:
    """A plan that works.

    Attributes:
        text: as a sentence has it. short: as a button has it.
        changes: the fields of :class:`Wanted` that lead to it.
    """

    text: str
    short: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> str:
        """As they are given to the command."""
        return options_of(self.changes)


def options_of(changes: Mapping[str, Any]) -> str:
    """Return fields of :class:`Wanted` as they are given to the command."""
    names = {name: f"--{name.replace('_', '-')}" for name in changes}
    return " ".join(
        f"no {names[name]}" if value in ("", None) else f"{names[name]} {value}"
        for name, value in changes.items()
    )


@dataclass(frozen=True)
class Nearest:
    """One sentence for what does not work as asked, and what does."""

    problem: str
    ways: tuple[Way, ...] = ()

    def __str__(self) -> str:
        return self.said(lambda way: way.text)

    def told(self) -> str:
        """With the command's options for each way."""
        return self.said(lambda way: f"{way.text} ({way.options})" if way.changes else way.text)

    def said(self, of: Callable[[Way], str]) -> str:
        """With each way as ``of`` has it."""
        if not self.ways:
            return f"{self.problem} Nothing that we know works."
        return f"{self.problem} The nearest that works: {'; or '.join(map(of, self.ways))}."


def nearest(wanted: Wanted, ask: Ask) -> Nearest:
    """For a model that fits nowhere."""
    situation = wanted.situation()
    start = f"{situation.shape.title} fits in no way on {_cards(wanted)}."
    for devices in _COUNTS:
        if devices <= wanted.devices or situation.hardware.kind != "cuda":
            continue
        more = replace(wanted, devices=devices)
        for way, offloaded in _WAYS.items():
            plan = ask(more, Candidate("qlora", way, True)).plan
            if plan is not None:
                where = offloaded.format(units.size(plan.host_bytes)) if offloaded else ""
                text = f"QLoRA split over {devices} of these cards with FSDP2{where}"
                return Nearest(start, (Way(text, f"{devices} of these cards", {"devices": devices}),))
    return Nearest(start, tuple(way for way in _others(wanted) if _fits(replace(wanted, **way.changes), ask)))


def _fits(wanted: Wanted, ask: Ask) -> bool:
    """Whether QLoRA does on one device, where that is a question at all: not every model packs rows."""
    return not wanted.problems() and ask(wanted, Candidate("qlora", "none", True)).plan is not None


def _others(wanted: Wanted) -> Iterator[Way]:
    """Another device, and a smaller model, on which QLoRA's step has room."""
    situation, room = wanted.situation(), ranking.room_for(wanted)
    device = larger_device(situation, room)
    if device is not None:
        yield Way(f"QLoRA on one {device.title}", f"one {device.title}", {"gpu": device.name, "devices": 1})
    title = smaller_model(situation, room, "qlora")
    names = [name for name, entry in catalogue().items() if entry.title == title]
    if names:
        yield Way(f"QLoRA of {title}", f"{title}", {"model": names[0]})


def _cards(wanted: Wanted) -> str:
    device = wanted.situation().hardware
    return device.title if wanted.devices == 1 else f"{wanted.devices:,} × {device.title}"


# -- deadlines ---------------------------------------------------------------------------------------------------------


def quickest(ranked: Sequence[Planned]) -> Planned | None:
    """That is sure to end first; ``None`` where no speed is known."""
    timed = [(one.hours[1], number) for number, one in enumerate(ranked) if one.hours is not None]
    return ranked[min(timed)[1]] if timed else None


def _takes(one: Planned) -> str:
    assert one.hours is not None
    return units.span(one.hours[0] * HOUR, one.hours[1] * HOUR)


def late(wanted: Wanted, ranked: Sequence[Planned]) -> str:
    """What to say where no plan is sure to meet the deadline: how long the quickest takes. Empty where one is, or where
    no speed is known."""
    left, best = wanted.hours(), quickest(ranked)
    if left is None or best is None or best.hours is None or best.hours[1] <= left:
        return ""
    within = units.several(f"{left:,.3g}", "hour")
    return f"No plan is sure to end within {within}. The quickest, {best.title}, takes {_takes(best)}."


def meeting(wanted: Wanted, best: Planned, ask: Ask) -> tuple[Way, ...]:
    """What ends in time where ``best``, the quickest, does not: more cards, a part of the rows, or a later deadline."""
    left = wanted.hours()
    assert left is not None and best.hours is not None
    found = [_more_cards(wanted, best, left, ask), _fewer_rows(wanted, best, left, ask)]
    last = until(best)
    last = replace(last, text=last.short)  # how long the quickest takes is said before
    return (*(way for way in found if way is not None), last)


def _more_cards(wanted: Wanted, best: Planned, left: float, ask: Ask) -> Way | None:
    """The fewest on which the same method ends in time."""
    if wanted.situation().hardware.kind != "cuda":
        return None
    several = "ddp" if best.candidate.sharding == "none" else best.candidate.sharding
    for devices in _COUNTS:
        if devices <= wanted.devices or (several == TENSOR and devices % wanted.devices):
            continue
        made = ask(replace(wanted, devices=devices), replace(best.candidate, sharding=several))
        if made.hours is not None and made.hours[1] <= left:
            text = f"{devices} of these cards, where {made.title} takes {_takes(made)}"
            return Way(text, f"{devices} of these cards", {"devices": devices})
    return None


def _fewer_rows(wanted: Wanted, best: Planned, left: float, ask: Ask) -> Way | None:
    """About as many as there is time for. Few rows are read more often, so that they are tried and not divided."""
    made, rows = best, wanted.rows
    for _ in range(_TRIES if not wanted.packed else 0):
        assert made.hours is not None
        rows = _rounded(min(rows - 1, rows * left / made.hours[1]))
        if rows < 1:
            return None
        made = ask(replace(wanted, rows=rows), best.candidate)
        if made.hours is None:
            return None
        if made.hours[1] <= left:
            text = f"{rows:,} of the {units.several(wanted.rows, 'row')}, for which {made.title} takes {_takes(made)}"
            return Way(text, units.several(rows, "row"), {"rows": rows})
    return None


def _rounded(rows: float) -> int:
    """Down to two digits."""
    grain = 10 ** max(0, len(str(int(rows))) - 2)
    return int(rows) // grain * grain


def until(best: Planned) -> Way:
    """The deadline that the quickest meets, in hours."""
    assert best.hours is not None
    scale = 10 if best.hours[1] < 10 else 1
    hours = f"{math.ceil(best.hours[1] * scale) / scale:.1f}".removesuffix(".0")
    short = f"a deadline of {units.several(hours, 'hour')}"
    text = f"{short}, as the quickest, {best.title}, takes {_takes(best)}"
    return Way(text, short, {"deadline": hours})
