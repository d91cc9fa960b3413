"""Record virtual tokens, and trained keys and values, as they learn: their attention, their words, their cost in time.

Works on models with PEFT's prompt encoders or with deep prompts (:mod:`peft_lab.methods.shared.virtual_tokens`);
attention and latency are measured in eval mode. Torch is imported inside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any, ClassVar

from peft_lab.core.later import torch
from peft_lab.methods.recording.recorder import (
    ADAPTER,
    LONG,
    THIN,
    FreshBase,
    Inputs,
    Recorder,
    Watched,
    WatchedFromStart,
    copied,
    restored,
    tensor_picture,
)
from peft_lab.methods.shared import virtual_tokens
from peft_lab.models.shapes import ModelShape
from peft_lab.training.batches import writes_at

ENCODER = "prompt_encoder"


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


WATCHED = "watched_deep_prompts"
NEW_TOKENS, ROUNDS = 8, 5


def shares(model: Any, inputs: Inputs, tokens: int) -> list[list[float]]:
    """Return the share of each head's attention on the first ``tokens`` keys, averaged over all rows' real tokens.

    Args:
        inputs: input_ids and attention_mask (rows, length).

    Returns:
        by layer, by head; empty if a model does not report its attention. For an encoder-decoder: its decoder's
        self-attention, where PEFT puts a prefix.
    """
    weights = _of_cache(model, inputs) if hasattr(model, "peft_config") else _of_prompts(model, inputs)
    real = writes_at(model, inputs).bool()
    found = []
    for layer in weights:
        on_prompt = layer[..., :tokens].float().sum(-1)  # rows, heads, length
        found.append(
            torch.stack([row[:, seen].mean(1) for row, seen in zip(on_prompt, real, strict=True)]).mean(0)
        )
    return [layer.tolist() for layer in found]


def even_share(mask: torch.Tensor, tokens: int, causal: bool) -> float:
    """Return the share of :func:`shares` if attention were spread evenly over all positions a token may attend to.
    ``mask`` has the shape (rows, length)."""
    rows = []
    for length in mask.sum(1).tolist():
        seen = [position + 1 if causal else length for position in range(length)]
        rows.append(sum(tokens / (tokens + amount) for amount in seen) / length)
    return sum(rows) / len(rows)


def _of_cache(model: Any, inputs: Inputs) -> list[torch.Tensor]:
    """Return every layer's attention in a PEFT model, computed with plain attention, which alone keeps the weights."""
    base = model.get_base_model()
    with _implementation(base, "eager"), torch.no_grad():
        found = model(**inputs, output_attentions=True)
    return list((found.decoder_attentions if "decoder_input_ids" in inputs else found.attentions) or ())


def _of_prompts(model: Any, inputs: Inputs) -> list[torch.Tensor]:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    kept: list[torch.Tensor] = []

    def watch(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: Any, mask: Any, **options: Any
    ) -> Any:
        keys = torch.cat((module.deep_prompt["key"].to(key.dtype).expand(len(key), -1, -1, -1), key), dim=2)
        scores = query.float() @ keys.float().transpose(-1, -2) * module.scaling
        if mask is not None:
            tokens = keys.shape[2] - key.shape[2]
            scores[..., tokens:] = scores[..., tokens:].masked_fill(~mask, -torch.inf)
        kept.append(scores.softmax(-1))
        return virtual_tokens.attend(module, query, key, value, mask, **options)

    AttentionInterface.register(WATCHED, watch)
    AttentionMaskInterface.register(WATCHED, sdpa_mask)
    with _implementation(model, WATCHED), torch.no_grad():
        model(**inputs)
    return kept


