"""Target modules: the defaults per architecture (PEFT's own tables), and what is wrong with a list of names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from peft_lab.errors import BadInput, echoed
from peft_lab.methods.base import Problem
from peft_lab.methods.shared.tables import Table, lora_targets
from peft_lab.models.shapes import ModelShape, ModuleGroup

ALL_LINEAR = "all-linear"


def documented(shape: ModelShape, table: Table) -> tuple[str, ...]:
    """What PEFT's table names for the architecture, as far as this model has it; empty where it names nothing."""
    names = table.get(shape.model_type, ())
    if isinstance(names, str):
        return tuple(dict.fromkeys(shape.target_name(group) for group in shape.match(names).groups))
    missing = shape.match(names).unmatched
    return tuple(name for name in names if name not in missing)


def default_targets(shape: ModelShape) -> tuple[str, ...]:
    """PEFT's default for the architecture; for one without, its query and value maps (or the fused one)."""
    return documented(shape, lora_targets()) or _query_and_value(shape)


def _query_and_value(shape: ModelShape) -> tuple[str, ...]:
    block = shape.block
    roles = [block[role] for role in ("q", "v", "qkv") if role in block]
    # Without either, the first map of a layer: in Mamba the one into its state, as PEFT refuses the one out of it.
    first = next((group for group in shape.matrices if group.layers), None)
    return tuple(shape.target_name(group) for group in roles) or (
        () if first is None else (shape.target_name(first),)
    )


def default_problems(
    shape: ModelShape, names: Sequence[str], defaults: Sequence[str], table: Table
) -> Iterable[Problem]:
    """Where the defaults are not PEFT's, or not all of them."""
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
            f"PEFT's defaults for '{shape.model_type}' models also name {' and '.join(missing)}, which "
            f"{shape.title} does not have; {listed} is left.",
            "warning",
        )


def target_problems(
    shape: ModelShape, names: Sequence[str], field: str = "target_modules"
) -> Iterable[Problem]:
    """Every name must hit a linear map of this model. PEFT lets a partly misspelt list pass in silence; we do not."""
    if not names:
        yield Problem(field, "Choose at least one target module; with none there is nothing to adapt.")
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
            yield Problem(field, f"'{name}' is the ending of {places}: PEFT adapts all of them.", "warning")
    for group in match.groups:
        if not group.is_matrix:
            yield Problem(
                field, f"'{group.path}' is a {group.type}, not a linear map, so it cannot be adapted here."
            )
        elif group.tied:
            message = f"'{group.path}' shares its weights with the input embeddings: merging would change those too."
            yield Problem(field, message, "warning")


def matched(shape: ModelShape, names: Sequence[str]) -> tuple[ModuleGroup, ...]:
    """The groups that checked names hit.

    Raises:
        BadInput: the first problem of :func:`target_problems`.
    """
    for problem in target_problems(shape, names):
        if problem.level == "error":
            raise BadInput(problem.message, problem.field)
    return shape.match(names).groups


def stored_transposed(groups: Iterable[ModuleGroup]) -> bool:
    """Whether the matrices are stored (in, out), as GPT-2's are; PEFT's ``fan_in_fan_out``."""
    return any(group.type == "Conv1D" for group in groups)


def for_peft(names: Sequence[str]) -> list[str] | str:
    """``("all-linear",)`` as the string that PEFT expects; other names as a list."""
    return ALL_LINEAR if tuple(names) == (ALL_LINEAR,) else list(names)
