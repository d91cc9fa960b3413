"""Tiny models with random weights, the same at every call, on which a capability shows in a second."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from peft_lab.models import meta, quantise
from peft_lab.models.shapes import ModelKind, ModelShape

if TYPE_CHECKING:
    import torch

WIDTH, VOCAB, ROWS, TOKENS = 64, 128, 3, 12
_COMMON = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**_COMMON, "model_type": "llama", "intermediate_size": 128, "num_key_value_heads": 2},
    "gpt2": {"model_type": "gpt2", "vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": 4, "n_head": 2, "n_positions": 64},
    "mixtral": {
        **_COMMON, "model_type": "mixtral", "intermediate_size": 64, "num_key_value_heads": 2, "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "t5": {
        "model_type": "t5", "vocab_size": VOCAB, "d_model": WIDTH, "d_kv": 32, "d_ff": 128, "num_layers": 4,
        "num_heads": 2, "decoder_start_token_id": 0, "pad_token_id": 0, "dropout_rate": 0.0,
    },
}  # fmt: skip


def build(architecture: str, bits: int = 16, dtype: str = "float32") -> tuple[Any, ModelShape]:
    """A model in ``dtype``, or with its linear maps in 8 or 4 bits, and its shape."""
    import torch
    import transformers

    config: Any = meta.make_config(CONFIGS[architecture])
    kind: ModelKind = "seq2seq" if architecture == "t5" else "causal-lm"
    auto: Any = transformers.AutoModelForSeq2SeqLM if kind == "seq2seq" else transformers.AutoModelForCausalLM
    torch.manual_seed(0)
    model = auto.from_config(config)
    # The usual start of 0.02 leaves the logits of so small a model almost alike.
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.mul_(4)
    shape = meta.read_shape(model, config, kind, architecture, architecture)
    if bits == 16:
        return model.to(getattr(torch, dtype)).eval(), shape
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        quantised = transformers.BitsAndBytesConfig(
            load_in_8bit=bits == 8, load_in_4bit=bits == 4, llm_int8_skip_modules=["lm_head"]
        )
        model = auto.from_pretrained(folder, quantization_config=quantised, device_map={"": "cpu"})
    quantise.settle(model)  # or the answers about 4 bits would go by the processor that they are asked on
    return model.eval(), shape


def batch(rows: int = ROWS) -> dict[str, torch.Tensor]:
    """Token ids (rows, tokens), mask and labels. The tokens 1 2 3, which call an aLoRA, stand near the start."""
    import torch

    ids = torch.randint(8, VOCAB, (rows, TOKENS), generator=torch.Generator().manual_seed(3))
    ids[:, 2:5] = torch.tensor([1, 2, 3])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}
