"""Implement bottleneck adapters in torch: our own, as PEFT has none.

An adapter changes the output of one module of the frozen model (a *host*: the attention's or the feed-forward part's
output map, or a whole mixture of experts), as a forward hook with its modules as a child of the host. The model keeps
its class, ``generate``, its key/value cache and its checkpointing. The hook runs before the dropout that some models
apply next; in evaluation an adapter after the dropout would be the same.

    sequential   y = h + U f(D h + b_d) + b_u                  h: the host's output
    parallel     y = h + s (U f(D x + b_d) + b_u)              x: the input of the feed-forward part, or the stream
                                                               before its norm (the adapters library's)
    summed       y = h + U f(D n(x + h) + b_d) + b_u           x: the stream; n: the norm after the sum, if there is one

Several adapters can be on one model; ``set_active`` switches between them, for the whole batch or row by row.
Torch is imported inside the functions; the classes are created once, on first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from peft_lab.core.errors import BadInput
from peft_lab.core.later import torch
from peft_lab.methods.base import Problem
from peft_lab.models.shapes import Mixture, ModelShape, ModuleGroup

CHILD = "bottleneck"  # attribute of the host module that holds its adapters
NONLINEARITIES = ("relu", "gelu", "silu", "tanh")
Active = str | tuple[str | None, ...] | None
#: Paths of a host, of the module whose input an adapter reads (``None``: it reads the host's output), and of the norm
#: applied to a summed adapter's input.
Place = tuple[str, str | None] | tuple[str, str | None, str | None]


@dataclass(frozen=True, eq=False)
class Reader:
    """Forward pre-hook that records a module's input for the adapters at a site."""

    site: Any
    path: str

    def __call__(self, module: Any, args: tuple[Any, ...]) -> None:
        self.site.seen[self.path] = args[0]


@cache
def _classes() -> tuple[type[Any], type[Any]]:
    from torch import nn
    from torch.nn import functional

    class Bottleneck(nn.Module):
        """``down``: m x d with bias, ``up``: d x m with bias; both normal, of deviation ``std``, cut at twice it."""

        def __init__(
            self, inputs: int, outputs: int, width: int, nonlinearity: str, std: float, device: Any
        ) -> None:
            super().__init__()
            self.down = nn.Linear(inputs, width, device=device)
            self.up = nn.Linear(width, outputs, device=device)
            self.nonlinearity = nonlinearity
            for layer in (self.down, self.up):
                nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
                nn.init.zeros_(layer.bias)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            f = getattr(torch if self.nonlinearity == "tanh" else functional, self.nonlinearity)
            return self.up(f(self.down(hidden.to(self.down.weight.dtype)))).to(hidden.dtype)

    class Site(nn.Module):
        """All adapters at one host, by name. ``scales`` multiply their outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.adapters = nn.ModuleDict()
            self.scales: dict[str, float] = {}
            self.sources: dict[str, str | None] = {}
            #: For adapters that read the sum of input and output: the norm applied to that sum.
            self.norms: dict[str, Any] = {}
            self.active: Active = None
            self.seen: dict[str, torch.Tensor] = {}

        def forward(self, module: Any, args: tuple[Any, ...], output: Any) -> Any:
            """Adapt the host's output, as a forward hook. A mixture may return a tuple, with its output flattened."""
            seen, self.seen = self.seen, {}
            if self.active is None:
                return output
            if isinstance(output, tuple):
                return (self._rows(output[0], args[0], seen), *output[1:])
            return self._rows(output, args[0], seen)

        def _rows(
            self, output: torch.Tensor, given: torch.Tensor, seen: Mapping[str, torch.Tensor]
        ) -> torch.Tensor:
            """Adapt the output by the rows of ``given``, the host's input, and return it in its original shape."""
            shaped = output.reshape(*given.shape[:-1], output.shape[-1])
            if isinstance(self.active, str):
                return self._adapt(self.active, shaped, seen).reshape(output.shape)
            active = self.active or ()
            if len(active) != len(shaped):
                raise BadInput(
                    f"A batch of {len(shaped)} rows got {len(active)} adapters. Name one adapter per row.",
                    "adapter",
                )
            mixed = shaped.clone()
            for name in filter(None, dict.fromkeys(active)):
                # All rows of one adapter at once: two small products for each adapter, not for each row.
                rows = [row for row, other in enumerate(active) if other == name]
                mixed[rows] = self._adapt(name, shaped[rows], {path: x[rows] for path, x in seen.items()})
            return mixed.reshape(output.shape)

        def _adapt(self, name: str, output: torch.Tensor, seen: Mapping[str, torch.Tensor]) -> torch.Tensor:
            if name not in self.adapters:
                return output
            source = self.sources[name]
            read = output if source is None else seen[source]
            if name in self.norms:
                norm, read = self.norms[name], read + output
                read = read if norm is None else norm(read)
            return output + self.scales[name] * self.adapters[name](read)

    return Bottleneck, Site


