"""The counts of small adapters, on PEFT itself: what the calculations and their recomputation both take from it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interview.dims import Dims
from tests.interview.expected import EXPECTED

WIDE, HEADS, KEYS, LAYERS, VOCABULARY = 64, 4, 2, 2, 100
#: The same sizes as the model below, for the independent formulas.
SIZES = Dims(
    "llama", WIDE, LAYERS, HEADS, KEYS, WIDE // HEADS, 96, VOCABULARY, 2048, 0, False
)  # fmt: skip


def trained(config: Any) -> dict[str, int]:
    """Trainable parameters by name, of a small Llama with this adapter."""
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=WIDE, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KEYS,
            intermediate_size=96, vocab_size=VOCABULARY,
        )
    )  # fmt: skip
    adapted = get_peft_model(model, config)
    return {name: p.numel() for name, p in adapted.named_parameters() if p.requires_grad}


def on_query_and_value(name: str, **values: Any) -> dict[str, int]:
    import peft

    return trained(getattr(peft, name)(target_modules=["q_proj", "v_proj"], **values))


@pytest.mark.parametrize(
    ("question", "config", "values", "given"),
    [
        ("lora-vera-count", "VeraConfig", {"r": 8}, {"r": 8}),
        ("lora-miss-count", "MissConfig", {"r": 8}, {"r": 8}),
        ("choose-oft-count", "OFTConfig", {"oft_block_size": 8}, {"b": 8}),
    ],
)  # fmt: skip
def test_counts_over_query_and_value(
    question: str, config: str, values: dict[str, int], given: dict[str, int]
) -> None:
    assert sum(on_query_and_value(config, **values).values()) == EXPECTED[question](SIZES, given)


@pytest.mark.parametrize(
    ("question", "config", "values", "given"),
    [
        ("lora-randlora-count", "RandLoraConfig", {"r": 8}, {"r": 8}),
        ("choose-boft-count", "BOFTConfig", {"boft_block_size": 8}, {"b": 8}),
    ],
)  # fmt: skip
def test_counts_of_one_query_map(
    question: str, config: str, values: dict[str, int], given: dict[str, int]
) -> None:
    one = sum(
        n for name, n in on_query_and_value(config, **values).items() if "layers.0.self_attn.q_proj" in name
    )
    assert one == EXPECTED[question](SIZES, given)


def test_tiny_vectors() -> None:
    import peft

    every = trained(peft.TinyLoraConfig(u=5, target_modules="all-linear"))
    assert sum(every.values()) == EXPECTED["lora-tiny-untied"](SIZES, {"u": 5})
    tied = trained(peft.TinyLoraConfig(u=5, weight_tying=1.0, target_modules="all-linear"))
    assert sum(tied.values()) == 5


def test_shared_projections_of_vera() -> None:
    """What ``save_projection`` adds to the file: one A and one B."""
    import peft
    from peft import get_peft_model_state_dict
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=WIDE, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KEYS,
            intermediate_size=96, vocab_size=VOCABULARY,
        )
    )  # fmt: skip
    adapted = peft.get_peft_model(model, peft.VeraConfig(r=8, target_modules=["q_proj", "v_proj"]))
    saved = get_peft_model_state_dict(adapted)
    assert 4 * sum(t.numel() for t in saved.values()) == EXPECTED["lora-vera-file"](SIZES, {"r": 8})


def test_tokens_and_head() -> None:
    import peft

    plain = sum(trained(peft.LoraConfig(r=8, target_modules=["q_proj"])).values())
    tokens = trained(peft.LoraConfig(r=8, target_modules=["q_proj"], trainable_token_indices=[1, 2, 3]))
    assert sum(tokens.values()) - plain == EXPECTED["lora-tokens-count"](SIZES, {"new": 3})
    head = trained(peft.LoraConfig(r=8, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    assert 16 * (sum(head.values()) - plain) == EXPECTED["lora-head-memory"](SIZES, {})
