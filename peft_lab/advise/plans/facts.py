"""What a plan's files are written from, and why some cannot be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.advise.plan import StepPlan
from peft_lab.advise.recipes.job import ANSWERS, OBJECTIVES
from peft_lab.advise.simulating import SPLIT, TENSOR
from peft_lab.engine.sharding import tensor, wrap
from peft_lab.engine.step import OF_BITSANDBYTES
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec, TaskType
from peft_lab.models.catalogue import ModelEntry
from peft_lab.takeaway.calls import TASK_TYPES, PeftCall, peft_call

NAME = "train.py"
ROWS = "rows.jsonl"
#: Requirements of every script, as arguments for pip.
NEEDED = ("'torch>=2.7'", "'transformers>=5'", "accelerate")
#: Objectives whose loss is that of the next token or of a class, as in the script's step.
WRITTEN = (*ANSWERS, "cpt")


def loads_alone(method: MethodSpec, plan: StepPlan) -> bool:
    """Return whether only a script's first rank loads a split model and sends the others their shares. Not a 4-bit
    base, which is more than tensors, nor split matrices: each rank takes their parts from its own copy."""
    return plan.sharding.startswith(SPLIT) and method.quantization(plan.values) is None


@dataclass(frozen=True)
class Facts:
    """What a plan's files are written from."""

    entry: ModelEntry
    method: MethodSpec
    plan: StepPlan
    objective: str
    call: PeftCall | None

    @property
    def values(self) -> Mapping[str, Any]:
        """Return all knobs."""
        return self.plan.values

    @property
    def task_type(self) -> TaskType:
        """Return PEFT's task type for this kind of model."""
        return TASK_TYPES[self.entry.kind]

    @property
    def classifies(self) -> bool:
        """Return whether rows have a class; models that write give the class as text."""
        return self.entry.kind == "encoder"

    @property
    def sharded(self) -> bool:
        """Return whether FSDP2 splits the weights over the ranks."""
        return self.plan.sharding.startswith("fsdp2")

    @property
    def by_matrices(self) -> bool:
        """Return whether every matrix is split and all ranks read the same rows."""
        return self.plan.sharding == TENSOR

    @property
    def four_bits(self) -> bool:
        """Return whether the method stores the base quantised."""
        return self.method.quantization(self.values) is not None

    def said(self, name: str) -> Any:
        """Return the value of a recipe's setting."""
        return self.plan.settings[name].value


def gather(entry: ModelEntry, method: str, plan: StepPlan, objective: str) -> Facts:
    """Return the facts of a plan. Raises as :func:`peft_lab.takeaway.calls.peft_call`."""
    spec = get_method(method)
    call = peft_call(entry, spec, plan.values, TASK_TYPES[entry.kind])
    return Facts(entry, spec, plan, objective, call)


def needed(facts: Facts) -> tuple[str, ...]:
    """Return what pip has to install for this plan, apart from the method's own libraries."""
    torch = NEEDED[0]
    if facts.plan.optimizer == "muon":
        torch = "'torch>=2.9'"  # the first with Muon
    if facts.plan.loss == "chunked":
        torch = "'torch>=2.13'"  # the oldest whose documentation has linear_cross_entropy
    packed = facts.four_bits or facts.plan.optimizer in OF_BITSANDBYTES
    return (torch, *NEEDED[1:], *(("bitsandbytes",) if packed else ()))


def refusal(facts: Facts) -> str:
    """Return why no script can run this plan; empty if one can."""
    plan = facts.plan
    if facts.objective not in WRITTEN or (facts.classifies and facts.objective != "classification"):
        what = OBJECTIVES[facts.objective]
        return f"The script's loss is that of the next token or of a class; {what} takes another."
    if plan.dtype == "float16":
        return (
            "This card lacks the precision that the script computes in; with its own, losses need scaling, which the "
            "script does not do."
        )
    if facts.sharded and facts.call is None and facts.method.slug != "full":
        return f"PEFT does not have {facts.method.title}: what is the method's own is not split by layers."
    if facts.by_matrices and (
        reason := tensor.why_not(facts.entry.shape, facts.method, facts.values, plan.devices)
    ):
        return reason
    runs = "fsdp2" if facts.sharded else plan.sharding
    return wrap.why_not(plan.optimizer, runs)
