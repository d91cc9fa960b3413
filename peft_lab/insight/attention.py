"""How much of the attention lands on trained keys, by layer and head, and what they cost in time.

Works on models in eval mode, with PEFT's Prefix Tuning or with deep prompts (:mod:`peft_lab.methods.shared.deep`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

from peft_lab.methods.shared import deep
from peft_lab.training.sizes import writes_at

if TYPE_CHECKING:
    import torch

WATCHED = "watched_deep_prompts"
NEW_TOKENS, ROUNDS = 8, 5


def shares(model: Any, inputs: Mapping[str, torch.Tensor], tokens: int) -> list[list[float]]:
    """Share of each head's attention that the first ``tokens`` keys get, mean over the real tokens of all rows.

    Args:
        inputs: input_ids and attention_mask (rows, length).

    Returns:
        by layer, by head; empty for a model that does not tell its attention. Of an encoder-decoder: its decoder's
        attention to what it wrote before, where PEFT puts a prefix.
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
    """The same share if every position spread its attention evenly over what it may look at.

    ``mask`` has the shape (rows, length).
    """
    rows = []
    for length in mask.sum(1).tolist():
        seen = [position + 1 if causal else length for position in range(length)]
        rows.append(sum(tokens / (tokens + amount) for amount in seen) / length)
    return sum(rows) / len(rows)


def _of_cache(model: Any, inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Attention of every layer of a PEFT model, computed the plain way, which alone keeps it."""
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
        return deep.attend(module, query, key, value, mask, **options)

    AttentionInterface.register(WATCHED, watch)
    AttentionMaskInterface.register(WATCHED, sdpa_mask)
    with _implementation(model, WATCHED), torch.no_grad():
        model(**inputs)
    return kept


@contextmanager
def told(model: Any) -> Iterator[None]:
    """A PEFT model that computes its attention the plain way, which alone can tell it."""
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
    """Seconds with and without the trained keys on the first row: of one generated token, or of an encoder's pass.

    ``inputs`` have the shape (rows, length).

    The two are timed in turn. Given are the medians of the rounds, and all of them under ``rounds``, fastest first.
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
    """Times one more token: a long answer less a short one, so that reading the text falls out."""

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
