r"""BitFit: train the bias vectors and nothing else (Ben Zaken et al. 2021, arXiv 2106.10199).

    W x + b        W frozen, b trained

              x
              |
        [ W frozen ]
              |
            ( + b )   trained
              |
              h

Nothing is added, so nothing is slower afterwards; a model without biases (Llama types) has nothing to train. The
paper's subset trains two kinds only: the query's bias and that of the feed-forward part's first, the up map,
which the paper calls the second MLP layer (its first is the attention's output map).

The frozen model's dropout is off while the biases train, which the paper does not say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.base import Formula, Part, Problem, Term
from peft_lab.methods.shared import peft_backed
from peft_lab.methods.shared.peft_backed import without_dropout
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import ModelShape, ModuleGroup, is_bias

PEFT_TYPE = "BITFIT"
SUBSET_ROLES = ("q", "up")  # b_q and b_m2 of the paper


class BitFit(peft_backed.OwnFormat):
    """BitFit, our own implementation: train the biases that the model already has."""

    slug = "bitfit"
    peft_type = PEFT_TYPE
    adds = False

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        if not shape.biases:
            yield Problem(
                "model",
                f"{shape.title} has no biases: its linear maps and norms are built without them, so BitFit has "
                "nothing to train. GPT-2, BERT and RoBERTa have biases everywhere, Qwen2.5 in query, key and value.",
            )
            return
        if values["subset"] == "all":
            return
        found = {group.role for group, _ in _biases(shape, values)}
        if not found:
            yield Problem("subset", f"{shape.title} has no bias at either of these places. Choose all.")
        elif found != set(SUBSET_ROLES):
            names = {"q": "the query", "up": "the feed-forward up map"}
            there, missing = sorted(SUBSET_ROLES, key=lambda role: role not in found)
            message = (
                f"{shape.title} has no bias in {names[missing]}; only that of {names[there]} is trained."
            )
            yield Problem("subset", message, "warning")

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        terms = tuple(
            Term(
                f"{group.path}.{name}",
                r" \cdot ".join(str(side) for side in group.parameters[name]),
                math.prod(group.parameters[name]),
                group.count,
            )
            for group, name in _biases(shape, values)
        )
        symbolic = r"\sum |b|" if values["subset"] == "all" else r"L\,(|b_q| + |b_{m_2}|)"
        return Formula(symbolic, terms, added=0, stored=sum(term.total for term in terms))

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        return tuple(
            Part("bias", group.path, "b", {"size": math.prod(group.parameters[name])})
            for group, name in _biases(shape, values)
        )

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        if values["subset"] == "all":
            names = [name for name, _ in model.named_parameters() if is_bias(name)]
        else:
            wanted = tuple(f"{path}.{name}" for group, name in _biases(shape, values) for path in group.paths)
            # A classifier holds the bare model under one more name, such as "bert.".
            names = [n for n, _ in model.named_parameters() if n in wanted or n.partition(".")[2] in wanted]
        without_dropout(model)
        peft_backed.train_only(model, names, task_type)
        return model


def _biases(shape: ModelShape, values: Values) -> list[tuple[ModuleGroup, str]]:
    if values["subset"] == "all":
        return list(shape.biases)
    return [(group, name) for group, name in shape.biases if group.role in SUBSET_ROLES]


METHOD = BitFit()
