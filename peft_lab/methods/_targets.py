"""Target modules: the documented defaults per architecture, and what is wrong with a list of names.

The defaults are PEFT's own tables (``peft.utils.constants``), repeated here because reading them would import torch; a
test holds the two equal.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from peft_lab.errors import BadInput
from peft_lab.methods.base import Problem
from peft_lab.shapes import ModelShape, ModuleGroup

ALL_LINEAR = "all-linear"
LORA_TARGETS: Mapping[str, tuple[str, ...]] = {
    "llama": ("q_proj", "v_proj"),
    "mistral": ("q_proj", "v_proj"),
    "qwen2": ("q_proj", "v_proj"),
    "gemma2": ("q_proj", "v_proj"),
    "bert": ("query", "value"),
    "roberta": ("query", "value"),
    "gpt2": ("c_attn",),
    "bloom": ("query_key_value",),
    "t5": ("q", "v"),
}


def default_targets(
    shape: ModelShape, table: Mapping[str, tuple[str, ...]] = LORA_TARGETS
) -> tuple[str, ...]:
    """The documented default for the architecture; for one without, its query and value maps (or the fused one)."""
    if shape.model_type in table:
        return table[shape.model_type]
    block = shape.block
    roles = [block[role] for role in ("q", "v", "qkv") if role in block]
    return tuple(shape.target_name(group) for group in roles) or shape.target_names[:1]


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
        near = difflib.get_close_matches(name, shape.target_names, n=1, cutoff=0.5)
        advice = f"Did you mean '{near[0]}'?" if near else f"It has {', '.join(shape.target_names)}."
        rest = f" (Only {hit} would be adapted.)" if hit else ""
        yield Problem(field, f"'{name}' matches no module of {shape.title}. {advice}{rest}")
    for name in names:
        hits = shape.match((name,)).groups if name not in (ALL_LINEAR, *match.unmatched) else ()
        if len({group.role for group in hits if group.role}) > 1:
            places = " and ".join(group.path.split("{}.")[-1] for group in hits)
            yield Problem(field, f"'{name}' is the ending of {places}: PEFT adapts both.", "warning")
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