def add(
    model: torch.nn.Module,
    name: str,
    hosts: Sequence[Place],
    *,
    width: int,
    nonlinearity: str,
    std: float,
    scale: float = 1.0,
    summed: bool = False,
) -> None:
    """Add a new adapter to a model and make it the only active one.

    Args:
        hosts: paths of modules (linear maps, whole feed-forward parts) whose output is adapted, each with the path of
            the module whose input a parallel adapter reads, or ``None`` for a sequential adapter. For a summed one the
            third path is the norm applied to the sum, or ``None``.
        width: of the bottleneck.
        std: initial deviation of both matrices; small, so that the model starts nearly unchanged.
        summed: the adapters read the sum of that module's input and the host's output.

    Raises:
        BadInput: the name is in use, empty or contains a dot, or the model has no such hosts.
    """
    modules = dict(model.named_modules())
    absent = [path for place in hosts for path in place if path is not None and path not in modules]
    if absent:
        raise BadInput(f"This adapter is for another model: this model has no '{absent[0]}'.", "adapter")
    if name in names(model) or "." in name or not name:
        raise BadInput(
            f"'{name}' cannot be the name of a new adapter: it is taken, is empty or contains a dot.",
            "adapter",
        )
    make, kind = _classes()
    for path, source, *norm in hosts:
        host = modules[path]
        site: Any = getattr(host, CHILD, None)
        if site is None:
            site = kind()
            host.register_forward_hook(site)
            setattr(host, CHILD, site)
        outputs = _features(host, model)[1]
        inputs = outputs if source is None or summed else _features(modules[source], model)[0]
        site.adapters[name] = make(inputs, outputs, width, nonlinearity, std, next(host.parameters()).device)
        site.scales[name] = scale
        site.sources[name] = source
        if summed:
            site.norms[name] = modules[norm[0]] if norm and norm[0] is not None else None
        # One hook records a module's input for a site, however many adapters read it.
        if source is not None and not any(
            _is_reader(hook, site) for hook in modules[source]._forward_pre_hooks.values()
        ):
            modules[source].register_forward_pre_hook(Reader(site, source))
    set_active(model, name)


def names(model: torch.nn.Module) -> tuple[str, ...]:
    """Return the names of the adapters on a model, in the order in which they were added."""
    found: dict[str, None] = {}
    for site in _sites(model).values():
        found.update(dict.fromkeys(site.adapters))
    return tuple(found)


def set_active(model: torch.nn.Module, active: str | Sequence[str | None] | None) -> None:
    """Choose the adapter for all rows, one per row of the batch, or none. Switching moves no weights: every site looks
    the name up in its next call. Raises BadInput: an adapter of that name is not on the model."""
    wanted = (active,) if isinstance(active, str | None) else tuple(active)
    known = names(model)
    for name in wanted:
        if name is not None and name not in known:
            listed = ", ".join(known) or "none"
            raise BadInput(f"There is no adapter '{name}' on this model; it has {listed}.", "adapter")
    chosen: Active = active if isinstance(active, str | None) else tuple(active)
    for site in _sites(model).values():
        site.active = chosen


