"""Derive from a model's shape which parts its block has; find where a method's parts are drawn, and their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from peft_lab.core.errors import Unsupported
from peft_lab.methods.base import Part
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import MATRIX_TYPES, PARAMETER, Mixture, ModelShape, ModuleGroup

# ----------------------------------------
# Which form of block to draw if a model's blocks differ: dense layers first, experts in every other one.


Others = tuple[tuple[int, str], ...]


def chosen_form(
    shape: ModelShape, groups: Sequence[ModuleGroup], parts: Sequence[Part]
) -> tuple[list[ModuleGroup], int, Others]:
    """Return the groups of the form that most parts go into; on a tie, of the form that most blocks have.

    Two blocks have the same form if they have the same matrices and norms: T5's first block, which alone has a
    table of distances, counts as equal to the others.

    Returns:
        the groups, the number of blocks of that form, and the number and a description of each other form's blocks.
    """
    forms: dict[tuple[int, ...], list[int]] = {}
    for layer in sorted({layer for group in groups for layer in group.layers}):
        form = tuple(i for i, group in enumerate(groups) if layer in group.layers and _tells(shape, group))
        forms.setdefault(form, []).append(layer)
    at = {part.at for part in parts if part.kind != "quantised"}

    def suits(form: tuple[int, ...]) -> tuple[int, int]:
        own = [groups[index] for index in form]
        reached = {group.path for group in own} | {m.path for group in own if (m := shape.mixture_of(group))}
        reached |= {
            stack.path
            for stack in shape.bare
            for group in own
            if group.layers == stack.layers and stack.path.startswith(f"{group.path}.")
        }
        return len(reached & at), len(forms[form])

    best = max(forms, key=suits)
    first = forms[best][0]
    others = tuple(
        (len(layers), _consists(shape, [groups[index] for index in form]))
        for form, layers in forms.items()
        if form != best
    )
    return [group for group in groups if first in group.layers], len(forms[best]), others


def _tells(shape: ModelShape, group: ModuleGroup) -> bool:
    return group.is_matrix or group.is_norm or shape.mixture_of(group) is not None


def _consists(shape: ModelShape, groups: Sequence[ModuleGroup]) -> str:
    """Return a form in words: ``linear attention and a mixture of experts``."""
    if any(group.role in ("q", "qkv") for group in groups):
        first = "attention"
    elif any("linear_attn" in group.path for group in groups):
        first = "linear attention"
    else:
        first = "no attention"
    if any(shape.mixture_of(group) for group in groups):
        return f"{first} and a mixture of experts"
    plain = any(group.role == "down" for group in groups)
    return f"{first} and {'a plain feed-forward part' if plain else 'no feed-forward part'}"


# These compute x + attention(norm(x)) + mlp(norm(x)); all others in the catalogue apply the two in sequence.
SIDE_BY_SIDE = ("gpt_neox", "gptj", "phi", "falcon", "codegen", "cohere")
Kind = Literal["attention", "cross-attention", "linear attention", "state-space mixer", "feed-forward"]
# Norms inside an attention or mixer, which are part of its box.
_INNER_NORMS = ("q_norm", "k_norm", "q_a_layernorm", "kv_a_layernorm", "linear_attn.norm", "mixer.norm")


@dataclass(frozen=True)
class Half:
    """One residual branch of a block: attention or feed-forward."""

    kind: Kind
    # the parallel matrices the branch starts with (q, k, v or the fused one; gate and up, or up alone)
    entry: tuple[ModuleGroup, ...]
    exit: ModuleGroup | None  # the matrix that writes back to the residual stream
    before: ModuleGroup | None = None  # norm at the start of the branch
    after: ModuleGroup | None = None  # norm at its end (Gemma 2)
    on_stream: ModuleGroup | None = None  # norm on the residual stream after the sum (BERT)
    # matrices inside the attention, between ``entry`` and the heads (multi-head latent attention)
    inner: tuple[ModuleGroup, ...] = ()
    # where the feed-forward part is a mixture of experts; ``entry`` and ``exit`` are then its stacks
    mixture: Mixture | None = None
    router: ModuleGroup | None = None  # the router's matrix
    shared: tuple[ModuleGroup, ...] = ()  # matrices of the expert that every token passes


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model to draw, bottom to top."""

    embedding: ModuleGroup | None
    extra_embeddings: tuple[ModuleGroup, ...]  # positions and token types, added to the word embeddings
    embedding_norm: ModuleGroup | None
    halves: tuple[Half, ...]
    layers: int  # number of blocks of the form that is drawn
    others: tuple[tuple[int, str], ...]  # for each other form, the number of blocks and a description
    final_norm: ModuleGroup | None
    head: tuple[ModuleGroup, ...]  # matrices after the last block, in order
    stack: str  # title of the drawn half of an encoder-decoder model, else empty
    # title and matrices of the half of an encoder-decoder model that is not drawn
    other_side: tuple[str, tuple[ModuleGroup, ...]] | None
    side_by_side: bool

    @property
    def drawn(self) -> tuple[ModuleGroup, ...]:
        groups = [self.embedding, *self.extra_embeddings, self.embedding_norm, self.final_norm, *self.head]
        for half in self.halves:
            groups += [half.before, *half.entry, half.exit, half.after, half.on_stream, half.router]
        return tuple(group for group in groups if group is not None)


