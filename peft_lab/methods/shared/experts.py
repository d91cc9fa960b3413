"""What LoRA's target names reach on a mixture of experts: linear maps, and stacked parameters that are none.

PEFT adapts a stack of experts as one parameter, with a small A and B for each expert: r E (d_in + d_out). Two ways lead
there. ``target_parameters`` names the parameter. And on architectures whose experts were linear maps before
transformers 5 stacked them, PEFT takes the old names (``w1``, ``gate_proj`` ...) for the stack
(:attr:`~peft_lab.models.shapes.ModelShape.renamed`), everywhere: linear maps that still bear such a name, those of a
shared expert or of a dense layer, are then left out. Gate and up are stacked as one matrix, whose rank PEFT doubles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peft_lab import units
from peft_lab.errors import BadInput, echoed
from peft_lab.methods.base import Problem
from peft_lab.methods.knobs import Values
from peft_lab.methods.shared.targets import ALL_LINEAR, target_problems
from peft_lab.models.shapes import ModelShape, ModuleGroup


@dataclass(frozen=True)
class Target:
    """One group that LoRA adapts. ``factor``: what PEFT multiplies its rank by."""

    group: ModuleGroup
    factor: int = 1


def targets(shape: ModelShape, names: Sequence[str], parameters: Sequence[str] = ()) -> tuple[Target, ...]:
    """What PEFT adapts for these ``target_modules`` and ``target_parameters``, in the model's order of each kind."""
    kept, wanted, factors = _sorted_out(shape, names, parameters)
    modules = shape.match(kept).groups if kept else ()
    stacks = [group for group in shape.bare if _named(group, wanted)]
    return (
        *(Target(group) for group in modules),
        *(Target(group, _factor(group, factors)) for group in stacks),
    )


def checked(shape: ModelShape, values: Values) -> tuple[Target, ...]:
    """The targets of values that hold together.

    Raises:
        BadInput: the first problem of :func:`problems`.
    """
    for problem in problems(shape, values):
        if problem.level == "error":
            raise BadInput(problem.message, problem.field)
    return targets(shape, values["target_modules"], values["target_parameters"])


def _sorted_out(
    shape: ModelShape, names: Sequence[str], parameters: Sequence[str]
) -> tuple[list[str], set[str], dict[str, int]]:
    """Names that stay module names, all names of parameters, and how many times the rank each of these gets."""
    if not shape.renamed:
        return list(names), set(parameters), {}
    if ALL_LINEAR in names:
        # PEFT goes through the last parts of the paths here, and adds all names that its table holds.
        names = [*dict.fromkeys(g.path.rpartition(".")[2] for g in shape.matrices), *shape.renamed]
    moved = {name: old for name in names if (old := _old_name(shape, name))}
    wanted = set(parameters) | {shape.renamed[old] for old in moved.values()}
    factors = {
        new: len(olds)
        for new in {shape.renamed[old] for old in moved.values()}
        if len(olds := _fused(shape, new)) > 1 and olds <= set(moved.values())
    }
    return [name for name in names if name not in moved], wanted, factors


def _old_name(shape: ModelShape, name: str) -> str | None:
    return next((old for old in shape.renamed if name == old or name.endswith(f".{old}")), None)


def _fused(shape: ModelShape, new: str) -> set[str]:
    return {old for old, other in shape.renamed.items() if other == new}


