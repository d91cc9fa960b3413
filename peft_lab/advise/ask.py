"""Recommendations as questions to another process: arguments that JSON can hold, plain data as answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.advise.flips import Flip
from peft_lab.advise.recommend import Recommendation


def recommendation(fields: Mapping[str, Any]) -> Recommendation:
    """Return :func:`peft_lab.advise.recommend.recommend` for the fields of a situation, with the real simulation.

    Raises:
        BadInput, SimulationError: as there.
    """
    from peft_lab.advise.recommend import recommend
    from peft_lab.advise.room import room_of
    from peft_lab.advise.situation import Situation

    situation = Situation(**fields)
    return recommend(situation, room_of(situation))


def flips(fields: Mapping[str, Any]) -> tuple[Flip, ...]:
    """Return :func:`peft_lab.advise.flips.flips` for a situation's fields. Raises as :func:`recommendation`."""
    from peft_lab.advise.flips import flips as find
    from peft_lab.advise.room import room_of
    from peft_lab.advise.situation import Situation

    situation = Situation(**fields)
    return find(situation, room_of(situation), recommendation(fields))