def parameters_of(model: torch.nn.Module, name: str) -> dict[str, torch.nn.Parameter]:
    """Return the parameters of one adapter by their path in the model, without the adapter's name."""
    found = {}
    for path, site in _sites(model).items():
        if name in site.adapters:
            for key, parameter in site.adapters[name].named_parameters():
                found[f"{path}.{key}"] = parameter
    return found


def modules_of(model: torch.nn.Module, name: str) -> dict[str, tuple[torch.nn.Module, float]]:
    """Return one adapter's module at each host, by the host's path, with the factor on its output."""
    return {
        path.removesuffix(f".{CHILD}"): (site.adapters[name], site.scales[name])
        for path, site in _sites(model).items()
        if name in site.adapters
    }


def remove(model: torch.nn.Module) -> None:
    """Remove all adapters and hooks, which restores the base."""
    for path, site in _sites(model).items():
        host = model.get_submodule(path.removesuffix(f".{CHILD}"))
        delattr(host, CHILD)
        for module in model.modules():
            hooks: dict[int, Any]
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in [key for key, hook in hooks.items() if hook is site or _is_reader(hook, site)]:
                    del hooks[key]


def _is_reader(hook: Any, site: Any) -> bool:
    return isinstance(hook, Reader) and hook.site is site


def _sites(model: torch.nn.Module) -> dict[str, Any]:
    kind = _classes()[1]
    return {path: module for path, module in model.named_modules() if isinstance(module, kind)}


def _features(module: Any, model: Any) -> tuple[int, int]:
    """Return inputs and outputs of a linear map, of transformers' ``Conv1D`` (nx and nf), or of a feed-forward part."""
    if hasattr(module, "in_features"):
        return module.in_features, module.out_features
    if hasattr(module, "nx"):
        return module.nx, module.nf
    hidden: int = model.config.get_text_config().hidden_size
    return hidden, hidden


# ----------------------------------------
# The positions of adapters and their inputs, by placement.
#
# Besides the papers' three placements there are those of the adapters library (1.3.0), under its own names. They are
# offered on architectures whose results were found equal to the library's
# (``tests/models/assets/adapters_library.json``):
#
#     seq_bn          h + A(n(x + h))      its Pfeiffer: reads the sum after the feed-forward part, through the norm n
#                                          if one follows the sum (BERT); A's output is added before that norm
#     par_bn          h + s A(x)           its parallel: x is the stream, so a norm before the maps is bypassed
#     double_seq_bn   h + A(h)             its Houlsby: in series twice a layer, but none on cross-attention


LIBRARY = ("double_seq_bn", "seq_bn", "par_bn")
#: Placements that scale their output, that read a sum, and that read the stream rather than a map's input or output.
SCALED, SUMMED, ON_STREAM = ("parallel", "par_bn"), ("seq_bn",), ("seq_bn", "par_bn")
#: By model type: the norm before the feed-forward part, a sibling of the module that holds it.
_NORM_BEFORE = {
    "llama": "post_attention_layernorm", "mistral": "post_attention_layernorm", "gpt2": "ln_2", "t5": "layer_norm",
}  # fmt: skip
#: By model type: the norm on the stream after the sum, a sibling of the map.
_NORM_AFTER = {"bert": "LayerNorm", "roberta": "LayerNorm", "xlm-roberta": "LayerNorm"}
_SUBLAYERS = ("attention", "feed-forward part")
Host = tuple[ModuleGroup, ModuleGroup | None]


def host_places(shape: ModelShape, placement: str) -> list[Host]:
    """Return pairs: the map whose output is adapted, and the module whose input the adapter reads (too). ``None``: it
    reads the output alone. A mixture of experts is one host, read at its input or output."""
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
    # The stream that the feed-forward part is added to is the input of its norm or first map.
    before = _NORM_BEFORE.get(shape.model_type)
    return [(g, _entrance(shape, g) if before is None else _beside(shape, g, 2, before)) for g in found]


