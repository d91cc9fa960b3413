"""A Llama of four small layers with random weights from a fixed seed, and a smaller BERT, for experiments: made in a
moment, without a download, with the same figures every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.errors import BadInput

if TYPE_CHECKING:
    import torch

SEED = 0
TINY: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 160, "vocab_size": 128, "tie_word_embeddings": False,
}  # fmt: skip
TINY_BERT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 128,
}  # fmt: skip
QUERY_VALUE = ["q_proj", "v_proj"]


def seed() -> None:
    import torch

    torch.manual_seed(SEED)


def tiny() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    seed()
    return LlamaForCausalLM(LlamaConfig(**TINY))


def tokens() -> torch.Tensor:
    import torch

    return torch.arange(24).reshape(2, 12) % 100


def lora(base: Any, targets: Sequence[str] = tuple(QUERY_VALUE), start: Any = True) -> Any:
    from peft import LoraConfig, get_peft_model

    seed()
    config = LoraConfig(
        task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=list(targets), init_lora_weights=start
    )
    return get_peft_model(base, config)


def loss(model: Any) -> torch.Tensor:
    loss: torch.Tensor = model(tokens(), labels=tokens()).loss
    return loss


def fill(model: Any, part: str) -> None:
    import torch

    seed()
    for name, parameter in model.named_parameters():
        if part in name:
            torch.nn.init.normal_(parameter, std=0.02)


def first(model: Any, part: str) -> str:
    return next(name for name, _ in model.named_parameters() if part in name)


def trainable(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def grad(parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        raise BadInput("A parameter that should be trained got no gradient.")
    return parameter.grad


def gradient_norm(model: Any, part: str) -> float:
    squares = [float(grad(p).norm()) ** 2 for name, p in model.named_parameters() if part in name]
    return float(sum(squares) ** 0.5)


def saved_bytes(model: Any) -> int:
    """Bytes of the distinct storages that autograd keeps for the backward pass, parameters left out."""
    import torch

    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(model)
        total = sum(kept.values())
        value.backward()
    return total
