"""Mixtures of experts: feed-forward parts of which a router picks a few for every token.

transformers keeps the experts of a layer in stacked parameters, one slice for each expert, which are no linear maps
(``nn.Linear``): what adapts linear maps by name does not see them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

_ONE_OF_A_LIST = re.compile(r"^(?P<block>.+)\.experts\.(?:expert_)?(?P<number>\d+)\.")


@dataclass(frozen=True)
class Mixture:
    """The experts of all layers that have them in the same form.

    Attributes:
        path: of the feed-forward part that holds router and experts, with ``{}`` for the layer index.
        layers: the layer indices that have it; other layers have a plain feed-forward part.
        experts: how many the router chooses from.
        per_token: how many it chooses; ``None`` where the config does not say.
        stacks: modules that hold the stacked parameters; empty where each expert is a module of its own.
        router: module that holds the router's matrix; ``None`` where it is not known by name.
        shared: linear maps of the expert that every token passes.
        transposed: whether a stack stores (expert, in, out) rather than (expert, out, in).
    """

    path: str
    layers: tuple[int, ...]
    experts: int
    per_token: int | None
    stacks: tuple[str, ...]
    router: str | None = None
    shared: tuple[str, ...] = ()
    transposed: bool = False

    def holds(self, path: str, layers: Iterable[int]) -> bool:
        """Whether modules of that path, in those layers, are parts of it. Other layers may have plain ones there."""
        return path.startswith(f"{self.path}.") and set(layers) <= set(self.layers)

    @property
    def chosen(self) -> str:
        """``8 experts, 2 used per token``."""
        used = f", {self.per_token} used per token" if self.per_token else ""
        return f"{self.experts} experts{used}"


def from_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[Mixture, ...]:
    """Rebuild mixtures from their stored form (see :func:`to_rows`)."""
    made = []
    for row in rows:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
        }
        made.append(Mixture(**values))
    return tuple(made)


def to_rows(mixtures: Iterable[Mixture]) -> list[dict[str, Any]]:
    """Mixtures as JSON-able rows."""
    rows = []
    for mixture in mixtures:
        row = {field.name: getattr(mixture, field.name) for field in fields(mixture)}
        rows.append({key: list(value) if isinstance(value, tuple) else value for key, value in row.items()})
    return rows


def is_stack(type_: str, parameters: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a module holds stacked matrices, one for each expert. A convolution's weight has three sides too."""
    return not type_.startswith("Conv") and any(len(shape) == 3 for shape in parameters.values())


def listed(path: str) -> tuple[str, int] | None:
    """The mixture and the number of an expert that is a module of its own, from the path of one of its modules."""
    found = _ONE_OF_A_LIST.match(path)
    return (found["block"], int(found["number"])) if found else None
