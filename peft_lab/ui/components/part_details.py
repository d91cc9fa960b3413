"""What a part of the drawing or a row of the tree is made of: the parameters behind one path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peft_lab import units
from peft_lab.counting.count import CountReport, GroupCount
from peft_lab.methods.base import Part
from peft_lab.models.shapes import ModelShape

HEADER = ("Parameter", "Shape, type, state", "All layers")
_STATE = {"frozen": "frozen", "method": "trainable", "head": "task head, trainable"}
# What a method keeps outside the model's own modules stands behind these parts.
_OUTSIDE = ("cells", "encoder", "columns")


@dataclass(frozen=True)
class Detail:
    """The parameters behind one path.

    Attributes:
        rows: name, shape with type and state, number of parameters of all layers together.
        note: what there is to say where there are no rows.
    """

    title: str
    rows: tuple[tuple[str, str, str], ...]
    note: str = ""


def state_of(group: GroupCount) -> str:
    return "quantised" if group.quantised else _STATE[group.role]


def plain(path: str) -> str:
    """A path with a star for the layer's number."""
    return path.replace("{}", "∗")


def groups_at(
    tree: Sequence[GroupCount], path: str, shape: ModelShape, parts: Sequence[Part] = ()
) -> list[GroupCount]:
    """The parameters of the module at ``path`` and below it, and what a part there keeps outside the model."""
    here = [group for group in tree if group.module == path or group.module.startswith(f"{path}.")]
    if any(part.at == path and part.kind in _OUTSIDE for part in parts):
        own = tuple(group.path for group in shape.groups)
        here += [
            group
            for group in tree
            if group.role == "method"
            and group.added
            and not any(group.module == at or group.module.startswith(f"{at}.") for at in own)
        ]
    return here


def detail(path: str, report: CountReport | None, shape: ModelShape, parts: Sequence[Part] = ()) -> Detail:
    """What is behind ``path``, from the count; while there is none, that it is being counted."""
    title = {"tokens": "Virtual tokens", "attention": "Attention", "ffn": "Feed-forward"}.get(
        path, plain(path)
    )
    if report is None:
        return Detail(title, (), "Counting…")
    groups = groups_at(report.tree, path, shape, parts)
    if not groups:
        tied = any(group.path == path and not group.each for group in shape.groups)
        return Detail(
            title,
            (),
            "Shares its parameters with the embeddings, where they are counted."
            if tied
            else "No parameters.",
        )
    return Detail(title, tuple(_row(group, path) for group in groups))


def _row(group: GroupCount, path: str) -> tuple[str, str, str]:
    name = f"{group.module}.{group.name}".removeprefix(f"{path}.")
    dims = " × ".join(f"{size:,}" for size in group.shape)
    return plain(name), f"{dims}, {group.dtype}, {state_of(group)}", units.count(group.parameters)
