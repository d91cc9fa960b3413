"""The loss in chunks is the loss: the same number and the same gradients, whatever is trained."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from peft_lab.engine.request import StepSetting
from peft_lab.engine.simulate import simulate_blueprint
from peft_lab.training.optimizers import LEAST, offloading, to_host, without_logits
from tests.engine import real, small

CONFIGS: dict[str, Any] = {
    "lora": LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"),
    "ia3": IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
    "prefix": PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
    "prompt": PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
    "full": None,
}


def tiny_model(kind: str = "llama", **changes: Any) -> Any:
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
    base = tiny_model()
    torch.manual_seed(1)
    return base if CONFIGS[name] is None else get_peft_model(base, CONFIGS[name])


def gradients_of(model: Any, **more: Any) -> tuple[float, dict[str, torch.Tensor]]:
    torch.manual_seed(2)
    ids = torch.randint(0, 997, (3, 70))
    labels = ids.clone()
    labels[:, :20] = -100
    loss = model(input_ids=ids, labels=labels, **more).loss
    loss.backward()
    return float(loss), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("more", [{}, {"num_items_in_batch": 31}])
@pytest.mark.parametrize("name", ["lora", "prefix", "full"])
def test_loss_and_gradients_are_the_usual_ones(name: str, more: dict[str, int]) -> None:
    usual, first = gradients_of(adapted(name), **more)
    model = adapted(name)
    without_logits(model)
    chunked, second = gradients_of(model, **more)
    assert chunked == pytest.approx(usual, rel=1e-5)
    assert first.keys() == second.keys() and first
    for key, gradient in first.items():
        torch.testing.assert_close(second[key], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        # all by place, by name, or some of each; with a router's loss beside it
        *((kind, {"output_router_logits": True}) for kind in ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe")),
        ("gpt_oss", {"num_local_experts": 4, "head_dim": 8, "output_router_logits": True}),
        ("gemma3_text", {"head_dim": 8}),
        ("gemma4_text", {"head_dim": 8, "global_head_dim": 16, "hidden_size_per_layer_input": 0}),
        # logits of 32 bits
        ("mamba", {"state_size": 4}),
        # a head inside another part, with a bias
        ("bert", {"is_decoder": True, "use_cache": False}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_way_to_call_the_loss_is_the_usual_one(
    kind: str, changes: dict[str, Any], dtype: torch.dtype
) -> None:
    if kind not in CONFIG_MAPPING:
        pytest.skip("newer than the installed transformers")
    experts = {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "num_key_value_heads": 2,
    }
    usual, first = gradients_of(tiny_model(kind, **experts, **changes).to(dtype))
    model = tiny_model(kind, **experts, **changes).to(dtype)
    names = list(model.state_dict())
    without_logits(model)
    chunked, second = gradients_of(model)
    assert list(model.state_dict()) == names, "what is saved is what is read again"
    relative, absolute = (1e-3, 1e-6) if dtype == torch.float32 else (0.1, 2e-3)
    assert chunked == pytest.approx(usual, rel=relative / 10)
    assert first.keys() == second.keys() and first
    for key, gradient in first.items():
        torch.testing.assert_close(second[key], gradient, rtol=relative, atol=absolute)


@pytest.mark.parametrize("kind", ["recurrent_gemma", "granite"])
def test_what_is_done_to_logits_is_seen_where_the_loss_is_taken(kind: str) -> None:
    """No field of these configs has a name that is known for it."""
    model = tiny_model(kind, lru_width=32, logits_scaling=1.0, num_hidden_layers=3)
    without_logits(model)
    with pytest.raises(ValueError, match="logits"):
        gradients_of(model)


# ----------------------------------------
# What the backward pass needs in main memory: the same gradients, and as many bytes there as are simulated.


pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = ("llama", "gpt2")


def batch() -> dict[str, Any]:
    ids = torch.arange(3, 67).repeat(2, 1)
    return {"input_ids": ids, "labels": ids.clone()}


def blueprint(kind: str, checkpointing: bool) -> Any:
    adapter = small.adapter("LORA", kind, r=4)
    return small.blueprint(kind, 3, adapter, dtype=torch.float32, checkpointing=checkpointing)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_and_as_many_bytes_leave_as_are_simulated(
    kind: str, checkpointing: bool
) -> None:
    here = real.built(blueprint(kind, checkpointing)).train()
    away = copy.deepcopy(here)
    torch.manual_seed(0)  # of dropout
    here(**batch()).loss.backward()
    left: list[torch.Tensor] = []

    def leave(tensor: torch.Tensor) -> torch.Tensor:
        left.append(tensor)
        return to_host(tensor)

    torch.manual_seed(0)
    with offloading(away, leave):
        away(**batch()).loss.backward()
    for first, second in zip(here.parameters(), away.parameters(), strict=True):
        assert (first.grad is None) == (second.grad is None)
        assert first.grad is None or torch.equal(first.grad, second.grad)
    own = {parameter.untyped_storage().data_ptr() for parameter in away.parameters()}
    assert left and not {tensor.untyped_storage().data_ptr() for tensor in left} & own
    assert min(tensor.nbytes for tensor in left) >= LEAST
    setting = StepSetting(2, 64, offload=True, device="cpu")
    found = simulate_blueprint(blueprint(kind, checkpointing), setting, kind, "test", works=False)
    assert found.host_bytes == sum(tensor.nbytes for tensor in left)
