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


def adapted(model: Any, **fields: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=2, **fields))


def trained(model: Any) -> list[str]:
    return [name for name, each in model.named_parameters() if each.requires_grad]


@pytest.mark.parametrize(("kind", "reached"), [("olmoe", True), ("gpt-oss", False)])
def test_names_of_modules_reach_the_experts_of_some_families_only(kind: str, reached: bool) -> None:
    """lora-experts-parameters, lora-since-experts."""
    model = adapted(mixture(kind), target_modules=NAMES)
    assert any(".experts." in name for name in trained(model)) is reached
    assert any("q_proj" in name for name in trained(model))
    patterns = model.peft_config["default"].rank_pattern
    assert (list(patterns.values()) == [4]) is reached, "twice the rank where gate and up are one"


def test_the_count_of_a_joint_gate_and_up_is_no_sum_of_two() -> None:
    """lora-experts-count, its follow-up: smaller where the parameter is named, larger where the names are turned."""

    def count(**fields: Any) -> int:
        model = adapted(mixture("olmoe"), **fields)
        return sum(each.numel() for name, each in model.named_parameters() if each.requires_grad)

    experts, rank, wide, narrow = 4, 2, SMALL["hidden_size"], SMALL["intermediate_size"]
    apart = experts * 2 * rank * (wide + narrow)  # a pair for the gate and a pair for the up map
    named = count(target_modules=[], target_parameters=["mlp.experts.gate_up_proj"])
    turned = count(target_modules=["gate_proj", "up_proj"])
    assert named == experts * rank * (wide + 2 * narrow) < apart
    assert turned == 2 * named > apart


def test_a_second_adapter_of_parameters_needs_the_same_ones() -> None:
    """lora-experts-parameters, its follow-up."""
    from peft import LoraConfig

    model = adapted(mixture("gpt-oss"), target_modules=[], target_parameters=["mlp.experts.down_proj"])
    model.add_adapter("same", LoraConfig(r=2, target_modules=[], target_parameters=["mlp.experts.down_proj"]))
    other = LoraConfig(r=2, target_modules=[], target_parameters=["mlp.experts.gate_up_proj"])
    with pytest.raises(ValueError, match="same set of parameters"):
        model.add_adapter("other", other)


WIDE, HEADS, KEYS, LAYERS, VOCABULARY = 64, 4, 2, 2, 100
#: The same sizes as the model below, for the independent formulas.
SIZES = Dims(
    "llama", WIDE, LAYERS, HEADS, KEYS, WIDE // HEADS, 96, VOCABULARY, 2048, 0, False
)  # fmt: skip


def trained_by(config: Any) -> dict[str, int]:
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

    return trained_by(getattr(peft, name)(target_modules=["q_proj", "v_proj"], **values))


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

    every = trained_by(peft.TinyLoraConfig(u=5, target_modules="all-linear"))
    assert sum(every.values()) == EXPECTED["lora-tiny-untied"](SIZES, {"u": 5})
    tied = trained_by(peft.TinyLoraConfig(u=5, weight_tying=1.0, target_modules="all-linear"))
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

    plain = sum(trained_by(peft.LoraConfig(r=8, target_modules=["q_proj"])).values())
    tokens = trained_by(peft.LoraConfig(r=8, target_modules=["q_proj"], trainable_token_indices=[1, 2, 3]))
    assert sum(tokens.values()) - plain == EXPECTED["lora-tokens-count"](SIZES, {"new": 3})
    head = trained_by(peft.LoraConfig(r=8, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    assert 16 * (sum(head.values()) - plain) == EXPECTED["lora-head-memory"](SIZES, {})
