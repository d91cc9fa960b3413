r"""Full fine-tuning: every parameter of the model is trained. The reference for everything else here.

    theta <- theta - update        all of theta, nothing added

Parameters: all of them, tied ones once. What a run stores is a whole new model, and the optimizer keeps two moments for
each parameter while it runs (Kingma & Ba 2014, arXiv 1412.6980, algorithm 1).
"""

from __future__ import annotations

import math

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.base import Formula, Part, Term
from peft_lab.methods.shared import peft_backed
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import ModelShape

PEFT_TYPE = "FULL"


class FullFineTuning(peft_backed.OwnFormat):
    """Full fine-tuning: the reference that all other methods are compared with."""

    slug = "full"
    peft_type = PEFT_TYPE
    adds = False

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        terms = []
        for group in shape.groups:
            own = [dims for name, dims in group.parameters.items() if name not in group.tied]
            if own:
                expression = " + ".join(r" \cdot ".join(str(size) for size in dims) for dims in own)
                terms.append(Term(group.path, expression, sum(math.prod(dims) for dims in own), group.count))
        return Formula(r"\sum_{\text{all modules}} |\theta|", tuple(terms), added=0, stored=shape.total)

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        return tuple(Part("trainable", group.path, "", {"parameters": group.each}) for group in shape.groups)

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        peft_backed.train_only(model, [name for name, _ in model.named_parameters()], task_type)
        return model


METHOD = FullFineTuning()
