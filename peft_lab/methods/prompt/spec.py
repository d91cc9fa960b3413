r"""Prompt Tuning: learned input embeddings in front of the text (Lester et al. 2021, arXiv 2104.08691, section 2).

    [P; E(x)]        P: n x d, trained        E(x): the frozen embeddings of the text

        P P P P P | x x x x x x x
        --------------------------   one row of virtual and real tokens
        |  frozen model, unchanged |
        --------------------------

The model is unchanged; it reads a longer input. The loss can only reach P through the whole frozen network, which is
why this method wants a large learning rate. Parameters: n d.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.base import Formula, Part, Problem, Term
from peft_lab.methods.shared.peft_backed import on_meta, without_dropout, wrap
from peft_lab.methods.shared.virtual_tokens import (
    START_TEXTS,
    InputPromptMethod,
    bridged,
    rows,
)
from peft_lab.models.catalogue import catalogue
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


class PromptTuning(InputPromptMethod):
    """Prompt Tuning as in PEFT: trained embeddings before those of the text. ``n d`` parameters, twice that on an
    encoder-decoder, for which PEFT makes two tables."""

    slug = "prompt"

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        """Return the defaults. A text start learns most but needs a tokenizer: the default if the weights are here."""
        known = catalogue().get(shape.name)
        text = {"prompt_tuning_init_text": START_TEXTS.get(shape.kind, "")}
        return (
            super().defaults(shape) | text | ({"prompt_tuning_init": "TEXT"} if known and known.live else {})
        )

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        yield from super().check(shape, values)
        if values["prompt_tuning_init"] == "TEXT" and not values["prompt_tuning_init_text"].strip():
            yield Problem("prompt_tuning_init_text", "Start is set to TEXT, so an initial text is needed.")

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        count, width = rows(shape, values), shape.hidden
        term = Term("prompt_encoder.embedding", rf"{count} \cdot {width}", count * width, 1)
        symbolic = r"2 \cdot n \cdot d" if shape.kind == "seq2seq" else r"n \cdot d"
        return Formula(symbolic, (term,), added=term.total, stored=term.total)

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        size = {"tokens": values["num_virtual_tokens"], "width": shape.hidden}
        return (Part("cells", "tokens", "P", size),)

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig:
        return self._config(values, task_type, shape.name)

    @staticmethod
    def _config(values: Values, task_type: TaskType, tokenizer: str) -> PeftConfig:
        from peft import PromptTuningConfig

        from_text = values["prompt_tuning_init"] == "TEXT"
        return PromptTuningConfig(
            task_type=task_type,
            num_virtual_tokens=values["num_virtual_tokens"],
            prompt_tuning_init=values["prompt_tuning_init"],
            prompt_tuning_init_text=values["prompt_tuning_init_text"] if from_text else None,
            tokenizer_name_or_path=tokenizer if from_text else None,
        )

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        if on_meta(model):
            # Only the shapes are needed, and those are the same for every start.
            values = {**values, "prompt_tuning_init": "RANDOM"}
        tokenizer = getattr(model, "name_or_path", "") or shape.name
        without_dropout(model)
        return bridged(wrap(model, self._config(values, task_type, tokenizer)))


METHOD = PromptTuning()
