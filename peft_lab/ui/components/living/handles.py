"""What of a method can be set by hand in its drawing, with the parameters that it would have at every stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from peft_lab.methods.base import MethodSpec
from peft_lab.methods.knobs import Knob, is_read
from peft_lab.models.shapes import ModelShape

Kind = Literal["rank", "width", "tokens", "targets"]
_KINDS: Mapping[str, Kind] = {
    "r": "rank", "bottleneck": "width", "num_virtual_tokens": "tokens", "target_modules": "targets",
}  # fmt: skip


@dataclass(frozen=True)
class Stop:
    """A value that a handle can be left at, and the parameters that are trained then (the method's closed form)."""

    value: int
    trainable: int


@dataclass(frozen=True)
class Handle:
    """One thing to drag or to click.

    Attributes:
        knob: its name, which comes back with the new value. label: what a screen reader calls it.
        value: what is set now; of targets their names.
        stops: of all but targets, rising.
        names: of targets, by the drawing's path what the knob calls the matrix.
    """

    knob: str
    kind: Kind
    label: str
    value: Any
    stops: tuple[Stop, ...] = ()
    names: Mapping[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def handles(spec: MethodSpec, shape: ModelShape, values: Mapping[str, Any]) -> tuple[Handle, ...]:
    """A method's handles on a model, beside the knobs' complete values. None where the values do not work."""
    if any(problem.level == "error" for problem in spec.problems(shape, values)):
        return ()
    return tuple(_found(spec, shape, values))


def _found(spec: MethodSpec, shape: ModelShape, values: Mapping[str, Any]) -> Iterator[Handle]:
    for knob in spec.knobs:
        kind = _KINDS.get(knob.name)
        if kind is None or not is_read(knob, spec.knobs, values):
            continue
        if kind != "targets":
            yield Handle(knob.name, kind, knob.label, values[knob.name], _stops(spec, shape, values, knob))
        elif names := _names(spec, shape, knob):
            yield Handle(knob.name, kind, knob.label, list(values[knob.name]), names=names)


def _stops(spec: MethodSpec, shape: ModelShape, values: Mapping[str, Any], knob: Knob) -> tuple[Stop, ...]:
    wanted = sorted({*(int(stop) for stop in knob.stops), values[knob.name]})
    found = []
    for value in wanted:
        whole = {**values, knob.name: value}
        if all(problem.level != "error" for problem in spec.problems(shape, whole)):
            found.append(Stop(value, spec.formula(shape, whole).trainable))
    return tuple(found)


def _names(spec: MethodSpec, shape: ModelShape, knob: Knob) -> dict[str, str]:
    offered = spec.options(knob, shape)
    ends = {group.path: group.path.rpartition(".")[2] for group in shape.matrices if group.layers}
    return {path: end for path, end in ends.items() if end in offered}
