"""Choose and check target modules: the defaults per architecture (PEFT's own tables), problems with a list of names."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from peft_lab.core import units
from peft_lab.core.errors import BadInput, echoed
from peft_lab.core.field import Values
from peft_lab.methods.base import Problem
from peft_lab.methods.shared.peft_backed import Table, lora_targets
from peft_lab.models.shapes import ModelShape, ModuleGroup

ALL_LINEAR = "all-linear"


def documented(shape: ModelShape, table: Table) -> tuple[str, ...]:
    """Return the names of PEFT's table for the architecture that this model has; empty if the table has none."""
    names = table.get(shape.model_type, ())
    if isinstance(names, str):
        return tuple(dict.fromkeys(shape.target_name(group) for group in shape.match(names).groups))
    missing = shape.match(names).unmatched
    return tuple(name for name in names if name not in missing)


def default_targets(shape: ModelShape) -> tuple[str, ...]:
    """Return PEFT's default for the architecture; if it has none, the query and value maps (or the fused one)."""
    if names := documented(shape, lora_targets()):
        return names
    found = [shape.block[role] for role in ("q", "v", "qkv") if role in shape.block]
    # Without either, the first map of a layer: in Mamba the one into its state, as PEFT refuses the one out of it.
    found = found or [group for group in shape.matrices if group.layers][:1]
    return tuple(shape.target_name(group) for group in found)


def default_problems(
    shape: ModelShape, names: Sequence[str], defaults: Sequence[str], table: Table
) -> Iterable[Problem]:
    """Yield a warning if PEFT has no defaults for this model, or defaults that name more than the model has."""
    if tuple(names) != tuple(defaults) or not names:
        return
    listed = ", ".join(names)
    if shape.model_type not in table:
        message = f"PEFT has no default targets for '{shape.model_type}' models; PEFT Lab uses {listed}."
        yield Problem("target_modules", message, "warning")
        return
    known = table[shape.model_type]
    missing = shape.match(known).unmatched
    if missing and not isinstance(known, str):
        yield Problem(
            "target_modules",
            f"PEFT's defaults for '{shape.model_type}' models also name {' and '.join(missing)}, which {shape.title} "
            f"does not have. That leaves {listed}.",
            "warning",
        )


def target_problems(
    shape: ModelShape, names: Sequence[str], field: str = "target_modules"
) -> Iterable[Problem]:
    """Yield a problem for every name that matches no linear map; PEFT silently accepts a partly misspelt list."""
    if not names:
        yield Problem(field, "Choose at least one target module.")
        return
    if ALL_LINEAR in names and len(names) > 1:
        yield Problem(
            field, f"'{ALL_LINEAR}' already covers every linear map; choose it alone or name the modules."
        )
        return
    match = shape.match(names)
    hit = ", ".join(name for name in names if name not in match.unmatched)
    for name in match.unmatched:
        said = echoed(name)
        near = difflib.get_close_matches(said, shape.target_names, n=1, cutoff=0.5)
        advice = f"Did you mean '{near[0]}'?" if near else f"It has {', '.join(shape.target_names)}."
        rest = f" (Only {hit} would be adapted.)" if hit else ""
        yield Problem(field, f"'{said}' matches no module of {shape.title}. {advice}{rest}")
    for name in names:
        hits = shape.match((name,)).groups if name not in (ALL_LINEAR, *match.unmatched) else ()
        if len({group.role for group in hits if group.role}) > 1:
            places = " and ".join(group.path.split("{}.")[-1] for group in hits)
            yield Problem(field, f"{places} end in '{name}'. PEFT adapts all of them.", "warning")
    for group in match.groups:
        if not group.is_matrix:
            yield Problem(
                field, f"'{group.path}' is a {group.type}, not a linear map, so it cannot be adapted here."
            )
        elif group.tied:
            message = f"'{group.path}' shares its weights with the input embeddings, so merging would change those too."
            yield Problem(field, message, "warning")


def matched(shape: ModelShape, names: Sequence[str]) -> tuple[ModuleGroup, ...]:
    """Return the groups that checked names match. Raises BadInput: the first error of :func:`target_problems`."""
    _require(target_problems(shape, names))
    return shape.match(names).groups


def _require(problems: Iterable[Problem]) -> None:
    for problem in problems:
        if problem.level == "error":
            raise BadInput(problem.message, problem.field)


def stored_transposed(groups: Iterable[ModuleGroup]) -> bool:
    """Return whether the matrices are stored as (in, out), as in GPT-2; PEFT's ``fan_in_fan_out``."""
    return any(group.type == "Conv1D" for group in groups)


