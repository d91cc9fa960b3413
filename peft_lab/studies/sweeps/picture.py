"""Prepare the picture of a learner's own sweep: a figure over one varied setting, or over two."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft_lab.core.units import written_figure
from peft_lab.studies.landscape import Line, best_spot, spot_of
from peft_lab.studies.sweeps.store import METHOD, RATE, SweepSetting, best_setting, kind_of

WIDE = 8  # ratio of the largest to the smallest value from which an axis is logarithmic
#: Titles of the names that are not knobs.
TITLES = {METHOD: "Method", RATE: "Learning rate"}


@dataclass(frozen=True)
class PicturePoint:
    """A point of a picture over two axes: the best setting there, with its mean over ``seeds`` seeds."""

    x: float
    y: float
    mean: float
    seeds: int
    setting: SweepSetting


def values(settings: Sequence[SweepSetting], name: str) -> list[Any]:
    """Return the distinct values of a name: numbers sorted, anything else in order of appearance."""
    found = list(dict.fromkeys(each.values[name] for each in settings if each.values[name] is not None))
    return sorted(found) if all(_number(value) for value in found) else found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def axes(settings: Sequence[SweepSetting], names: Sequence[str]) -> list[str]:
    """Return the names that can be an axis: those with more than one value, all numbers."""
    found = {name: values(settings, name) for name in names}
    return [name for name, all_ in found.items() if len(all_) > 1 and all(_number(value) for value in all_)]


def logarithmic(settings: Sequence[SweepSetting], name: str) -> bool:
    """Return whether an axis is logarithmic: learning rates, and positive values that span a factor of ``WIDE``."""
    found = values(settings, name)
    return found[0] > 0 and (name == RATE or found[-1] >= WIDE * found[0])


def crossed(settings: Sequence[SweepSetting], name: str) -> bool:
    """Return whether values of this axis repeat with different others, as in a grid; random draws do not repeat."""
    return len(values(settings, name)) < sum(each.values[name] is not None for each in settings)


def lines(
    settings: Sequence[SweepSetting], across: str, by: str, figure: str, held: Mapping[str, Any]
) -> list[Line]:
    """Return a line over ``across`` for each value of ``by``, or a single one if ``by`` is empty. ``held``: values of
    the other names. A setting whose method lacks a name is drawn whatever its value."""
    fixed = {name: value for name, value in held.items() if name not in (across, by)}
    found = []
    for value in values(settings, by) if by else [None]:
        fitting = [
            each
            for each in settings
            if each.values[across] is not None
            and (not by or each.values[by] == value)
            and all(each.values[name] in (None, wanted) for name, wanted in fixed.items())
        ]
        spots = [
            spot
            for each in fitting
            if (spot := spot_of(float(each.values[across]), each.found(figure))) is not None
        ]
        if spots:
            spots.sort(key=lambda spot: spot.rate)
            found.append(Line(label(by, value), "", (), tuple(spots), best_spot(spots, kind_of(figure))))
    return found


def label(name: str, value: Any) -> str:
    """Return a value as it is written in a legend or a list; the label of a single line if ``name`` is empty.

    >>> label("r", 8), label("learning_rate", 0.003), label("", None)
    ('r 8', 'learning rate 3e-3', 'all')
    """
    if not name:
        return "all"
    if name == METHOD:
        return str(value)
    return f"{title(name).lower() if name in TITLES else name} {written_figure(value)}"


def title(name: str) -> str:
    """Return the title of a setting: its own name if it has no other."""
    return TITLES.get(name, name)


def told(values_: Mapping[str, Any]) -> str:
    """Return a setting as text: the values of its varied names."""
    return ", ".join(label(name, value) for name, value in values_.items() if value is not None) or "all runs"


def places(settings: Sequence[SweepSetting], x: str, y: str, figure: str) -> list[PicturePoint]:
    """Return the settings over two axes; if several share a point, the best of them."""
    there: dict[tuple[float, float], list[SweepSetting]] = {}
    for each in settings:
        if each.values[x] is not None and each.values[y] is not None:
            there.setdefault((float(each.values[x]), float(each.values[y])), []).append(each)
    found = []
    for (at, up), group in there.items():
        chosen = best_setting(group, figure)
        if chosen is not None:
            scores = chosen.found(figure)
            found.append(PicturePoint(at, up, statistics.fmean(scores), len(scores), chosen))
    return found
