"""Which parts a model's block is made of and in which order, read off its shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from peft_lab.errors import Unsupported
from peft_lab.methods.base import Part
from peft_lab.shapes import MATRIX_TYPES, ModelShape, ModuleGroup

# These compute x + attention(norm(x)) + mlp(norm(x)); all others in the catalogue go through one after the other.
SIDE_BY_SIDE = ("gpt_neox", "gptj", "phi", "falcon", "codegen", "cohere")
Kind = Literal["attention", "cross-attention", "feed-forward"]


@dataclass(frozen=True)
class Half:
    """One residual branch of a block: attention or feed-forward.

    Attributes:
        entry: the parallel matrices the branch starts with (q, k, v or the fused one; gate and up, or up alone).
        exit: the matrix that writes back to the residual stream.
        before: norm at the start of the branch. after: norm at its end (Gemma 2).
        on_stream: norm on the residual stream after the sum (BERT).
    """

    kind: Kind
    entry: tuple[ModuleGroup, ...]
    exit: ModuleGroup | None
    before: ModuleGroup | None = None
    after: ModuleGroup | None = None
    on_stream: ModuleGroup | None = None


@dataclass(frozen=True)
class Anatomy:
    """What is drawn of a model, bottom to top.

    Attributes:
        extra_embeddings: positions and token types, added to the word embeddings.
        layers: how many identical blocks there are.
        head: matrices after the last block, in order.
        other_side: title and matrices of the half of an encoder-decoder model that is not drawn.
        stack: what to call the block's half of an encoder-decoder model, else empty.
    """

    embedding: ModuleGroup | None
    extra_embeddings: tuple[ModuleGroup, ...]
    embedding_norm: ModuleGroup | None
    halves: tuple[Half, ...]
    layers: int
    final_norm: ModuleGroup | None
    head: tuple[ModuleGroup, ...]
    stack: str
    other_side: tuple[str, tuple[ModuleGroup, ...]] | None
    side_by_side: bool

    @property
    def drawn(self) -> tuple[ModuleGroup, ...]:
        found = [self.embedding, *self.extra_embeddings, self.embedding_norm, self.final_norm, *self.head]
        for half in self.halves:
            found += [half.before, *half.entry, half.exit, half.after, half.on_stream]
        return tuple(group for group in found if group is not None)


def read(shape: ModelShape, parts: Sequence[Part] = ()) -> Anatomy:
    """The anatomy of a model. Of an encoder-decoder model the half that ``parts`` go into is taken; both: the encoder.

    Raises:
        Unsupported: no attention and no feed-forward matrices are known by name in its blocks.
    """
    stacks = _stacks(shape)
    if not stacks:
        raise Unsupported(
            f"The blocks of {shape.title} have no attention or feed-forward maps that are known by name.",
            "model",
        )
    prefix = next(iter(stacks))
    for name in stacks:
        inside = [part.at for part in parts if "{}" in part.at]
        if inside and all(at.startswith(name) for at in inside):
            prefix = name
    outer = [group for group in shape.groups if not group.layers]
    sides = len(stacks) > 1
    own = [
        g for g in outer if not sides or not any(g.path.startswith(_side(p)) for p in stacks if p != prefix)
    ]
    norms = [group for group in own if group.is_norm]
    embeddings = [g for g in own if "Embedding" in g.type]
    free = [group for group in embeddings if not group.tied] or embeddings
    word = next(
        (group for group in free if group.parameters["weight"][0] == shape.vocab), free[0] if free else None
    )
    embedding_norm = next((norm for norm in norms if "embed" in norm.path), None)
    head = [group for group in own if group.type in MATRIX_TYPES]
    first = stacks[prefix]
    other = next(
        ((_side(name).rstrip("."), tuple(found)) for name, found in stacks.items() if name != prefix), None
    )
    is_encoder = sides and prefix == next(iter(stacks))
    return Anatomy(
        embedding=word,
        extra_embeddings=tuple(group for group in free if group is not word),
        embedding_norm=embedding_norm,
        halves=_halves(shape, first),
        layers=max(group.count for group in first),
        final_norm=next((norm for norm in norms if norm is not embedding_norm), None),
        head=() if is_encoder else tuple(head),
        stack=_side(prefix).rstrip(".") if sides else "",
        other_side=other,
        side_by_side=shape.model_type in SIDE_BY_SIDE,
    )


def _side(prefix: str) -> str:
    """``encoder.`` of ``encoder.block.``."""
    return prefix.split(".")[0] + "."


def _stacks(shape: ModelShape) -> dict[str, list[ModuleGroup]]:
    """Groups of each run of blocks, by what precedes the layer index; only runs with known matrices."""
    found: dict[str, list[ModuleGroup]] = {}
    for group in shape.groups:
        if group.layers and "{}" in group.path:
            found.setdefault(group.path.split("{}")[0], []).append(group)
    return {prefix: groups for prefix, groups in found.items() if any(group.role for group in groups)}


def _halves(shape: ModelShape, groups: Sequence[ModuleGroup]) -> tuple[Half, ...]:
    cross = [group for group in groups if "EncDecAttention" in group.path]
    rest = [group for group in groups if group not in cross]
    # Norms of single heads (q_norm, k_norm) belong to the attention box.
    norms = [g for g in rest if g.is_norm and not g.path.endswith(("q_norm", "k_norm"))]
    halves = [_half("attention", rest), _half("cross-attention", cross), _half("feed-forward", rest)]
    present = [half for half in halves if half is not None]
    ordered = _place_norms(norms, present)
    return ordered


def _half(kind: Kind, groups: Sequence[ModuleGroup]) -> Half | None:
    by_role = {group.role: group for group in reversed(groups) if group.role}
    if kind == "feed-forward":
        entry = tuple(by_role[role] for role in ("gate", "up") if role in by_role)
        last = by_role.get("down")
    else:
        entry = tuple(by_role[role] for role in ("q", "k", "v", "qkv") if role in by_role)
        last = by_role.get("o")
    return Half(kind, entry, last) if entry else None


def _place_norms(norms: Sequence[ModuleGroup], halves: Sequence[Half]) -> tuple[Half, ...]:
    on_stream = [
        norm
        for norm in norms
        if norm.path.endswith(("output.LayerNorm", "sa_layer_norm", "output_layer_norm"))
    ]
    placed = []
    for index, half in enumerate(halves):
        before = after = stream = None
        if on_stream:
            stream = on_stream[index] if index < len(on_stream) else None
        elif len(norms) == 2 * len(halves):
            before, after = norms[2 * index], norms[2 * index + 1]
        elif index < len(norms):
            before = norms[index]
        placed.append(Half(half.kind, half.entry, half.exit, before, after, stream))
    return tuple(placed)