def for_peft(names: Sequence[str]) -> list[str] | str:
    """Return ``("all-linear",)`` as the string that PEFT expects; other names as a list."""
    return ALL_LINEAR if tuple(names) == (ALL_LINEAR,) else list(names)


# ----------------------------------------
# Ranks that differ between matrices, as a learner types them: ``v_proj=4, 0-9=16``. PEFT calls them
# ``rank_pattern``.
#
# A rule is a name and a rank. The name is the ending of a module's path, as for the targets, or a layer or a range of
# layers. The first rule that matches a matrix applies, as in PEFT; a matrix that no rule matches keeps the rank of
# the knob r.


FIELD = "rank_pattern"
HIGHEST = 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_LAYERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
_EXAMPLE = "'v_proj=4, 0-9=16'"


@dataclass(frozen=True)
class TargetRule:
    """One rule. ``layers``: first and last layer if the name is a layer or a range, else ``None``."""

    name: str
    rank: int
    layers: tuple[int, int] | None

    def fits(self, group: ModuleGroup, path: str, layer: int | None) -> bool:
        """Return whether the rule matches a module: its layer is in the range, or its path ends in the name."""
        if self.layers is not None:
            return layer is not None and self.layers[0] <= layer <= self.layers[1]
        return path == self.name or path.endswith(f".{self.name}")


def parse_ranks(text: str) -> tuple[TargetRule, ...]:
    """Parse the rules of a text, in order.

    Raises:
        BadInput: a rule is invalid; the message shows an example of a valid one.

    >>> [(rule.name, rule.rank, rule.layers) for rule in parse_ranks("v_proj=4, 0-9=16")]
    [('v_proj', 4, None), ('0-9', 16, (0, 9))]
    """
    return tuple(_rule(part.strip()) for part in text.split(",") if part.strip())


def _rule(part: str) -> TargetRule:
    name, equals, number = (piece.strip() for piece in part.partition("="))
    layers = _LAYERS.fullmatch(name)
    if not equals or not (layers or _NAME.fullmatch(name)):
        raise BadInput(
            f"Ranks by module are written like {_EXAMPLE}: a module's name or a range of layers, then its rank. "
            f"'{part[:40]}' is not written like this.",
            FIELD,
        )
    if not re.fullmatch(r"\d{1,6}", number) or not 1 <= int(number) <= HIGHEST:
        raise BadInput(f"A rank must be from 1 to {HIGHEST}, but {name[:40]} has '{number[:20]}'.", FIELD)
    if layers is None:
        return TargetRule(name, int(number), None)
    first = int(layers[1])
    last = first if layers[2] is None else int(layers[2])
    if last < first:
        raise BadInput(f"The layers {name} are in reverse order. Write {last}-{first}.", FIELD)
    return TargetRule(name, int(number), (first, last))


def rank_problems(shape: ModelShape, groups: Sequence[ModuleGroup], text: str) -> Iterable[Problem]:
    """Yield a problem for every rule that matches no adapted matrix, or only matrices that earlier rules match."""
    try:
        rules = parse_ranks(text)
    except BadInput as error:
        yield Problem(FIELD, str(error))
        return
    taken: set[str] = set()
    for rule in rules:
        paths = {
            path for group in groups for path, layer in rank_places(group) if rule.fits(group, path, layer)
        }
        if not paths:
            known = f"layers 0 to {shape.num_layers - 1}" if rule.layers else "the target modules"
            yield Problem(FIELD, f"'{rule.name}' matches no adapted matrix of {shape.title}. Use {known}.")
        elif paths <= taken:
            yield Problem(
                FIELD,
                f"'{rule.name}={rule.rank}' has no effect: earlier rules match everything it would match.",
            )
        taken |= paths


def rank_places(group: ModuleGroup) -> list[tuple[str, int | None]]:
    """Return path and layer of every module of a group."""
    return list(zip(group.paths, group.layers or (None,), strict=True))


def rank_values(group: ModuleGroup, rank: int, text: str) -> Mapping[int, int]:
    """Return how many of a group's modules have which rank, in the order of layers. ``text`` must have been checked."""
    rules = parse_ranks(text)
    if not rules:
        return {rank: group.count}
    return Counter(
        next((rule.rank for rule in rules if rule.fits(group, path, layer)), rank)
        for path, layer in rank_places(group)
    )


