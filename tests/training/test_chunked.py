"""The loss in chunks is the loss: the same number and the same gradients, whatever is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from peft_lab.models.catalogue import catalogue
from peft_lab.models.meta import make_config
from peft_lab.training.chunked import altered, without_logits

CONFIGS: dict[str, Any] = {
    "lora": LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"),
    "ia3": IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
    "prefix": PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
    "prompt": PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
    "full": None,
}


def small(kind: str = "llama", **changes: Any) -> Any:
    sizes = {
        "vocab_size": 997,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**sizes, **changes}))


def adapted(name: str) -> Any:
    base = small()
    torch.manual_seed(1)
    return base if CONFIGS[name] is None else get_peft_model(base, CONFIGS[name])


def gradients(model: Any, **more: Any) -> tuple[float, dict[str, torch.Tensor]]:
    torch.manual_seed(2)
    ids = torch.randint(0, 997, (3, 70))
    labels = ids.clone()
    labels[:, :20] = -100
    loss = model(input_ids=ids, labels=labels, **more).loss
    loss.backward()
    # the head has another name afterwards: the sizes of what is trained do not change
    found = {
        name.replace(".head.", "."): p.grad for name, p in model.named_parameters() if p.grad is not None
    }
    return float(loss), found


@pytest.mark.parametrize("more", [{}, {"num_items_in_batch": 31}])
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_the_usual_ones(name: str, more: dict[str, int]) -> None:
    usual, first = gradients(adapted(name), **more)
    model = adapted(name)
    without_logits(model)
    chunked, second = gradients(model, **more)
    assert chunked == pytest.approx(usual, rel=1e-5)
    assert first.keys() == second.keys() and first
    for key, gradient in first.items():
        torch.testing.assert_close(second[key], gradient, rtol=1e-3, atol=1e-6)


def test_hidden_states_are_where_logits_were() -> None:
    model = small()
    without_logits(model)
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 32)


def test_models_that_do_more_to_their_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="alters its logits \\(final_logit_softcapping\\)"):
        without_logits(small("gemma2", head_dim=8, num_key_value_heads=2, final_logit_softcapping=30.0))


def test_a_head_with_an_adapter_is_refused() -> None:
    model = get_peft_model(small(), LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    with pytest.raises(ValueError, match="on its output head"):
        without_logits(model)


@pytest.mark.parametrize("name", [entry.name for entry in catalogue().values() if entry.kind == "causal-lm"])
def test_what_a_config_leaves_out_is_known(name: str) -> None:
    stored = catalogue()[name].config
    full = make_config(stored).get_text_config().to_dict()
    assert altered(stored.get("text_config") or stored) == altered(full)
