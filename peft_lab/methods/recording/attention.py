"""How much of the attention falls on trained keys, by layer and head, and their cost in time.

Works on models in eval mode, with PEFT's Prefix Tuning or with deep prompts
(:mod:`peft_lab.methods.shared.virtual_tokens`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.ask.field import Values
from peft_lab.methods.recording.recorder import Recorder
from peft_lab.methods.recording.soft_tokens import ADAPTER, made_tokens
from peft_lab.methods.shared import virtual_tokens
from peft_lab.models.shapes import ModelShape
from peft_lab.training.batches import writes_at

if TYPE_CHECKING:
    import torch

WATCHED = "watched_deep_prompts"
NEW_TOKENS, ROUNDS = 8, 5


def shares(model: Any, inputs: Mapping[str, torch.Tensor], tokens: int) -> list[list[float]]:
    """Return the share of each head's attention on the first ``tokens`` keys, averaged over all rows' real tokens.

    Args:
        inputs: input_ids and attention_mask (rows, length).

    Returns:
        by layer, by head; empty if a model does not report its attention. For an encoder-decoder: its decoder's
        self-attention, where PEFT puts a prefix.
    """
    import torch

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
    """Return the same share for attention spread evenly over all the positions each token may attend to.

    ``mask`` has the shape (rows, length).
    """
    rows = []
    for length in mask.sum(1).tolist():
        seen = [position + 1 if causal else length for position in range(length)]
        rows.append(sum(tokens / (tokens + amount) for amount in seen) / length)
    return sum(rows) / len(rows)


def _of_cache(model: Any, inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return every layer's attention in a PEFT model, computed with plain attention, which alone keeps the weights."""
    import torch

    base = model.get_base_model()
    with _implementation(base, "eager"), torch.no_grad():
        found = model(**inputs, output_attentions=True)
    return list((found.decoder_attentions if "decoder_input_ids" in inputs else found.attentions) or ())


def _of_prompts(model: Any, inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    import torch
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
def told(model: Any) -> Iterator[None]:
    """Make a PEFT model use plain attention, which alone can report its weights, until the block is left."""
    with _implementation(model.get_base_model(), "eager"):
        yield


@contextmanager
def _implementation(model: Any, name: str) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def latency(model: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
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
    import torch

    def run() -> float:
        with _implementation(model, implementation or model.config._attn_implementation), torch.no_grad():
            start = time.perf_counter()
            for _ in range(NEW_TOKENS):
                model(**row)
            return (time.perf_counter() - start) / NEW_TOKENS

    return run


# ----------------------------------------
# What a run of trained keys and values records: the attention on them over the steps, and their cost in time.


class DeepRecorder(Recorder):
    """Record the prefix at some steps; at the end restore each and measure its attention on the same rows."""

    rows: ClassVar[int] = 16

    def __init__(self, model: torch.nn.Module, shape: ModelShape, values: Values) -> None:
        super().__init__(model, shape, values)
        self._kept: list[tuple[int, dict[str, torch.Tensor]]] = []

    def snapshot(self, step: int) -> None:
        self._kept.append((step, prefix_of(self.model)))

    def finish(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        fresh_base: Callable[[], torch.nn.Module],
    ) -> dict[str, Any]:
        tokens: int = self.values["num_virtual_tokens"]
        played = []
        for step, prefix in self._kept:
            with_prefix = _replayed(model, prefix)
            try:
                played.append({"step": step, "share": shares(model, inputs, tokens), **_apart(prefix)})
            finally:
                with_prefix()
        causal, attends = self.shape.kind != "encoder", writes_at(model, inputs)
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
    """Return the current trained keys and values: PEFT's table, or every layer's own.

    The table has the shape (tokens, layers · 2 · kv width), a layer's own the shape that is trained.
    """
    if hasattr(model, "peft_config"):
        return {"table": made_tokens(model)}
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if f".{virtual_tokens.CHILD}." in name
    }


def _apart(prefix: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the virtual tokens' mean distance from their mean, as a share of their size: 0 if all are alike."""
    import torch

    if "table" in prefix:
        table = prefix["table"]
    else:
        table = torch.cat([part.float().transpose(0, 1).flatten(1) for part in prefix.values()], dim=1)
    size = float(table.norm(dim=1).mean())
    spread = float((table - table.mean(0)).norm(dim=1).mean())
    return {"size": size, "apart": spread / size if size else 0.0}


def _replayed(model: Any, prefix: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    """Put an earlier prefix into the model; return a function that restores the present one."""
    import torch

    if "table" not in prefix:
        own = dict(model.named_parameters())
        present = {name: own[name].detach().clone() for name in prefix}

        def put(state: Mapping[str, torch.Tensor]) -> None:
            with torch.no_grad():
                for name, tensor in state.items():
                    own[name].copy_(tensor)

        put(prefix)
        return lambda: put(present)
    encoder = model.prompt_encoder[ADAPTER]
    table = prefix["table"].to(encoder.embedding.weight.device)
    encoder.forward = lambda indices: table[indices]
    return lambda: delattr(encoder, "forward")
