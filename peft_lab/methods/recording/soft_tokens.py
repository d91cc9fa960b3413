"""Virtual tokens compared with the vocabulary: their nearest words, their moves, and their similarity.

Works on tables of virtual tokens (tokens, width) in float32; torch is imported inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.ask.field import Values
from peft_lab.methods.recording.recorder import Recorder
from peft_lab.models.shapes import ModelShape

if TYPE_CHECKING:
    import torch

ADAPTER = "default"
NEAREST = 3
LISTED = 64  # virtual tokens whose words are recorded; of longer prompts the first ones


def made_tokens(model: Any) -> torch.Tensor:
    """Return the current output of a PEFT prompt encoder, on the CPU in float32. Draws no random number.

    Of shape (tokens, width); for a prefix (tokens, layers · 2 · kv width). For an encoder-decoder PEFT makes twice as
    many rows, of which the first half is returned.
    """
    encoder = model.prompt_encoder[ADAPTER]
    was_training = encoder.training
    encoder.eval()
    table: torch.Tensor = model.get_prompt_embedding_to_save(ADAPTER).float()
    encoder.train(was_training)
    return table[: model.peft_config[ADAPTER].num_virtual_tokens]


def nearest(table: torch.Tensor, words: torch.Tensor, amount: int = NEAREST) -> tuple[Any, Any]:
    """Return the ``amount`` nearest words of each virtual token by cosine: ids and cosines, nearest first.

    ``table`` has the shape (tokens, width), ``words`` (vocabulary, width); both results have (tokens, ``amount``).
    """
    import torch

    unit = torch.nn.functional.normalize(words.float(), dim=1)
    found = (torch.nn.functional.normalize(table, dim=1) @ unit.T).topk(amount, dim=1)
    return found.indices.tolist(), found.values.tolist()


def alike(table: torch.Tensor) -> list[list[float]]:
    """Return the cosine between every two virtual tokens. ``table`` has the shape (tokens, width)."""
    import torch

    unit = torch.nn.functional.normalize(table, dim=1)
    return [[round(value, 3) for value in row] for row in (unit @ unit.T).tolist()]


class SoftTokenRecorder(Recorder):
    """Record the virtual tokens at some steps and compare them with the vocabulary at the end."""

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._tables: list[tuple[int, torch.Tensor]] = []

    def snapshot(self, step: int) -> None:
        self._tables.append((step, made_tokens(self.model)[:LISTED].clone()))

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        from peft_lab.models.loading import load_tokenizer

        base: Any = model.get_base_model()  # type: ignore[operator]
        words = base.get_input_embeddings().weight.detach().cpu()
        tokenizer = load_tokenizer(base.name_or_path)
        start = self._tables[0][1]
        return {
            "soft_tokens": [
                {"step": step, **_reading(table, start, words, tokenizer)} for step, table in self._tables
            ],
            "word_norm": float(words.float().norm(dim=1).median()),
        }


def _reading(table: torch.Tensor, start: torch.Tensor, words: torch.Tensor, tokenizer: Any) -> dict[str, Any]:
    ids, cosines = nearest(table, words)
    return {
        "nearest": [
            [[text, round(cosine, 3)] for text, cosine in zip(_texts(tokenizer, row), values, strict=True)]
            for row, values in zip(ids, cosines, strict=True)
        ],
        "moved": (table - start).norm(dim=1).tolist(),
        "norm": table.norm(dim=1).tolist(),
        "alike": alike(table),
    }


def _texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return vocabulary entries as text, with spaces made visible."""
    return [tokenizer.decode([number]).replace(" ", "␣") or "∅" for number in ids]
