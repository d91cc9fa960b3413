"""A trajectory small enough for a page: which parts are pictured, and what is left out where it grows too large."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from peft_lab.trajectory.format import FILE_BYTES, Part, Trajectory
from peft_lab.trajectory.watched import Watched

FEW = 2
MANY = 100  # parts; of so many fewer are pictured, and fewer singular values kept
LEADING, LEADING_OF_MANY = 8, 3  # singular values


def pictured(parts: Sequence[Watched]) -> list[bool]:
    """Which parts have pictures: of the first and the last layer those in a block's first and last slot, and a part
    outside the layers where it is one of few."""
    layers = sorted({part.layer for part in parts if part.layer is not None})
    slots = list(dict.fromkeys(part.slot for part in parts if part.layer is not None))
    outside = sum(part.layer is None for part in parts)
    ends = {*layers[:1], *layers[-1:]}
    chosen = {*slots[:1], *(slots[-1:] if len(parts) <= MANY else ())}
    return [
        outside <= FEW if part.layer is None else part.layer in ends and part.slot in chosen for part in parts
    ]


def part_of(part: Watched, rows: Mapping[str, Any]) -> Part:
    """A part with its series, as the file has it."""
    names = list(dict.fromkeys(name for tensors in rows["tensors"] for name in tensors))
    return Part(
        path=part.path,
        layer=part.layer,
        slot=part.slot,
        kind=part.kind,
        shape=part.shape,
        parameters=part.parameters,
        rank=part.rank,
        share=rows["share"],
        gradient=rows["gradient"],
        change=rows["change"],
        spectrum=rows["spectrum"],
        tensors={name: [tensors.get(name) for tensors in rows["tensors"]] for name in names},
    )


def compact(data: Any) -> str:
    """JSON without a space too many."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fitted(found: Trajectory, most: int = FILE_BYTES) -> dict[str, Any]:
    """The trajectory as an object of at most so many bytes: pictures are left out where it is larger, first those of
    every second state, then of more."""
    data = found.to_dict()
    data["parts"] = [{**part, "tensors": dict(part["tensors"])} for part in data["parts"]]
    leading = LEADING if len(found.parts) <= MANY else LEADING_OF_MANY
    for part in data["parts"]:
        part["spectrum"] = [values[:leading] for values in part["spectrum"]]
    every = 1
    while every < len(found.steps) and len(compact(data).encode()) > most:
        every *= 2
        last = len(found.steps) - 1
        for part in data["parts"]:
            for name, series in part["tensors"].items():
                part["tensors"][name] = [
                    value if number % every == 0 or number == last else None
                    for number, value in enumerate(series)
                ]
    return data
