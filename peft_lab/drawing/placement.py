"""Find where each of a method's parts is drawn, and what it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peft_lab.drawing.anatomy import Anatomy
from peft_lab.methods.base import Part
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import MATRIX_TYPES, PARAMETER, ModelShape, ModuleGroup


@dataclass(frozen=True)
class Placement:
    """The parts by where they are drawn.

    Attributes:
        elsewhere: parts on modules that the picture does not show, such as those of a T5 decoder.
    """

    shape: ModelShape
    anatomy: Anatomy
    parts: tuple[Part, ...]
    quantization: Quantization | None

    def on(self, group: ModuleGroup, *kinds: str) -> tuple[Part, ...]:
        places = {group.path, holder(group)}
        return tuple(part for part in self.parts if part.at in places and part.kind in kinds)

    def first(self, group: ModuleGroup, kind: str) -> Part | None:
        return next(iter(self.on(group, kind)), None)

    def at(self, place: str, kind: str) -> Part | None:
        return next((part for part in self.parts if part.at == place and part.kind == kind), None)

    def columns(self, entry: Sequence[ModuleGroup]) -> tuple[Part, ...]:
        """Return an attention's prefix: on its k and v, or on the attention as a whole."""
        paths = {group.path for group in entry} | {"attention"}
        return tuple(part for part in self.parts if part.kind == "columns" and part.at in paths)

    def bottleneck(self, place: str, last: ModuleGroup | None) -> Part | None:
        """Return the adapter after the sub-layer, named by its place, the matrix it follows or its mixture."""
        at = {place, last.path if last else place}
        if last and (mixture := self.shape.mixture_of(last)):
            at.add(mixture.path)
        return next(
            (
                p
                for p in self.parts
                if p.kind == "bottleneck" and p.at in at and not is_parallel(p) and not on_sum(p)
            ),
            None,
        )

    def on_sum(self, last: ModuleGroup | None) -> Part | None:
        """Return the adapter that reads the stream after the sub-layer was added."""
        return next((part for part in self.parts if last and part.at == last.path and on_sum(part)), None)

    def parallel(self, place: str) -> Part | None:
        return next(
            (p for p in self.parts if p.kind == "bottleneck" and p.at == place and is_parallel(p)), None
        )

    def quantised(self, group: ModuleGroup) -> bool:
        """Return whether a module is quantised, by its parts; without such parts, every matrix of the blocks is."""
        if self.quantization is None:
            return False
        if any(part.kind == "quantised" for part in self.parts):
            return bool(self.on(group, "quantised"))
        return bool(group.layers) and group.type in MATRIX_TYPES

    @property
    def elsewhere(self) -> tuple[Part, ...]:
        drawn = self.anatomy.drawn
        places = {group.path for group in drawn} | {holder(group) for group in drawn}
        places |= {"tokens", "attention", "ffn"}
        places |= {half.mixture.path for half in self.anatomy.halves if half.mixture}
        return tuple(part for part in self.parts if part.at not in places)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Return the names of modules with parts that are neither drawn nor in an encoder-decoder's other half."""
        other = self.anatomy.other_side
        groups = {group.path: group for group in (*self.shape.groups, *self.shape.bare)}
        inside = [part.at for part in self.elsewhere if not (other and part.at.startswith(other[0] + "."))]
        # A module whose parameters all belong to another one (tied embeddings) is shown there.
        own = [at for at in inside if at not in groups or groups[at].each]
        return tuple(dict.fromkeys(self.name(groups[at]) if at in groups else at for at in own))

    # -- words -----------------------------------------------------------------------------------------------------

    def name(self, group: ModuleGroup) -> str:
        """Return the module's shortest name that is unambiguous in its block."""
        if group.is_matrix and self.shape.mixture_of(group):  # a shared expert's, named like a dense layer's
            return ".".join(group.path.split(".")[-2:])
        if group.role:
            return self.shape.target_name(group)
        *above, last = group.path.split(".")
        if last == "weight":
            return above[-1]
        return f"{above[-1]}.{last}" if above and last == "dense" else last

    def status(self, group: ModuleGroup) -> str:
        if self.on(group, "trainable"):
            return "trainable"
        return "frozen, quantised" if self.quantised(group) else "frozen"

    def label(self, group: ModuleGroup) -> str:
        """Return the screen reader's label: ``q_proj, 576×576, frozen, LoRA rank 8``."""
        notes = [
            part_words(part) for part in self.on(group, "low_rank", "gate", "bias", "columns", "bottleneck")
        ]
        return ", ".join([self.name(group), dims(group), self.status(group), *notes])


def holder(group: ModuleGroup) -> str:
    """Return the module that a bare parameter belongs to; the path of a module itself."""
    return group.path.rpartition(".")[0] if group.type == PARAMETER else group.path


def is_parallel(part: Part) -> bool:
    return bool(part.size.get("parallel")) or "parallel" in part.label.lower()


def on_sum(part: Part) -> bool:
    return part.kind == "bottleneck" and bool(part.size.get("stream")) and not is_parallel(part)


def dims(group: ModuleGroup) -> str:
    """Return ``out×in`` for a matrix, rows×width for an embedding, the length for a norm."""
    if "weight" not in group.parameters:
        return "×".join(str(n) for shape in group.parameters.values() for n in shape)
    weight = group.parameters["weight"]
    if len(weight) == 2 and group.type == "Conv1D":
        weight = weight[::-1]
    return "×".join(str(size) for size in weight)


def part_words(part: Part) -> str:
    """Return a part's description, without its place."""
    size = part.size
    if part.kind == "low_rank":
        least = size.get("least", size["rank"])
        spread = f"{least} to {size['rank']}" if least != size["rank"] else f"{least}"
        return f"LoRA rank {spread}" + (" with magnitude vector (DoRA)" if size.get("magnitude") else "")
    if part.kind == "gate":
        return f"IA³ vector {part.label} of {size['size']} on its {'input' if size.get('on_input') else 'output'}"
    if part.kind == "bias":
        return f"bias of {size['size']} trainable"
    if part.kind == "columns":
        return f"{size['tokens']} trainable prefix column{'s' if size['tokens'] > 1 else ''}"
    if part.kind == "cells":
        plural = "s" if size["tokens"] > 1 else ""
        return f"{size['tokens']} trainable virtual token{plural} of width {size['width']}"
    if part.kind == "encoder":
        return f"prompt encoder, {part.label} of width {size['width']} and {size['layers']} layers, in training only"
    if part.kind == "bottleneck":
        where = " on the sum" if on_sum(part) else " from the stream" if size.get("stream") else ""
        return f"{'parallel ' if is_parallel(part) else ''}adapter of width {size['width']}{where}"
    if part.kind == "quantised":
        return "quantised"
    return "all trainable"