def read_anatomy(shape: ModelShape, parts: Sequence[Part] = ()) -> Anatomy:
    """Return a model's anatomy; of an encoder-decoder, the half that holds the ``parts``, else the encoder. Raises
    Unsupported if its blocks have no attention or feed-forward matrices with known names."""
    stacks = _stacks(shape)
    if not stacks:
        raise _unknown(shape)
    prefix = _drawn_stack(stacks, parts)
    others = [name for name in stacks if name != prefix]
    first, layers, forms_of_others = chosen_form(shape, stacks[prefix], parts)
    halves = _halves(shape, first)
    if not halves:
        raise _unknown(shape)
    other_sides = tuple(_side(name) for name in others)
    own = [g for g in shape.groups if not g.layers and not g.path.startswith(other_sides)]
    patches = next((group for group in own if group.type == "Conv2d"), None)
    word, further = (patches, ()) if shape.kind == "vision" else _embeddings(own, shape.vocab)
    norms = [group for group in own if group.is_norm]
    embedding_norm = next((norm for norm in norms if "embed" in norm.path), None)
    is_encoder = others and prefix == next(iter(stacks))
    return Anatomy(
        embedding=word,
        extra_embeddings=further,
        embedding_norm=embedding_norm,
        halves=halves,
        layers=layers,
        others=forms_of_others,
        final_norm=next((norm for norm in norms if norm is not embedding_norm), None),
        head=() if is_encoder else tuple(group for group in own if group.type in MATRIX_TYPES),
        stack=_side(prefix).rstrip(".") if others else "",
        other_side=(_side(others[0]).rstrip("."), tuple(stacks[others[0]])) if others else None,
        # A norm between the halves means that one follows the other (Falcon can be built either way).
        side_by_side=shape.model_type in SIDE_BY_SIDE
        and not any("post_attention" in group.path for group in first if group.is_norm),
    )


def _drawn_stack(stacks: Iterable[str], parts: Sequence[Part]) -> str:
    """Return the last stack that contains every part inside blocks, or the first stack if none does."""
    first, *_ = stacks
    inside = [part.at for part in parts if "{}" in part.at]
    holding = [name for name in stacks if inside and all(at.startswith(name) for at in inside)]
    return holding[-1] if holding else first


def _embeddings(
    groups: Sequence[ModuleGroup], vocab: int
) -> tuple[ModuleGroup | None, tuple[ModuleGroup, ...]]:
    """Return the embedding of the words, and those of positions and token types."""
    tables = [group for group in groups if "Embedding" in group.type]
    tables = [group for group in tables if not group.tied] or tables
    whole = [group for group in tables if group.parameters["weight"][0] == vocab]
    word = next(iter([*whole, *tables]), None)
    return word, tuple(group for group in tables if group is not word)


def _unknown(shape: ModelShape) -> Unsupported:
    return Unsupported(
        f"The blocks of {shape.title} have no attention or feed-forward maps that are known by name.", "model"
    )


def _side(prefix: str) -> str:
    """Return ``encoder.`` for ``encoder.block.``."""
    return prefix.split(".")[0] + "."


def _stacks(shape: ModelShape) -> dict[str, list[ModuleGroup]]:
    """Return the groups of each stack of blocks with known matrices, by the path before the layer index."""
    stacks: dict[str, list[ModuleGroup]] = {}
    for group in shape.groups:
        if group.layers and "{}" in group.path:
            stacks.setdefault(group.path.split("{}")[0], []).append(group)
    return {prefix: groups for prefix, groups in stacks.items() if any(group.role for group in groups)}


def _halves(shape: ModelShape, groups: Sequence[ModuleGroup]) -> tuple[Half, ...]:
    cross = [group for group in groups if "EncDecAttention" in group.path]
    rest = [group for group in groups if group not in cross]
    norms = [g for g in rest if g.is_norm and not g.path.endswith(_INNER_NORMS)]
    if len(norms) == 2:  # Falcon registers the one between the halves first
        norms.sort(key=lambda norm: "post_attention" in norm.path)
    mixture = next((m for m in shape.mixtures if any(m.holds(g.path, g.layers) for g in rest)), None)
    feed = _experts(shape, mixture) if mixture and mixture.stacks else _half("feed-forward", rest)
    halves = [_half("attention", rest) or _stateful(rest), _half("cross-attention", cross), feed]
    return _place_norms(norms, [half for half in halves if half is not None])


