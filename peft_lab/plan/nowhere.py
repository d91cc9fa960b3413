"""What to say of a model that fits nowhere, and of a deadline that no plan meets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from peft_lab import units
from peft_lab.plan import ranking
from peft_lab.plan.ranking import Planned
from peft_lab.plan.wanted import HOUR, Wanted

#: How a base in 4 bits is split, and what to say of it beside.
_WAYS = {"fsdp2": "", "fsdp2+offload": ", offloaded to {} of main memory for each"}


def nearest(wanted: Wanted, ask: Callable[[Wanted, ranking.Candidate], Planned]) -> str:
    """One sentence for a model that fits nowhere: the nearest plan that works. ``ask`` tries a candidate."""
    situation = wanted.situation()
    start = f"{situation.shape.title} fits in no way on {_cards(wanted)}."
    for devices in (2, 4, 8, 16, 32):
        if devices <= wanted.devices or situation.hardware.kind != "cuda":
            continue
        more = replace(wanted, devices=devices)
        for way, offloaded in _WAYS.items():
            plan = ask(more, ranking.Candidate("qlora", way, True)).plan
            if plan is not None:
                where = offloaded.format(units.size(plan.host_bytes)) if offloaded else ""
                return f"{start} The nearest that works: QLoRA split over {devices} of these cards with FSDP2{where}."
    from peft_lab.choose.words import nearest as other

    ways = other(situation, ranking.room_for(wanted))
    said = "; ".join(ways.values())
    return f"{start} The nearest that works: {said}." if said else f"{start} Nothing that we know works."


def _cards(wanted: Wanted) -> str:
    device = wanted.situation().hardware
    return device.title if wanted.devices == 1 else f"{wanted.devices:,} × {device.title}"


def late(wanted: Wanted, ranked: Sequence[Planned]) -> str:
    """What to say where no plan is sure to meet the deadline: how long the quickest takes. Empty where one is, or where
    no speed is known."""
    left = wanted.hours()
    timed = [(one.hours, one.title) for one in ranked if one.hours is not None]
    if left is None or not timed or any(hours[1] <= left for hours, _ in timed):
        return ""
    (low, high), title = min(timed, key=lambda one: one[0][1])
    return (
        f"No plan is sure to end within {left:,.3g} hours. The quickest, {title}, takes "
        f"{units.span(low * HOUR, high * HOUR)}."
    )
