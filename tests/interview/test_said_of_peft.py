"""What answers say about PEFT and count in it, held to the PEFT that is installed."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.interview.independent import EXPECTED, Dims

pytestmark = pytest.mark.further

SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 64, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
NAMES = ["q_proj", "gate_proj", "up_proj", "down_proj"]


def mixture(kind: str) -> Any:
    """A mixture of four experts with no weights, of one family."""
    import torch

    transformers: Any = importlib.import_module("transformers")  # its classes are not typed
    config: Any = {
        "olmoe": lambda: transformers.OlmoeConfig(num_experts=4, num_experts_per_tok=2, **SMALL),
        "gpt-oss": lambda: transformers.GptOssConfig(num_local_experts=4, head_dim=16, **SMALL),
    }[kind]()
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config)


def trained(model: Any, config: Any) -> dict[str, int]:
    """Trainable parameters by name, of a model with this adapter."""
    from peft import get_peft_model

    adapted = get_peft_model(model, config)
    return {name: each.numel() for name, each in adapted.named_parameters() if each.requires_grad}


@pytest.mark.parametrize(("kind", "reached"), [("olmoe", True), ("gpt-oss", False)])
def test_names_of_modules_reach_the_experts_of_some_families_only(kind: str, reached: bool) -> None:
    """lora-experts-parameters, lora-since-experts: twice the rank where gate and up are one."""
    from peft import LoraConfig

    config = LoraConfig(r=2, target_modules=NAMES)
    names = trained(mixture(kind), config)
    assert any(".experts." in name for name in names) is reached and any("q_proj" in name for name in names)
    assert (list((config.rank_pattern or {}).values()) == [4]) is reached


def test_the_count_of_a_joint_gate_and_up_is_no_sum_of_two() -> None:
    """lora-experts-count, its follow-up: smaller where the parameter is named, larger where the names are turned."""
    from peft import LoraConfig

    def count(**fields: Any) -> int:
        return sum(trained(mixture("olmoe"), LoraConfig(r=2, **fields)).values())

    experts, rank, wide, narrow = 4, 2, SMALL["hidden_size"], SMALL["intermediate_size"]
    apart = experts * 2 * rank * (wide + narrow)  # a pair for the gate and a pair for the up map
    named = count(target_modules=[], target_parameters=["mlp.experts.gate_up_proj"])
    turned = count(target_modules=["gate_proj", "up_proj"])
    assert named == experts * rank * (wide + 2 * narrow) < apart
    assert turned == 2 * named > apart


WIDE, HEADS, KEYS, LAYERS, VOCABULARY = 64, 4, 2, 2, 100
#: The same sizes as the model below, for the independent formulas.
SIZES = Dims("llama", WIDE, LAYERS, HEADS, KEYS, WIDE // HEADS, 96, VOCABULARY, 2048, 0, False)


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=WIDE, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KEYS,
            intermediate_size=96, vocab_size=VOCABULARY,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("question", "config", "values", "given", "only"),
    [
        ("lora-vera-count", "VeraConfig", {"r": 8}, {"r": 8}, ""),
        ("lora-miss-count", "MissConfig", {"r": 8}, {"r": 8}, ""),
        ("choose-oft-count", "OFTConfig", {"oft_block_size": 8}, {"b": 8}, ""),
        ("lora-randlora-count", "RandLoraConfig", {"r": 8}, {"r": 8}, "layers.0.self_attn.q_proj"),
        ("choose-boft-count", "BOFTConfig", {"boft_block_size": 8}, {"b": 8}, "layers.0.self_attn.q_proj"),
        ("lora-tiny-untied", "TinyLoraConfig", {"u": 5, "target_modules": "all-linear"}, {"u": 5}, ""),
        (
            "lora-tokens-count",
            "LoraConfig",
            {"r": 8, "trainable_token_indices": [1, 2, 3]},
            {"new": 3},
            "token",
        ),
    ],
)
def test_counts(question: str, config: str, values: dict[str, Any], given: dict[str, int], only: str) -> None:
    """Over query and value, or of one query map."""
    import peft

    made = getattr(peft, config)(**{"target_modules": ["q_proj", "v_proj"], **values})
    found = trained(llama(), made)
    assert sum(count for name, count in found.items() if only in name) == EXPECTED[question](SIZES, given)


def test_a_trained_head_and_the_shared_projections_of_vera() -> None:
    """What ``save_projection`` adds to the file: one A and one B."""
    import peft

    head = trained(llama(), peft.LoraConfig(r=8, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    saved = sum(count for name, count in head.items() if "lm_head" in name)
    assert 16 * saved == EXPECTED["lora-head-memory"](SIZES, {})
    adapted = peft.get_peft_model(llama(), peft.VeraConfig(r=8, target_modules=["q_proj", "v_proj"]))
    file = peft.get_peft_model_state_dict(adapted)
    assert 4 * sum(each.numel() for each in file.values()) == EXPECTED["lora-vera-file"](SIZES, {"r": 8})