@contextmanager
def _implementation(model: Any, name: str) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def latency(model: Any, inputs: Inputs) -> dict[str, Any]:
    """Measure seconds with and without the trained keys on the first row: per generated token, or per encoder pass.

    ``inputs`` have the shape (rows, length).

    The two are timed in turn. Returned are the medians of the rounds, and all of them under ``rounds``, fastest first.
    """
    length = int(inputs["attention_mask"][0].sum())
    row = {name: inputs[name][:1, :length] for name in ("input_ids", "attention_mask")}
    if hasattr(model, "peft_config"):
        runs = {"with": _tokens(model, row), "without": _tokens(model.get_base_model(), row)}
        unit = "token"
    else:
        runs, unit = {"with": _passes(model, row, None), "without": _passes(model, row, "sdpa")}, "pass"
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for measured in range(-1, ROUNDS):  # the first round warms up
        for name, run in runs.items():
            found = run()
            if measured >= 0:
                seconds[name].append(found)
    rounds = {name: sorted(found) for name, found in seconds.items()}
    return {"unit": unit, "length": length, "rounds": rounds} | {
        name: median(found) for name, found in seconds.items()
    }


def _tokens(model: Any, row: Mapping[str, torch.Tensor]) -> Callable[[], float]:
    """Return a timer for one token: a long generation less a short one, so that reading the text cancels out."""

    def timed(amount: int) -> float:
        start = time.perf_counter()
        model.generate(**row, max_new_tokens=amount, min_new_tokens=amount, do_sample=False, pad_token_id=0)
        return time.perf_counter() - start

    return lambda: max(0.0, timed(1 + NEW_TOKENS) - timed(1)) / NEW_TOKENS


def _passes(model: Any, row: Mapping[str, torch.Tensor], implementation: str | None) -> Callable[[], float]:
    def run() -> float:
        with _implementation(model, implementation or model.config._attn_implementation), torch.no_grad():
            start = time.perf_counter()
            for _ in range(NEW_TOKENS):
                model(**row)
            return (time.perf_counter() - start) / NEW_TOKENS

    return run


def _before_the_text(model: Any, inputs: Inputs, tokens: int) -> list[list[float]]:
    """Return shares as :func:`shares`, for tokens in the input before the text. ``inputs``: ids and mask of shape (1,
    length), without padding."""
    length = inputs["input_ids"].shape[1]
    with _implementation(model.get_base_model(), "eager"):  # plain attention alone can report its weights
        output = model(**inputs, output_attentions=True)
    found = output.encoder_attentions if "decoder_input_ids" in inputs else output.attentions
    return [layer[0, :, -length:, :tokens].float().sum(-1).mean(1).tolist() for layer in found or ()]


class Columns(WatchedFromStart):
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
        size = (THIN, LONG)
        return {"key": tensor_picture(keys, *size), "value": tensor_picture(values, *size)}


class Cells(WatchedFromStart):
    """The virtual tokens before the text, as the encoder outputs them."""

    kind = "cells"

    def __init__(self, model: Any, trained: list[torch.Tensor]) -> None:
        self._model = model
        super().__init__(ENCODER, "tokens", tuple(made_tokens(model).shape), trained)

    def now(self) -> list[torch.Tensor]:
        """Return the tokens, of shape (virtual tokens, hidden)."""
        return [made_tokens(self._model)]

    def tensors(self) -> dict[str, dict[str, Any]]:
        return {"p": tensor_picture(self.now()[0], THIN, LONG)}


class Encoder(WatchedFromStart):
    """The encoder that makes virtual tokens or a prefix from its table, and is discarded after training."""

    kind = "encoder"


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