def _named(group: ModuleGroup, wanted: Iterable[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for path in group.paths[:1] for name in wanted)


def _factor(group: ModuleGroup, factors: dict[str, int]) -> int:
    return next((factor for name, factor in factors.items() if _named(group, (name,))), 1)


def problems(shape: ModelShape, values: Values) -> Iterable[Problem]:
    """As :func:`target_problems`, and what is wrong or surprising about experts."""
    names, parameters = values["target_modules"], values["target_parameters"]
    kept, wanted, _ = _sorted_out(shape, names, parameters)
    if kept or not (names or parameters):
        yield from target_problems(shape, kept if shape.renamed else names)
    for name in parameters:
        if not any(_named(group, (name,)) for group in shape.bare):
            has = ", ".join(parameter_names(shape)) or "none that PEFT could adapt"
            yield Problem(
                "target_parameters",
                f"'{echoed(name)}' is not a bare parameter of {shape.title}; it has {has}.",
            )
    yield from _fusion_problems(shape, names)
    yield from unfit_problems(shape, shape.match(kept).groups)
    stacks = [target.group for target in targets(shape, names, parameters) if target.group in shape.bare]
    if stacks:
        yield from _stack_problems(shape, values, [name for name in names if name not in kept])
    elif shape.mixtures and not wanted:
        yield from _out_of_reach(shape, names)


def unfit_problems(shape: ModelShape, groups: Iterable[ModuleGroup]) -> Iterable[Problem]:
    """Report modules of a class derived from a linear map that do more than multiply, which no PEFT layer can wrap."""
    routers, unfit = {mixture.router for mixture in shape.mixtures}, unfit_maps(shape)
    for group in groups:
        if group in unfit:
            name = group.path.rpartition(".")[2]
            what = (
                f"The router of {shape.title} ({name}) is a linear map that returns two things"
                if group.path in routers
                else f"{name} of {shape.title} multiplies each group of its inputs by a matrix of its own"
            )
            yield Problem(
                "target_modules",
                f"{what}, so no PEFT layer can wrap it: the first step would fail. Name the other modules.",
            )


def unfit_maps(shape: ModelShape) -> tuple[ModuleGroup, ...]:
    """Return what a method can name as a linear map and cannot adapt: routers (Llama 4) and grouped maps (DeepSeek
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
    moved = {old for name in names if (old := _old_name(shape, name))}
    for new in dict.fromkeys(shape.renamed[old] for old in shape.renamed if old in moved):
        olds = [old for old in shape.renamed if shape.renamed[old] == new]
        missing = [old for old in olds if old not in moved]
        if missing:
            there = " and ".join(old for old in olds if old in moved)
            yield Problem(
                "target_modules",
                f"On {shape.title} PEFT takes {there} for the experts' {new}, which holds {' and '.join(olds)} "
                f"in one: "
                f"add {' and '.join(missing)}.",
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
                f"Router and experts of {shape.title} are bare parameters, and PEFT adapts such without {name} only.",
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
            f"PEFT takes these names to mean the experts' stacks, so it leaves out the linear maps with the "
            f"same names: "
            f"{', '.join(left)}.",
            "warning",
        )


def _reached(shape: ModelShape, names: Sequence[str]) -> set[str]:
    if ALL_LINEAR in names:
        return set(shape.renamed)
    return {old for name in names if (old := _old_name(shape, name))}


def _out_of_reach(shape: ModelShape, names: Sequence[str]) -> Iterable[Problem]:
    if ALL_LINEAR in names:
        yield Problem(
            "target_modules",
            f"'{ALL_LINEAR}' does not reach the experts of {shape.title}, {share(shape)} of its parameters: "
            f"they are stacked in bare parameters, not linear maps. Use Target parameters instead.",
            "warning",
        )


def parameter_names(shape: ModelShape) -> tuple[str, ...]:
    """Names to offer as target parameters: the matrices of the experts' stacks."""
    stacked = [group for group in shape.bare if group.stacked > 1]
    return tuple(dict.fromkeys(".".join(group.path.split(".")[-2:]) for group in stacked))


def every_map(shape: ModelShape) -> dict[str, tuple[str, ...]]:
    """Targets for all that tokens pass on a mixture of experts but the router: linear maps by name, and the experts'
    stacks as parameters. A linear map whose name PEFT takes for a stack cannot be named and is left out."""
    unfit = {shape.target_name(group) for group in unfit_maps(shape)}
    names = (name for name in shape.target_names if name not in unfit and not _old_name(shape, name))
    return {"target_modules": tuple(names), "target_parameters": parameter_names(shape)}


def share(shape: ModelShape) -> str:
    """How much of a model its stacked experts are, such as ``96.6%``."""
    stacks = {path for mixture in shape.mixtures for path in mixture.stacks}
    own = sum(group.each * group.count for group in shape.groups if group.path in stacks)
    return units.percent(100 * own / shape.total)
