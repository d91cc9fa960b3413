"""Trained keys and values, and virtual tokens, during training. Torch is imported inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from peft_lab.ask.field import Values
from peft_lab.methods.recording import attention, parts
from peft_lab.methods.recording.parts import Kept, Watched, Watching
from peft_lab.methods.recording.soft_tokens import ADAPTER, made_tokens
from peft_lab.methods.shared import virtual_tokens
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch

ENCODER = "prompt_encoder"


class Columns(Kept):
    """The trained keys and values of one layer.

    Args:
        read: returns the current ones, each of shape (virtual tokens, width of the keys).
        gradient: returns the norm of their gradient, if they are parameters of their own.
    """

    kind = "columns"

    def __init__(
        self,
        path: str,
        trained: list[torch.Tensor],
        read: Callable[[], list[torch.Tensor]],
        gradient: Callable[[], float | None] | None = None,
        parameters: int | None = None,
    ) -> None:
        self._read, self._gradient, self._amount = read, gradient, parameters
        keys = read()[0]
        super().__init__(path, "attention", tuple(keys.shape), trained)

    @property
    def parameters(self) -> int:
        return super().parameters if self._amount is None else self._amount

    def now(self) -> list[torch.Tensor]:
        """Return keys and values, each of shape (virtual tokens, width of the keys)."""
        return [each.detach().float() for each in self._read()]

    def gradient(self) -> float | None:
        return super().gradient() if self._gradient is None else self._gradient()

    def tensors(self) -> dict[str, dict[str, Any]]:
        keys, values = self.now()
        size = (parts.THIN, parts.LONG)
        return {"key": parts.tensor_picture(keys, *size), "value": parts.tensor_picture(values, *size)}


class Cells(Kept):
    """The virtual tokens before the text, as the encoder outputs them."""

    kind = "cells"

    def __init__(self, model: Any, trained: list[torch.Tensor]) -> None:
        self._model = model
        super().__init__(ENCODER, "tokens", tuple(made_tokens(model).shape), trained)

    def now(self) -> list[torch.Tensor]:
        """Return the tokens, of shape (virtual tokens, hidden)."""
        return [made_tokens(self._model)]

    def tensors(self) -> dict[str, dict[str, Any]]:
        return {"p": parts.tensor_picture(self.now()[0], parts.THIN, parts.LONG)}


class Encoder(Kept):
    """The encoder that makes virtual tokens or a prefix from its table, and is discarded after training."""

    kind = "encoder"


def soft_tokens(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """Watch the virtual tokens of a PEFT model, and the encoder that makes them if there is one."""
    held: Any = model
    table = held.prompt_encoder[ADAPTER].embedding.weight
    parts: list[Watched] = [Cells(model, [table])]
    parts += _encoder(held, table)
    tokens: int = values["num_virtual_tokens"]
    return Watching(parts, lambda model, inputs: _before_the_text(model, inputs, tokens))


def deep_prompts(model: torch.nn.Module, shape: ModelShape, values: Values) -> Watching:
    """Watch the trained keys and values of every layer, from PEFT's table or the layer's own."""
    tokens: int = values["num_virtual_tokens"]
    parts = _of_peft(model, shape) if hasattr(model, "peft_config") else _of_layers(model)
    return Watching(parts, lambda model, inputs: attention.shares(model, inputs, tokens))


def _of_layers(model: torch.nn.Module) -> list[Watched]:
    def read(prompt: Any) -> list[torch.Tensor]:
        return [prompt[name].transpose(0, 1).flatten(1) for name in ("key", "value")]

    return [
        Columns(path, list(module.deep_prompt.values()), partial(read, module.deep_prompt))
        for path, module in virtual_tokens.layers(model)
    ]


def _of_peft(model: Any, shape: ModelShape) -> list[Watched]:
    """Split PEFT's table, one row per token with every layer's keys, then its values (``PeftModel.get_prompt``)."""
    table = model.prompt_encoder[ADAPTER].embedding.weight
    encoder = _encoder(model, table)
    keys = next(
        group
        for group in shape.groups
        if group.role in ("k", "qkv", "kv")
        and not (shape.kind == "seq2seq" and group.path.startswith("encoder."))
    )
    layers = len(keys.layers)
    width = made_tokens(model).shape[1] // (2 * layers)

    def part(number: int, path: str) -> Columns:
        first, middle, end = (width * (2 * number + place) for place in range(3))

        def read() -> list[torch.Tensor]:
            made = made_tokens(model)
            return [made[:, first:middle], made[:, middle:end]]

        def gradient() -> float | None:
            if encoder or table.grad is None:
                return None  # the encoder's parameters belong to all layers
            return float(table.grad[:, first:end].float().norm())

        return Columns(path, [], read, gradient, 0 if encoder else len(table) * 2 * width)

    paths = [path.rpartition(".")[0] for path in keys.paths]
    return [*(part(number, path) for number, path in enumerate(paths)), *encoder]


def _encoder(model: Any, table: torch.Tensor) -> list[Watched]:
    rest = [parameter for parameter in model.prompt_encoder[ADAPTER].parameters() if parameter is not table]
    if not rest:
        return []
    largest = max(rest, key=lambda parameter: parameter.numel())
    return [Encoder(f"{ENCODER}.encoder", "tokens", tuple(largest.shape), rest)]


def _before_the_text(model: Any, inputs: Mapping[str, torch.Tensor], tokens: int) -> list[list[float]]:
    """Return shares as :func:`peft_lab.methods.recording.attention.shares`, for tokens in the input before the text.

    ``inputs``: ids and mask of shape (1, length), without padding.
    """
    length = inputs["input_ids"].shape[1]
    with attention.told(model):
        told = model(**inputs, output_attentions=True)
    found = told.encoder_attentions if "decoder_input_ids" in inputs else told.attentions
    return [layer[0, :, -length:, :tokens].float().sum(-1).mean(1).tolist() for layer in found or ()]
