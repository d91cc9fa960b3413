r"""LoRA: a trained low-rank correction beside a frozen matrix (Hu et al. 2021, arXiv 2106.09685, section 4.1).

    h = W0 x + (alpha / r) B A x        A: r x d_in, random    B: d_out x r, zero

              x ----------------+
              |                 |
        [ W0 d_out x d_in ]   [ A r x d_in ]
              | frozen          |  trainable
              |               [ B d_out x r ]
              |                 | * alpha / r
              +------( + )------+
                       |
                       h

Because B starts at zero the model's output is unchanged before the first step. Parameters per target: r (d_in + d_out);
per stack of E experts: r E (d_in + d_out).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from peft_lab.core.errors import BadInput
from peft_lab.core.field import Values
from peft_lab.methods.base import Formula, Knob, Part, Problem, Term
from peft_lab.methods.shared import targets as experts
from peft_lab.methods.shared.peft_backed import PeftMethod, lora_targets
from peft_lab.methods.shared.targets import (
    Target,
    default_problems,
    default_targets,
    for_peft,
    stored_transposed,
)
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import PARAMETER, ModelShape, ModuleGroup

if TYPE_CHECKING:
    from peft import LoraConfig


class Lora(PeftMethod):
    """LoRA as in PEFT, with DoRA, rsLoRA, LoRA+ and other initialisations.

    The correction of one map has ``r (d_in + d_out)`` parameters, so twice the rank is twice as many:

    >>> from peft_lab.models.catalogue import get_model
    >>> shape = get_model("llama-3.2-3b").shape
    >>> lora = Lora()
    >>> [lora.formula(shape, lora.require(shape, {"r": r})).trainable for r in (16, 32)]
    [4587520, 9175040]
    >>> 28 * 16 * ((3072 + 3072) + (3072 + 1024))  # layers, rank, queries and values
    4587520
    """

    slug = "lora"
    mergeable = True
    low_rank = True

    @cached_property
    def lacking(self) -> dict[str, Any]:
        """The defaults of LoRA's knobs that a method derived from it does not offer (QLoRA)."""
        own = {knob.name for knob in self.knobs}
        return {knob.name: knob.default for knob in Lora.knobs if knob.name not in own}

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        return super().defaults(shape) | {"target_modules": default_targets(shape)}

    def options(self, knob: Knob, shape: ModelShape) -> tuple[str, ...]:
        if knob.name == "target_parameters":
            return experts.parameter_names(shape)
        return super().options(knob, shape)

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        values = {**self.lacking, **values}
        yield from experts.expert_problems(shape, values)
        yield from default_problems(shape, values["target_modules"], default_targets(shape), lora_targets())
        targets = _targets(shape, values)
        yield from experts.rank_problems(shape, [target.group for target in targets], values["rank_pattern"])
        sized = [
            (target.group, max(_modules_by_rank(target, values)))
            for target in targets
            if (target.group.is_matrix or target.group.type == PARAMETER)
            and "weight" in target.group.parameters
        ]
        yield from _pissa_problems(sized) if values["init_lora_weights"] == "pissa" else ()
        for group, rank in sized:
            dense = group.in_features * group.out_features
            name = group.path.removesuffix(".weight").split(".")[-1]
            if rank * (group.in_features + group.out_features) >= dense:
                message = (
                    f"At rank {rank}, A and B have at least as many parameters as {name} itself ({dense:,})."
                )
                yield Problem("r", message, "warning")
                break

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        values = {**self.lacking, **values}
        dora, ruled = values["use_dora"], bool(values["rank_pattern"].strip())
        targets = experts.checked_experts(shape, values)
        terms = [
            _term(target.group, rank, count, dora)
            for target in targets
            for rank, count in _modules_by_rank(target, values).items()
        ]
        added = sum(term.total for term in terms)
        for group, name in _biases(shape, targets, values["bias"]):
            size = math.prod(group.parameters[name])
            terms.append(Term(f"{group.path}.{name}", str(size), size, group.count))
        rank_letter = r"r_i" if ruled else "r"
        symbolic = rf"\sum_{{\text{{targets}}}} {rank_letter}\,(d_{{in}} + d_{{out}})" + (
            " + d_{out}" if dora else ""
        )
        if any(target.group.stacked > 1 for target in targets):
            symbolic += rf" \;+\; \sum_{{\text{{stacks}}}} {rank_letter}\,E\,(d_{{in}} + d_{{out}})"
        if values["bias"] != "none":
            symbolic += r" \;+\; \sum \text{biases}"
        formula = Formula(symbolic, tuple(terms), added, 0)
        return Formula(symbolic, tuple(terms), added, formula.trainable)

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        values = {**self.lacking, **values}
        targets = _targets(shape, values)
        parts = []
        for target in targets:
            found = _modules_by_rank(target, values)
            size = {"rank": max(found), "least": min(found), "magnitude": int(values["use_dora"])}
            parts.append(Part("low_rank", target.group.path, "A B", size))
        for group, name in _biases(shape, targets, values["bias"]):
            parts.append(Part("bias", group.path, "b", {"size": math.prod(group.parameters[name])}))
        return tuple(parts)

    def scale(self, values: Values) -> float:
        """Return the factor on BA at rank r: alpha/r, or alpha/sqrt(r) with rsLoRA."""
        values = {**self.lacking, **values}
        return float(values["lora_alpha"] / (values["r"] ** 0.5 if values["use_rslora"] else values["r"]))

    def rate_factor(self, parameter: str, values: Values) -> float:
        values = {**self.lacking, **values}
        return float(values["loraplus_lr_ratio"]) if ".lora_B." in parameter else 1.0

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> LoraConfig:
        from peft import LoraConfig

        values = {**self.lacking, **values}
        start = values["init_lora_weights"]
        groups = [target.group for target in _targets(shape, values)]
        return LoraConfig(
            task_type=task_type,
            r=values["r"],
            lora_alpha=values["lora_alpha"],
            lora_dropout=values["lora_dropout"],
            target_modules=for_peft(values["target_modules"]),
            target_parameters=list(values["target_parameters"]) or None,
            use_rslora=values["use_rslora"],
            use_dora=values["use_dora"],
            init_lora_weights=True if start == "default" else start,
            bias=values["bias"],
            fan_in_fan_out=stored_transposed(groups),
            rank_pattern=experts.rank_pattern(groups, values["rank_pattern"]),
        )


