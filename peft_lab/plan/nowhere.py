"""What to say of a model that fits nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from peft_lab.plan import ranking
from peft_lab.plan.ranking import Planned
from peft_lab.plan.wanted import Wanted


def nearest(wanted: Wanted, ask: Callable[[Wanted, ranking.Candidate], Planned]) -> str:
    """One sentence for a model that fits nowhere: the nearest plan that works. ``ask`` tries a candidate."""
    situation = wanted.situation()
    start = f"{situation.shape.title} fits in no way on {_cards(wanted)}."
    for devices in (2, 4, 8, 16, 32):
        if devices <= wanted.devices or situation.hardware.kind != "cuda":
            continue
        more = replace(wanted, devices=devices)
        found = ask(more, ranking.Candidate("qlora", "fsdp2", True))
        if found.plan is not None:
            return f"{start} The nearest that works: QLoRA split over {devices} of these cards with FSDP2."
    from peft_lab.choose.words import nearest as other

    ways = other(situation, ranking.room_for(wanted))
    said = "; ".join(ways.values())
    return f"{start} The nearest that works: {said}." if said else f"{start} Nothing that we know works."


def _cards(wanted: Wanted) -> str:
    device = wanted.situation().hardware
    return device.title if wanted.devices == 1 else f"{wanted.devices:,} × {device.title}"
