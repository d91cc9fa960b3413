"""Where adapters stand and what they read, by placement.

Beside the three of the papers there are those of the adapters library (1.3.0), by its own names. Theirs are told for
the architectures on which they were found equal to the library's (``tests/assets/adapters_library.json``):

    seq_bn          h + A(n(x + h))      its Pfeiffer: the sum after the feed-forward part is read, through the norm n
                                         where one follows the sum (BERT), and A's output is added before that norm
    par_bn          h + s A(x)           its parallel: x is the stream, so that a norm before the maps is not passed
    double_seq_bn   h + A(h)             its Houlsby: in series twice a layer, but none on cross-attention
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peft_lab.methods.base import Problem
from peft_lab.models.shapes import Mixture, ModelShape, ModuleGroup

LIBRARY = ("double_seq_bn", "seq_bn", "par_bn")
#: Those that multiply their output, those that read a sum, and those that read the stream instead of a map's end.
SCALED, SUMMED, ON_STREAM = ("parallel", "par_bn"), ("seq_bn",), ("seq_bn", "par_bn")
#: By model type: the norm before the feed-forward part, beside the module that holds it.
_NORM_BEFORE = {
    "llama": "post_attention_layernorm", "mistral": "post_attention_layernorm", "gpt2": "ln_2", "t5": "layer_norm",
}  # fmt: skip
#: And the norm on the stream after the sum, beside the map.
_NORM_AFTER = {"bert": "LayerNorm", "roberta": "LayerNorm", "xlm-roberta": "LayerNorm"}
_SUBLAYERS = ("attention", "feed-forward part")
Host = tuple[ModuleGroup, ModuleGroup | None]


def hosts(shape: ModelShape, placement: str) -> list[Host]:
    """The maps whose output is adapted, each with the module whose input an adapter reads besides or instead.

    A mixture of experts is one host as a whole: what its experts' sum is added to is what an adapter reads.
    """
    roles = ("o", "down") if placement in ("houlsby", "double_seq_bn") else ("down",)
    found = [group for group in shape.groups if group.role in roles and not shape.mixture_of(group)]
    if placement in LIBRARY:
        return _library(shape, placement, found)
    parallel = placement == "parallel"
    single = [(group, _entrance(shape, group) if parallel else None) for group in found]
    wholes = [_whole(shape, mixture) for mixture in shape.mixtures]
    return [*single, *((whole, whole if parallel else None) for whole in wholes)]


def _library(shape: ModelShape, placement: str, found: Iterable[ModuleGroup]) -> list[Host]:
    if not _is_known(shape):
        return []
    if placement == "double_seq_bn":
        return [(group, None) for group in found if "EncDecAttention" not in group.path]
    return [(group, _holds_stream(shape, group)) for group in found]


def _is_known(shape: ModelShape) -> bool:
    return shape.model_type in {**_NORM_BEFORE, **_NORM_AFTER} and not shape.mixtures


def _holds_stream(shape: ModelShape, host: ModuleGroup) -> ModuleGroup:
    """The module whose input is the stream that a feed-forward part is added to: its norm, or its first map."""
    before = _NORM_BEFORE.get(shape.model_type)
    return _entrance(shape, host) if before is None else _beside(shape, host, 2, before)


def _beside(shape: ModelShape, host: ModuleGroup, up: int, name: str) -> ModuleGroup:
    path = ".".join([*host.path.split(".")[:-up], name])
    return next(group for group in shape.groups if group.path == path)


def paths(shape: ModelShape, placement: str) -> list[tuple[str | None, ...]]:
    """Paths for each adapter: of the host, of what it reads, and of a summed one the norm after the sum, if any."""
    found: list[tuple[str | None, ...]] = []
    for host, source in hosts(shape, placement):
        after = norm_after(shape, placement, host)
        for index, path in enumerate(host.paths):
            place = (path, None if source is None else source.paths[index])
            found.append(place if after is None else (*place, after.paths[index]))
    return found


def norm_after(shape: ModelShape, placement: str, host: ModuleGroup) -> ModuleGroup | None:
    """The norm that the sum goes through before a summed adapter reads it."""
    name = _NORM_AFTER.get(shape.model_type)
    return _beside(shape, host, 1, name) if placement in SUMMED and name else None


def inputs(host: ModuleGroup, source: ModuleGroup | None) -> int:
    """The width of what an adapter reads."""
    return source.in_features if source is not None and source.is_matrix else host.out_features


def words(placement: str) -> str:
    """Where it stands, as the end of a sentence."""
    return _WORDS[placement]


_WORDS: Mapping[str, str] = {
    "houlsby": "after the attention and after the feed-forward part",
    "pfeiffer": "after the feed-forward part, before the sum",
    "parallel": "beside the feed-forward part, from the same input",
    "double_seq_bn": "as houlsby, but none on cross-attention: the adapters library's Houlsby",
    "seq_bn": "on the sum after the feed-forward part, through the norm that follows: the adapters library's Pfeiffer",
    "par_bn": "beside the feed-forward part, from the stream before its norm: the adapters library's parallel",
}


def none(shape: ModelShape, placement: str) -> Problem:
    """Why a model has no place for adapters."""
    if placement in LIBRARY and not _is_known(shape):
        known = ", ".join(sorted({**_NORM_BEFORE, **_NORM_AFTER}))
        return Problem(
            "placement",
            f"Where the adapters library puts {placement} on {shape.title} PEFT Lab has not compared; it has for "
            f"{known}. Take houlsby, pfeiffer or parallel.",
        )
    message = f"{shape.title} has no {_SUBLAYERS[-1]} that PEFT Lab recognises, so adapters have no place."
    return Problem("placement" if _has(shape, "o") else "model", message)


def _has(shape: ModelShape, role: str) -> set[int]:
    """The layers with an output map of that role, or a mixture in its place."""
    own = {layer for g in shape.groups if g.role == role and not shape.mixture_of(g) for layer in g.layers}
    return own | {layer for m in shape.mixtures if role == "down" for layer in m.layers}


def problems(shape: ModelShape, placement: str) -> Iterable[Problem]:
    """Layers that get fewer adapters than the placement says, and where one stands on a mixture of experts."""
    wanted = {"down": _SUBLAYERS[1]}
    if placement in ("houlsby", "double_seq_bn"):
        wanted = {"o": _SUBLAYERS[0], **wanted}
    for role, name in wanted.items():
        without = shape.num_layers - len(_has(shape, role))
        if without > 0:
            got = "one adapter, not two" if len(wanted) > 1 else "no adapter"
            yield Problem(
                "placement",
                f"{without} of the {shape.num_layers} layers of {shape.title} have no {name} that PEFT Lab "
                f"recognises, and get {got}.",
                "warning",
            )
    if shape.mixtures:
        place = "beside" if placement == "parallel" else "after"
        yield Problem(
            "placement",
            f"{shape.title} has {shape.mixtures[0].experts} experts in a feed-forward part: one adapter stands "
            f"{place} "
            "them all, on their sum, and none in a single expert.",
            "warning",
        )


def _whole(shape: ModelShape, mixture: Mixture) -> ModuleGroup:
    """A mixture of experts as a host: a module that is as wide at both ends as the stream."""
    return ModuleGroup(mixture.path, "Mixture", mixture.layers, {"weight": (shape.hidden, shape.hidden)})


def _entrance(shape: ModelShape, host: ModuleGroup) -> ModuleGroup:
    """The first map of the feed-forward part that ends in ``host``: the nearest one before it in the model's order."""
    before = shape.groups[: shape.groups.index(host)]
    return next(
        group for group in reversed(before) if group.role in ("up", "gate") and group.layers == host.layers
    )