def _half(kind: Kind, groups: Sequence[ModuleGroup]) -> Half | None:
    by_role = {group.role: group for group in reversed(groups) if group.role}
    if kind == "feed-forward":
        entry = tuple(by_role[role] for role in ("gate", "up") if role in by_role)
        return Half(kind, entry, by_role.get("down")) if entry else None
    entry = tuple(by_role[role] for role in ("q", "k", "v", "qkv") if role in by_role)
    latent = tuple(group for group in groups if group.role == "latent")
    if latent:
        whole = tuple(group for group in entry if not any(".q_a" in g.path for g in latent))
        inner = tuple(by_role[role] for role in ("q", "kv") if role in by_role and by_role[role] not in whole)
        return Half(kind, (*whole, *latent), by_role.get("o"), inner=inner)
    return Half(kind, entry, by_role.get("o")) if entry else None


def _stateful(groups: Sequence[ModuleGroup]) -> Half | None:
    """Return a branch with a state in place of attention: the maps that share a module with the output map."""
    last = next((group for group in groups if group.role == "o"), None)
    if last is None:
        return None
    beside = last.path.rpartition(".")[0]
    entry = tuple(g for g in groups if g.is_matrix and g is not last and g.path.rpartition(".")[0] == beside)
    kind: Kind = "linear attention" if "linear_attn" in beside else "state-space mixer"
    return Half(kind, entry, last) if entry else None


def _experts(shape: ModelShape, mixture: Mixture) -> Half | None:
    stacks = [group for group in shape.bare if group.stacked > 1 and mixture.holds(group.path, group.layers)]
    half = _half("feed-forward", stacks)
    if half is None:
        return None
    own = [*shape.bare, *shape.groups]
    router = next(
        (g for g in own if mixture.router and g.path in (mixture.router, f"{mixture.router}.weight")), None
    )
    shared = tuple(g for g in shape.groups if g.path in mixture.shared and g.layers == mixture.layers)
    return replace(half, mixture=mixture, router=router, shared=shared)


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
        placed.append(replace(half, before=before, after=after, on_stream=stream))
    return tuple(placed)


@dataclass(frozen=True)
class Placement:
    """A method's parts, by where they are drawn.

    Attributes:
        elsewhere: parts on modules that the picture does not show, such as those of a T5 decoder.
    """

    shape: ModelShape
    anatomy: Anatomy
    parts: tuple[Part, ...]
    quantization: Quantization | None

    def on(self, group: ModuleGroup, *kinds: str) -> tuple[Part, ...]:
        """Return the parts of these kinds on a module."""
        places = {group.path, holder(group)}
        return tuple(part for part in self.parts if part.at in places and part.kind in kinds)

    def first(self, group: ModuleGroup, kind: str) -> Part | None:
        return next(iter(self.on(group, kind)), None)

    def at(self, place: str, kind: str) -> Part | None:
        """Return the first part of this kind at a place: ``tokens``, ``attention`` or ``ffn``."""
        return next((part for part in self.parts if part.at == place and part.kind == kind), None)

    def columns(self, entry: Sequence[ModuleGroup]) -> tuple[Part, ...]:
        """Return an attention's prefix parts: on its k and v, or on the attention as a whole."""
        paths = {group.path for group in entry} | {"attention"}
        return tuple(part for part in self.parts if part.kind == "columns" and part.at in paths)

    def _adapters(self, *places: str) -> list[Part]:
        return [part for part in self.parts if part.kind == "bottleneck" and part.at in places]

    def bottleneck(self, place: str, last: ModuleGroup | None) -> Part | None:
        """Return the adapter after the sub-layer, named by its place, the matrix it follows or its mixture."""
        mixture = self.shape.mixture_of(last) if last else None
        found = self._adapters(place, last.path if last else place, mixture.path if mixture else place)
        return next((part for part in found if not is_parallel(part) and not on_sum(part)), None)

    def on_sum(self, last: ModuleGroup | None) -> Part | None:
        """Return the adapter that reads the stream after the sub-layer was added."""
        return next((part for part in self._adapters(last.path if last else "") if on_sum(part)), None)

    def parallel(self, place: str) -> Part | None:
        """Return the adapter parallel to the sub-layer at this place."""
        return next((part for part in self._adapters(place) if is_parallel(part)), None)

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
        """Return the names of modules whose parts are not drawn, without those in an encoder-decoder's other half."""
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
    """Return whether a part is an adapter that reads the stream after the sub-layer was added."""
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
