"""Packed rows: loss and gradients are those of the rows apart, for every type of model that is offered packing."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers

from peft_lab.training.batches import IGNORED, TYPES, Encoded, Packed, collate, collate_packed, fill, no_cache

ROOM = 24
#: Sums in float32, taken in another order.
CLOSE = 1e-5


def rows() -> list[Encoded]:
    """Of unequal lengths; one has no prompt, so that all its tokens are learned."""
    chance = random.Random(1)
    lengths = (9, 5, 12, 7, 3, 11)
    return [
        Encoded(tuple(chance.randrange(3, 96) for _ in range(length)), number % 3)
        for number, length in enumerate(lengths)
    ]


def model_of(kind: str) -> Any:
    """A small one with random weights; windows of attention are shorter than rows, where it has any."""
    wanted: dict[str, Any] = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "sliding_window": 6,
        "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "num_local_experts": 4,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0, "hidden_dropout": 0.0,
        "resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "embedding_dropout": 0.0, "residual_dropout": 0.0,
    }  # fmt: skip
    usual = transformers.AutoConfig.for_model(kind)
    fields = {name: value for name, value in wanted.items() if hasattr(usual, name)}
    if kind == "gpt2":
        fields |= {"n_positions": 64, "n_inner": 48}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **fields)
    return transformers.AutoModelForCausalLM.from_config(config).train()


def learned(model: Any, batches: list[dict[str, torch.Tensor]]) -> tuple[float, list[torch.Tensor]]:
    """The mean loss over all tokens of some batches, and its gradients."""
    model.zero_grad()
    tokens = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = model(**batch, num_items_in_batch=tokens).loss
        loss.backward()
        total += float(loss.detach())
    return total, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def apart(model: Any, kind: str) -> float:
    """How far packed rows are from the rows apart, in loss or in a gradient."""
    no_cache(model)
    packs = [
        Packed(tuple(rows()[number] for number in pack)) for pack in fill([len(row) for row in rows()], ROOM)
    ]
    assert len(packs) == 2 and max(len(pack.rows) for pack in packs) > 2
    alone, one_by_one = learned(model, [collate([row], 0, "cpu") for row in rows()])
    together, at_once = learned(model, [collate_packed(packs, 0, "cpu")])
    assert len(one_by_one) == len(at_once) > 4, kind
    far = max(float((a - b).abs().max()) for a, b in zip(one_by_one, at_once, strict=True))
    return max(far, abs(alone - together))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", TYPES)
def test_packed_rows_learn_what_they_learn_apart(kind: str) -> None:
    assert apart(model_of(kind), kind) < CLOSE


@pytest.mark.parametrize("kind", ["bloom", "opt"])
def test_rows_of_other_models_would_see_each_other(kind: str) -> None:
    """So the comparison notices it."""
    assert apart(model_of(kind), kind) > 100 * CLOSE
    assert kind not in TYPES


def test_a_cache_would_hide_where_rows_end() -> None:
    model = model_of("llama")
    packs = [Packed(tuple(rows()[:3]))]
    cached, _ = learned(model, [collate_packed(packs, 0, "cpu")])
    no_cache(model)
    right, _ = learned(model, [collate_packed(packs, 0, "cpu")])
    assert abs(cached - right) > 100 * CLOSE


def test_the_loss_in_chunks_reads_packed_rows_too() -> None:
    from peft_lab.training.optimizers import without_logits

    model = model_of("llama")
    no_cache(model)
    batch = collate_packed([Packed(tuple(rows()[:3])), Packed(tuple(rows()[3:]))], 0, "cpu")
    whole, _ = learned(model, [batch])
    without_logits(model)
    chunked, _ = learned(model, [batch])
    assert chunked == pytest.approx(whole, abs=CLOSE)


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_packed_once_and_no_row_is_overfull(seed: int) -> None:
    chance = random.Random(seed)
    lengths = [chance.randint(1, 60) for _ in range(300)]
    packs = fill(lengths, 64)
    assert sorted(number for pack in packs for number in pack) == list(range(300))
    filled = [sum(lengths[number] for number in pack) for pack in packs]
    assert max(filled) <= 64
    least = -(-sum(lengths) // 64)
    assert least <= len(packs) <= 1.1 * least, "any fit that leaves rows half empty would be above"


def test_a_row_that_is_too_long_has_a_row_of_its_own() -> None:
    assert fill([70, 10, 5], 64) == [[0], [1, 2]]
    assert fill([], 64) == []


def test_nothing_is_predicted_across_the_end_of_a_row() -> None:
    first, second = Encoded((5, 6, 7), 0), Encoded((8, 9), 0)
    batch = collate_packed([Packed((first, second)), Packed((second,))], 1, "cpu")
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [8, 9, 1, 1, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9], [-100, 9, -100, -100, -100]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert "attention_mask" not in batch