def _is_known(shape: ModelShape) -> bool:
    return shape.model_type in {**_NORM_BEFORE, **_NORM_AFTER} and not shape.mixtures


def _beside(shape: ModelShape, host: ModuleGroup, up: int, name: str) -> ModuleGroup:
    path = ".".join([*host.path.split(".")[:-up], name])
    return next(group for group in shape.groups if group.path == path)


def place_paths(shape: ModelShape, placement: str) -> list[tuple[str | None, ...]]:
    """Return for each adapter the paths of its host, of the module it reads (``None``: the host), and, in a placement
    that reads a sum, of the norm after that sum."""
    found: list[tuple[str | None, ...]] = []
    for host, source in host_places(shape, placement):
        after = norm_after(shape, placement, host)
        for index, path in enumerate(host.paths):
            place = (path, None if source is None else source.paths[index])
            found.append(place if after is None else (*place, after.paths[index]))
    return found


def norm_after(shape: ModelShape, placement: str, host: ModuleGroup) -> ModuleGroup | None:
    """Return the norm applied to the sum before a summed adapter reads it; ``None`` if there is none."""
    name = _NORM_AFTER.get(shape.model_type)
    return _beside(shape, host, 1, name) if placement in SUMMED and name else None


def place_inputs(host: ModuleGroup, source: ModuleGroup | None) -> int:
    """Return the width of an adapter's input."""
    return source.in_features if source is not None and source.is_matrix else host.out_features


#: Where each placement puts adapters, as the end of a sentence.
WORDS: Mapping[str, str] = {
    "houlsby": "after the attention and after the feed-forward part",
    "pfeiffer": "after the feed-forward part, before the sum",
    "parallel": "beside the feed-forward part, from the same input",
    "double_seq_bn": "as houlsby, but not on cross-attention: the adapters library's Houlsby",
    "seq_bn": "on the sum after the feed-forward part, through the norm that follows: the adapters library's Pfeiffer",
    "par_bn": "beside the feed-forward part, from the stream before its norm: the adapters library's parallel",
}


def no_places(shape: ModelShape, placement: str) -> Problem:
    """Return the problem that explains why adapters cannot be placed on a model."""
    if placement in LIBRARY and not _is_known(shape):
        known = ", ".join(sorted({**_NORM_BEFORE, **_NORM_AFTER}))
        return Problem(
            "placement",
            f"PEFT Lab has compared where the adapters library puts {placement} adapters only on {known}, not on "
            f"{shape.title}. Choose houlsby, pfeiffer or parallel.",
        )
    message = f"PEFT Lab finds no {_SUBLAYERS[-1]} in {shape.title}, so adapters have no place."
    return Problem("placement" if _has(shape, "o") else "model", message)


def _has(shape: ModelShape, role: str) -> set[int]:
    """Return the layers with an output map of that role, or a mixture in its place."""
    own = {layer for g in shape.groups if g.role == role and not shape.mixture_of(g) for layer in g.layers}
    return own | {layer for m in shape.mixtures if role == "down" for layer in m.layers}


def place_problems(shape: ModelShape, placement: str) -> Iterable[Problem]:
    """Yield warnings: layers that get fewer adapters than usual, and the adapter's place on a mixture of experts."""
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
            f"The feed-forward part of {shape.title} has {shape.mixtures[0].experts} experts. One adapter is put "
            f"{place} all of them, on their sum; no expert gets an adapter of its own.",
            "warning",
        )


def _whole(shape: ModelShape, mixture: Mixture) -> ModuleGroup:
    """Return a mixture of experts as a host: a module whose input and output are as wide as the stream."""
    return ModuleGroup(mixture.path, "Mixture", mixture.layers, {"weight": (shape.hidden, shape.hidden)})


def _entrance(shape: ModelShape, host: ModuleGroup) -> ModuleGroup:
    """Return the first map of the feed-forward part that ends in ``host``: the nearest one before it in model order."""
    before = shape.groups[: shape.groups.index(host)]
    return next(
        group for group in reversed(before) if group.role in ("up", "gate") and group.layers == host.layers
    )