def _targets(shape: ModelShape, values: Values) -> tuple[Target, ...]:
    return experts.expert_targets(shape, values["target_modules"], values["target_parameters"])


def _term(group: ModuleGroup, rank: int, count: int, dora: bool) -> Term:
    inputs, outputs, experts = group.in_features, group.out_features, group.stacked
    times = rf"{rank} \cdot {experts}" if experts > 1 else f"{rank}"
    return Term(
        group.path,
        rf"{times} \cdot ({inputs} + {outputs})" + (f" + {outputs}" if dora else ""),
        rank * experts * (inputs + outputs) + (outputs if dora else 0),
        count,
    )


def _pissa_problems(sized: Iterable[tuple[ModuleGroup, int]]) -> Iterator[Problem]:
    """Yield a problem for the first matrix that has fewer singular vectors than its rank."""
    for group, rank in sized:
        narrow = min(group.in_features, group.out_features)
        if rank > narrow:
            name = group.path.removesuffix(".weight").split(".")[-1]
            message = (
                f"{name} has only {narrow} singular vectors to start from, too few for PiSSA at rank {rank}."
            )
            yield Problem("r", message)
            return


def _biases(shape: ModelShape, targets: Sequence[Target], which: str) -> Iterator[tuple[ModuleGroup, str]]:
    """Yield the biases that are trained too: ``all``, those of the targets (``lora_only``), or ``none``."""
    adapted = [target.group for target in targets]
    for group, name in shape.biases:
        # PEFT checks only the name here; stacked experts have biases of other names.
        if name == "bias" and (which == "all" or (which == "lora_only" and group in adapted)):
            yield group, name


def _modules_by_rank(target: Target, values: Values) -> Mapping[int, int]:
    """Return the number of a group's modules by rank. An invalid pattern is ignored, so that it can be drawn."""
    rank = values["r"] * target.factor
    try:
        return experts.rank_values(target.group, rank, values["rank_pattern"])
    except BadInput:
        return {rank: target.group.count}


METHOD = Lora()
