"""What answers say about PEFT, held to the PEFT that is installed: a new release may make a sentence untrue."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

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


@pytest.mark.parametrize("field", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_a_parameter_takes_no_dropout_and_no_dora(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not work"):
        adapted(mixture("gpt-oss"), target_modules=[], target_parameters=["mlp.experts.down_proj"], **field)


def test_llama_adapter_names_the_models_that_it_runs_on() -> None:
    """The atlas's sentence on when one would take it."""
    from peft.tuners.adaption_prompt.config import TRANSFORMERS_MODEL_CONFIG

    from peft_lab.atlas import get_entry

    titles = {"llama": "Llama", "mistral": "Mistral", "gpt2": "GPT-2"}
    assert set(TRANSFORMERS_MODEL_CONFIG) == set(titles)
    assert all(title in get_entry("adaption_prompt").when for title in titles.values())
