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

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.core.field import Values
from peft_lab.methods.base import Formula, Knob, Paper, Part, Problem, Term
from peft_lab.methods.shared.peft_backed import on_meta, without_dropout, wrap
from peft_lab.methods.shared.virtual_tokens import (
    NO_TEXT,
    START_TEXTS,
    InputPromptMethod,
    bridged,
    rows,
    tokens_knob,
)
from peft_lab.models.catalogue import catalogue
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import ModelKind, ModelShape

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig

KNOBS = (
    tokens_knob(
        "Number of learned tokens before the text.", "8 to 100", "1 to 150, 100 by default; little gain above 20"
    ),
    Knob(
        "prompt_tuning_init", "Start", "choice", "SAMPLE_VOCAB",
        "RANDOM: noise, far from any word's embedding. SAMPLE_VOCAB: embeddings of random words. TEXT: embeddings "
        "of your text, "
        "repeated or cut to the number of tokens.",
        usual="TEXT or SAMPLE_VOCAB", paper="class labels, then sampled vocabulary; random was worst (section 3.2)",
        choices=("RANDOM", "SAMPLE_VOCAB", "TEXT"),
    ),
    Knob(
        "prompt_tuning_init_text", "Initial text", "text",
        START_TEXTS["encoder"],
        "Used only if Start is set to TEXT.",
        usual="the task in one sentence", paper="none: sampled words or class labels instead (section 3.2)",
        read_when=("prompt_tuning_init", ("TEXT",)),
    ),
)  # fmt: skip


class PromptTuning(InputPromptMethod):
    """Prompt Tuning as in PEFT: trained embeddings before those of the text.

    ``n d`` parameters, and twice that on an encoder-decoder, for which PEFT makes two tables:

    >>> from peft_lab.models.catalogue import get_model
    >>> prompt, shapes = PromptTuning(), [get_model(name).shape for name in ("llama-3.2-3b", "t5-base")]
    >>> [prompt.formula(shape, prompt.require(shape, {"num_virtual_tokens": 20})).trainable for shape in shapes]
    [61440, 30720]
    """

    slug = "prompt"
    title = "Prompt Tuning"
    summary = "Freeze the model. Learn a few input embeddings that are added before the text."
    paper = Paper(
        "Lester et al.",
        2021,
        "The Power of Scale for Parameter-Efficient Prompt Tuning",
        "2104.08691",
        "section 2",
    )
    knobs = KNOBS
    text_knob = "prompt_tuning_init_text"
    head_learning_rate = 2e-2
    refuses: ClassVar[Mapping[ModelKind, str]] = {"vision": NO_TEXT}
    learning_rates: ClassVar[Mapping[ModelKind, float]] = {
        "encoder": 3e-2,
        "causal-lm": 3e-2,
        "seq2seq": 3.0,  # entries of FLAN-T5's embeddings are a hundred times as large as those of SmolLM2's
    }
    order = 40

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