class DeepRecorder(Recorder):
    """Record the trained keys and values at some steps; at the end restore each and measure its attention on the same
    rows."""

    rows: ClassVar[int] = 16

    def watched(self) -> Sequence[Watched]:
        """Return the trained keys and values of every layer, from PEFT's table or the layer's own."""
        if hasattr(self.model, "peft_config"):
            return _of_peft(self.model, self.shape)

        def read(prompt: Any) -> list[torch.Tensor]:
            return [prompt[name].transpose(0, 1).flatten(1) for name in ("key", "value")]

        return [
            Columns(path, list(module.deep_prompt.values()), partial(read, module.deep_prompt))
            for path, module in virtual_tokens.layers(self.model)
        ]

    def attention(self, inputs: Inputs) -> list[list[float]]:
        return shares(self.model, inputs, self.values["num_virtual_tokens"])

    def now(self) -> dict[str, torch.Tensor]:
        return prefix_of(self.model)

    def finish(self, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
        model = self.model
        played = []
        for step, prefix in self._kept:
            with _replayed(model, prefix):
                played.append({"step": step, "share": self.attention(inputs), **_apart(prefix)})
        causal, attends = self.shape.kind != "encoder", writes_at(model, inputs)
        tokens: int = self.values["num_virtual_tokens"]
        return {
            "attention": played,
            "even": even_share(attends, tokens, causal),
            "rows": len(inputs["input_ids"]),
            "tokens": int(attends.sum()),
            "virtual_tokens": tokens,
            "latency": latency(model, inputs),
            "bytes_each": next(model.parameters()).element_size(),
        }


def prefix_of(model: Any) -> dict[str, torch.Tensor]:
    """Return the current trained keys and values: PEFT's table, or every layer's own. The table has the shape (tokens,
    layers · 2 · kv width), a layer's own the shape that is trained."""
    if hasattr(model, "peft_config"):
        return {"table": made_tokens(model)}
    own = model.named_parameters()
    return copied({name: parameter for name, parameter in own if f".{virtual_tokens.CHILD}." in name})


def _apart(prefix: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the virtual tokens' mean distance from their mean, as a share of their size: 0 if all are alike."""
    if "table" in prefix:
        table = prefix["table"]
    else:
        table = torch.cat([part.float().transpose(0, 1).flatten(1) for part in prefix.values()], dim=1)
    size = float(table.norm(dim=1).mean())
    spread = float((table - table.mean(0)).norm(dim=1).mean())
    return {"size": size, "apart": spread / size if size else 0.0}


@contextmanager
def _replayed(model: Any, prefix: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Put an earlier prefix into the model until the block is left."""
    if "table" not in prefix:
        with restored(dict(model.named_parameters()), prefix):
            yield
        return
    encoder = model.prompt_encoder[ADAPTER]
    table = prefix["table"].to(encoder.embedding.weight.device)
    encoder.forward = lambda indices: table[indices]
    try:
        yield
    finally:
        del encoder.forward


# ----------------------------------------
# Virtual tokens compared with the vocabulary: their nearest words, their moves, and their similarity.
#
# Works on tables of virtual tokens (tokens, width) in float32.


NEAREST = 3
LISTED = 64  # virtual tokens whose words are recorded; of longer prompts the first ones


def nearest(table: torch.Tensor, words: torch.Tensor, amount: int = NEAREST) -> tuple[Any, Any]:
    """Return the ``amount`` nearest words of each virtual token by cosine: ids and cosines, nearest first. ``table``
    has the shape (tokens, width), ``words`` (vocabulary, width); both results have (tokens, ``amount``)."""
    unit = torch.nn.functional.normalize(words.float(), dim=1)
    found = (torch.nn.functional.normalize(table, dim=1) @ unit.T).topk(amount, dim=1)
    return found.indices.tolist(), found.values.tolist()


def alike(table: torch.Tensor) -> list[list[float]]:
    """Return the cosine between every two virtual tokens. ``table`` has the shape (tokens, width)."""
    unit = torch.nn.functional.normalize(table, dim=1)
    return [[round(value, 3) for value in row] for row in (unit @ unit.T).tolist()]


class SoftTokenRecorder(Recorder):
    """Record the virtual tokens at some steps and compare them with the vocabulary at the end."""

    def watched(self) -> Sequence[Watched]:
        """Return the virtual tokens, and the encoder that makes them if there is one."""
        table = self.model.prompt_encoder[ADAPTER].embedding.weight
        return [Cells(self.model, [table]), *_encoder(self.model, table)]

    def attention(self, inputs: Inputs) -> list[list[float]]:
        return _before_the_text(self.model, inputs, self.values["num_virtual_tokens"])

    def now(self) -> torch.Tensor:
        return made_tokens(self.model)[:LISTED].clone()

    def finish(self, inputs: Inputs, fresh_base: FreshBase) -> dict[str, Any]:
        from peft_lab.models.loading import load_tokenizer

        base = self.model.get_base_model()
        words = base.get_input_embeddings().weight.detach().cpu()
        tokenizer = load_tokenizer(base.name_or_path)
        start = self._kept[0][1]
        return {
            "soft_tokens": [
                {"step": step, **_reading(table, start, words, tokenizer)} for step, table in self._kept
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
