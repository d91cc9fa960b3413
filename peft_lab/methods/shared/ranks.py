"""Ranks that differ between matrices, as a learner types them: ``v_proj=4, 0-9=16``. PEFT calls them ``rank_pattern``.

A rule is a name and a rank. The name is the ending of a module's path, as for the targets, or a layer or a range of
layers. The first rule that fits a matrix counts, as in PEFT; matrices that none fits keep the rank of the knob r.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from peft_lab.errors import BadInput
from peft_lab.methods.base import Problem
from peft_lab.models.shapes import ModelShape, ModuleGroup

FIELD = "rank_pattern"
HIGHEST = 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_LAYERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
_EXAMPLE = "'v_proj=4, 0-9=16'"


@dataclass(frozen=True)
class Rule:
    """One rule. ``layers`` is first and last layer where the name is a layer or a range, else ``None``."""

    name: str
    rank: int
    layers: tuple[int, int] | None

    def fits(self, group: ModuleGroup, path: str, layer: int | None) -> bool:
        """Whether the rule is about a module: its layer is in the range, or its path ends in the name."""
        if self.layers is not None:
            return layer is not None and self.layers[0] <= layer <= self.layers[1]
        return path == self.name or path.endswith(f".{self.name}")


def parse(text: str) -> tuple[Rule, ...]:
    """The rules of a text, in order.

    Raises:
        BadInput: the first rule that is none, with what one looks like.

    >>> [(rule.name, rule.rank, rule.layers) for rule in parse("v_proj=4, 0-9=16")]
    [('v_proj', 4, None), ('0-9', 16, (0, 9))]
    """
    return tuple(_rule(part.strip()) for part in text.split(",") if part.strip())


def _rule(part: str) -> Rule:
    name, equals, number = (piece.strip() for piece in part.partition("="))
    layers = _LAYERS.fullmatch(name)
    if not equals or not (layers or _NAME.fullmatch(name)):
        raise BadInput(
            f"Ranks by module are written like {_EXAMPLE}: a module's name or layers, then its rank. "
            f"'{part[:40]}' is not.",
            FIELD,
        )
    if not re.fullmatch(r"\d{1,6}", number) or not 1 <= int(number) <= HIGHEST:
        raise BadInput(f"A rank must be from 1 to {HIGHEST}; '{number[:20]}' for {name[:40]} is not.", FIELD)
    if layers is None:
        return Rule(name, int(number), None)
    first = int(layers[1])
    last = first if layers[2] is None else int(layers[2])
    if last < first:
        raise BadInput(f"Layers {name} run backwards; write {last}-{first}.", FIELD)
    return Rule(name, int(number), (first, last))


def problems(shape: ModelShape, groups: Sequence[ModuleGroup], text: str) -> Iterable[Problem]:
    """Every rule must fit a matrix that is adapted, and one that a rule before it has not taken."""
    try:
        rules = parse(text)
    except BadInput as error:
        yield Problem(FIELD, str(error))
        return
    taken: set[str] = set()
    for rule in rules:
        paths = {path for group in groups for path, layer in places(group) if rule.fits(group, path, layer)}
        if not paths:
            known = f"layers 0 to {shape.num_layers - 1}" if rule.layers else "the target modules"
            yield Problem(FIELD, f"'{rule.name}' fits no adapted matrix of {shape.title}; use {known}.")
        elif paths <= taken:
            yield Problem(
                FIELD,
                f"'{rule.name}={rule.rank}' has no effect: earlier rules already match everything it would.",
            )
        taken |= paths


def places(group: ModuleGroup) -> list[tuple[str, int | None]]:
    """Every module of a group: its path and its layer."""
    return list(zip(group.paths, group.layers or (None,), strict=True))


def ranks(group: ModuleGroup, rank: int, text: str) -> Mapping[int, int]:
    """How many of a group's modules have which rank, in the order of the layers. ``text`` has been checked."""
    rules = parse(text)
    return Counter(
        next((rule.rank for rule in rules if rule.fits(group, path, layer)), rank)
        for path, layer in places(group)
    )


def for_peft(groups: Sequence[ModuleGroup], text: str) -> dict[str, int]:
    """The rules as PEFT's ``rank_pattern``: regular expressions that have to match to the end of a module's path.

    A range of layers is written out after the name of what holds the layers, such as ``layers``.
    """
    holders = sorted({group.path.partition(".{}")[0].rpartition(".")[2] for group in groups if group.layers})
    made = {}
    for rule in parse(text):
        if rule.layers is None:
            made[re.escape(rule.name)] = rule.rank
            continue
        numbers = "|".join(str(layer) for layer in range(rule.layers[0], rule.layers[1] + 1))
        holder = holders[0] if len(holders) == 1 else f"({'|'.join(holders)})"
        made[rf"{holder}\.({numbers})\..+"] = rule.rank
    return made
