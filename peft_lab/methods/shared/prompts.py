"""What the methods with virtual tokens share: how wide and how many they are in PEFT, and the room they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from peft_lab.methods.base import Problem, TaskType
from peft_lab.methods.knobs import Knob, Values
from peft_lab.methods.shared.dropout import without_dropout
from peft_lab.methods.shared.generation import bridge_cache_names
from peft_lab.methods.shared.peft_backed import PeftMethod
from peft_lab.models.shapes import ModelKind, ModelShape

if TYPE_CHECKING:
    import torch

ROOM = 128  # positions: a sentence or two; with fewer left the learner should know


def tokens_knob(help_: str, usual: str, paper: str) -> Knob:
    """The knob for the number of virtual tokens, with what a method says of it."""
    return Knob(
        "num_virtual_tokens", "Virtual tokens", "int", 20, help_,
        usual=usual, paper=paper, min=1, max=1000, stops=(1, 2, 4, 8, 10, 16, 20, 32, 50, 64, 100, 128, 200),
    )  # fmt: skip


def rows(shape: ModelShape, values: Values) -> int:
    """Rows of PEFT's prompt table: the virtual tokens, twice that on encoder-decoder models.

    PEFT sets ``num_transformer_submodules`` to 2 there, and its forward pass then reads the first half only.
    """
    tokens: int = values["num_virtual_tokens"]
    return tokens * (2 if shape.kind == "seq2seq" else 1)


def embedding_width(shape: ModelShape) -> int:
    """Width of one token's input embedding; the hidden size on nearly all models."""
    for group in shape.groups:
        if group.type == "Embedding" and group.parameters["weight"][0] == shape.vocab:
            return group.parameters["weight"][1]
    return shape.hidden


def room_problems(shape: ModelShape, tokens: int) -> Iterable[Problem]:
    """Virtual tokens take positions of the model's fixed number of them."""
    limit = shape.max_positions
    if limit is None:
        return
    if tokens >= limit:
        yield Problem(
            "num_virtual_tokens",
            f"{shape.title} has {limit:,} positions and {tokens:,} virtual tokens would take all of them; "
            f"choose fewer than {limit:,}.",
        )
    elif limit - tokens < ROOM:
        yield Problem(
            "num_virtual_tokens",
            f"{tokens:,} virtual tokens leave {limit - tokens:,} of the {limit:,} positions of {shape.title} for text.",
            "warning",
        )


#: What virtual tokens start from: encoders classify here, and what writes text follows a form (JSON, a voice).
START_TEXTS: Mapping[ModelKind, str] = {
    "encoder": "Classify the sentiment of this sentence as positive or negative:",
    "causal-lm": "Answer in the right form, and write nothing else:",
    "seq2seq": "Answer in the right form, and write nothing else:",
}


#: Why virtual tokens are refused where images are read.
NO_TEXT = (
    "Virtual tokens stand before a text's embeddings, or in its key/value cache; a reader of images has neither, and "
    "PEFT has no such method for it. LoRA, QLoRA, IA³, BitFit and adapters work."
)


class VirtualTokenMethod(PeftMethod):
    """PEFT's prompt learning: virtual tokens that a prompt encoder outside the base model makes.

    The base is frozen, and so is its dropout: see :func:`without_dropout`.
    """

    def virtual_tokens(self, values: Values) -> int:
        return int(values["num_virtual_tokens"])

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        without_dropout(model)
        return bridged(super().apply(model, shape, values, task_type))

    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        return bridged(super().load(model, directory))


def text_knobs(
    start: str,
    choices: tuple[str, ...],
    help_: str,
    papers: tuple[str, str],
    default: str,
    of: Literal["method", "application"] = "method",
) -> tuple[Knob, Knob]:
    """Where trained vectors start: one of ``choices``, ``text`` among them, and that text; ``papers`` on both."""
    return (
        Knob(
            start, "Start", "choice", default, help_, usual="random, PEFT's default", paper=papers[0],
            choices=choices, advanced=True, of=of,
        ),
        Knob(
            "init_text", "Initial text", "text",
            START_TEXTS["encoder"],
            "Used only when the start is text.", usual="the task in one sentence", paper=papers[1],
            advanced=True, of="application", read_when=(start, ("text",)),
        ),
    )  # fmt: skip


def text_problems(values: Values, start: str) -> Iterable[Problem]:
    """A start from a text without a text."""
    if values[start] == "text" and not values["init_text"].strip():
        yield Problem("init_text", "The start is text, so give a text to start from.")


def text_ids(model: Any, text: str, tokens: int) -> list[int]:
    """The text as ``tokens`` ids of the model's own tokenizer, repeated or cut."""
    from peft_lab.models.loading import load_tokenizer

    tokenizer = load_tokenizer(model.name_or_path)
    ids: Any = tokenizer(" ".join([text] * tokens), truncation=True, max_length=tokens)["input_ids"]
    return list(ids)


def start_from_text(peft_model: Any, text: str, tokens: int) -> None:
    """Fill a prefix with a text's keys and values in the frozen model, by PEFT's own function."""
    from peft import initialize_kv_prefix_from_text

    from peft_lab.models.loading import load_tokenizer

    tokenizer = load_tokenizer(peft_model.get_base_model().name_or_path)
    initialize_kv_prefix_from_text(
        peft_model, tokenizer, text=" ".join([text] * tokens), use_chat_template=False, max_length=tokens
    )


def bridged(peft_model: torch.nn.Module) -> torch.nn.Module:
    """The same model, which can generate whatever its cache is called (:func:`bridge_cache_names`)."""
    bridge_cache_names(peft_model)
    return peft_model


class InputPromptMethod(VirtualTokenMethod):
    """Virtual tokens in front of the input embeddings: Prompt Tuning and P-Tuning."""

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        yield from room_problems(shape, values["num_virtual_tokens"])
        width = embedding_width(shape)
        if width != shape.hidden:
            yield Problem(
                "model",
                f"{shape.title} has token embeddings of width {width} and a hidden size of {shape.hidden}; "
                "PEFT makes virtual tokens of the hidden size, which do not fit.",
            )
        if shape.kind == "seq2seq":
            tokens = values["num_virtual_tokens"]
            yield Problem(
                "num_virtual_tokens",
                f"On encoder-decoder models PEFT makes a table of {2 * tokens} rows and uses the first {tokens}, in "
                "the encoder: half of what is counted never learns.",
                "warning",
            )