def rank_pattern(groups: Sequence[ModuleGroup], text: str) -> dict[str, int]:
    """Return the rules as PEFT's ``rank_pattern``: regular expressions that must match to the end of a module's path. A
    range of layers is written out after the name of the module list that holds the layers, such as ``layers``."""
    holders = sorted({group.path.partition(".{}")[0].rpartition(".")[2] for group in groups if group.layers})
    made = {}
    for rule in parse_ranks(text):
        if rule.layers is None:
            made[re.escape(rule.name)] = rule.rank
            continue
        numbers = "|".join(str(layer) for layer in range(rule.layers[0], rule.layers[1] + 1))
        holder = holders[0] if len(holders) == 1 else f"({'|'.join(holders)})"
        made[rf"{holder}\.({numbers})\..+"] = rule.rank
    return made


# ----------------------------------------
# What LoRA's target names match on a mixture of experts: linear maps, and stacked parameters that are not linear maps.
#
# PEFT adapts a stack of experts as one parameter, with a small A and B for each expert: r E (d_in + d_out). There are
# two ways to target it. ``target_parameters`` names the parameter. And on architectures whose experts were linear maps
# before transformers 5 stacked them, PEFT takes the old names (``w1``, ``gate_proj`` ...) to mean the stack
# (:attr:`~peft_lab.models.shapes.ModelShape.renamed`), everywhere: linear maps that still have such a name, those of a
# shared expert or of a dense layer, are then not adapted. Gate and up are stacked as one matrix, whose rank PEFT
# doubles.


@dataclass(frozen=True)
class Target:
    """One group that LoRA adapts. ``factor``: PEFT multiplies its rank by this."""

    group: ModuleGroup
    factor: int = 1


def expert_targets(
    shape: ModelShape, names: Sequence[str], parameters: Sequence[str] = ()
) -> tuple[Target, ...]:
    """Return what PEFT adapts for these ``target_modules`` and ``target_parameters``, each kind in model order."""
    kept, wanted, factors = _sorted_out(shape, names, parameters)
    modules = shape.match(kept).groups if kept else ()
    stacks = [group for group in shape.bare if _named(group, wanted)]
    return (
        *(Target(group) for group in modules),
        *(
            Target(group, next((many for name, many in factors.items() if _named(group, (name,))), 1))
            for group in stacks
        ),
    )


def checked_experts(shape: ModelShape, values: Values) -> tuple[Target, ...]:
    """Return the targets of valid values. Raises BadInput: the first error of :func:`expert_problems`."""
    _require(expert_problems(shape, values))
    return expert_targets(shape, values["target_modules"], values["target_parameters"])


def _sorted_out(
    shape: ModelShape, names: Sequence[str], parameters: Sequence[str]
) -> tuple[list[str], set[str], dict[str, int]]:
    """Split names: those that remain module names, all parameter names, and the factor on the rank of each of these."""
    if not shape.renamed:
        return list(names), set(parameters), {}
    if ALL_LINEAR in names:
        # Here PEFT takes the last parts of the paths, and adds all names in its table.
        names = [*dict.fromkeys(g.path.rpartition(".")[2] for g in shape.matrices), *shape.renamed]
    moved = {name: old for name in names if (old := _old_name(shape, name))}
    wanted = set(parameters) | {shape.renamed[old] for old in moved.values()}
    factors = {}
    for new in {shape.renamed[old] for old in moved.values()}:
        olds = {old for old, other in shape.renamed.items() if other == new}
        if len(olds) > 1 and olds <= set(moved.values()):
            factors[new] = len(olds)
    return [name for name in names if name not in moved], wanted, factors


def _old_name(shape: ModelShape, name: str) -> str | None:
    return next((old for old in shape.renamed if name == old or name.endswith(f".{old}")), None)


def _reached(shape: ModelShape, names: Sequence[str]) -> set[str]:
    """Return the old names that these targets mean."""
    if ALL_LINEAR in names:
        return set(shape.renamed)
    return {old for name in names if (old := _old_name(shape, name))}


def _named(group: ModuleGroup, wanted: Iterable[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for path in group.paths[:1] for name in wanted)


def expert_problems(shape: ModelShape, values: Values) -> Iterable[Problem]:
    """Yield the problems of :func:`target_problems`, and errors and warnings about experts."""
    names, parameters = values["target_modules"], values["target_parameters"]
    kept, wanted, _ = _sorted_out(shape, names, parameters)
    if kept or not (names or parameters):
        yield from target_problems(shape, kept if shape.renamed else names)
    for name in parameters:
        if not any(_named(group, (name,)) for group in shape.bare):
            has = ", ".join(parameter_names(shape)) or "none that PEFT can adapt"
            yield Problem(
                "target_parameters",
                f"'{echoed(name)}' is not a bare parameter of {shape.title}; it has {has}.",
            )
    yield from _fusion_problems(shape, names)
    yield from unfit_problems(shape, shape.match(kept).groups)
    stacks = [
        target.group for target in expert_targets(shape, names, parameters) if target.group in shape.bare
    ]
    if stacks:
        yield from _stack_problems(shape, values, [name for name in names if name not in kept])
    elif shape.mixtures and not wanted and ALL_LINEAR in names:
        yield Problem(
            "target_modules",
            f"'{ALL_LINEAR}' does not reach the experts of {shape.title}, which are {expert_share(shape)} of its "
            "parameters: they are bare parameters, not linear maps. Use Target parameters instead.",
            "warning",
        )


def unfit_problems(shape: ModelShape, groups: Iterable[ModuleGroup]) -> Iterable[Problem]:
    """Yield problems for subclasses of linear maps that do more than multiply, which no PEFT layer can wrap."""
    routers, unfit = {mixture.router for mixture in shape.mixtures}, unfit_maps(shape)
    for group in groups:
        if group in unfit:
            name = group.path.rpartition(".")[2]
            what = (
                f"The router of {shape.title} ({name}) is a linear map that returns two things"
                if group.path in routers
                else f"{name} of {shape.title} multiplies each group of its inputs by a separate matrix"
            )
            yield Problem(
                "target_modules",
                f"{what}, so no PEFT layer can wrap it and the first step would fail. Name the other modules.",
            )


def unfit_maps(shape: ModelShape) -> tuple[ModuleGroup, ...]:
    """Return the maps that a method can name as linear but cannot adapt: routers (Llama 4) and grouped maps (DeepSeek
    V4)."""
    routers = {mixture.router for mixture in shape.mixtures}
    return tuple(
        group
        for group in shape.groups
        if group.linear and (group.path in routers or group.type.endswith("GroupedLinear"))
    )


def _fusion_problems(shape: ModelShape, names: Sequence[str]) -> Iterable[Problem]:
    if ALL_LINEAR in names:
        return
    moved = _reached(shape, names)
    for new in dict.fromkeys(shape.renamed[old] for old in shape.renamed if old in moved):
        olds = [old for old in shape.renamed if shape.renamed[old] == new]
        missing = [old for old in olds if old not in moved]
        if missing:
            there = " and ".join(old for old in olds if old in moved)
            yield Problem(
                "target_modules",
                f"On {shape.title}, PEFT takes {there} to mean the experts' {new}, which contains both "
                f"{' and '.join(olds)}. Add {' and '.join(missing)}.",
            )


def _stack_problems(shape: ModelShape, values: Values, moved: Sequence[str]) -> Iterable[Problem]:
    refused = {
        "lora_dropout": (values["lora_dropout"] > 0, "dropout"),
        "use_dora": (values["use_dora"], "DoRA"),
        "init_lora_weights": (values["init_lora_weights"] == "pissa", "PiSSA"),
    }
    for field, (chosen, name) in refused.items():
        if chosen:
            yield Problem(
                field,
                f"The router and experts of {shape.title} are bare parameters, which PEFT adapts only without {name}.",
            )
    left = [
        group.path.split("{}.")[-1]
        for group in shape.matrices
        if group.layers
        and (ALL_LINEAR in values["target_modules"] or moved)
        and _old_name(shape, group.path) in _reached(shape, values["target_modules"])
    ]
    if left:
        yield Problem(
            "target_modules",
            "PEFT takes these names to mean the experts, so it leaves out the linear maps of the same name: "
            f"{', '.join(left)}.",
            "warning",
        )


def parameter_names(shape: ModelShape) -> tuple[str, ...]:
    """Return the names to offer as target parameters: the matrices of the experts' stacks."""
    stacked = [group for group in shape.bare if group.stacked > 1]
    return tuple(dict.fromkeys(".".join(group.path.split(".")[-2:]) for group in stacked))


def every_map(shape: ModelShape) -> dict[str, tuple[str, ...]]:
    """Return targets for all matrices of a mixture of experts except the router: linear maps by name, and the experts'
    stacks as parameters. A linear map whose name PEFT takes to mean a stack cannot be named and is left out."""
    unfit = {shape.target_name(group) for group in unfit_maps(shape)}
    names = (name for name in shape.target_names if name not in unfit and not _old_name(shape, name))
    return {"target_modules": tuple(names), "target_parameters": parameter_names(shape)}


def expert_share(shape: ModelShape) -> str:
    """Return the share of a model's parameters in its stacked experts, such as ``96.6%``."""
    stacks = {path for mixture in shape.mixtures for path in mixture.stacks}
    own = sum(group.each * group.count for group in shape.groups if group.path in stacks)
    return units.percent(100 * own / shape.total)
