"""Convert a 4-bit GGUF file to plain bfloat16 weights, which every PEFT method can adapt.

Runs as a separate process (``python -m peft_lab.models.assets.dequantise FILE.gguf FOLDER``), so that the caller need
not load torch.
"""

from __future__ import annotations

import sys
from pathlib import Path


def dequantise(gguf: Path, into: Path) -> None:
    """Write ``gguf`` (a Llama-type model with its tokenizer) to ``into`` as bfloat16 safetensors and a tokenizer. The
    4-bit blocks become the numbers they stand for; what their rounding lost stays lost."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer, LlamaForCausalLM

    read = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    config = read.config
    # left in place it would mark the saved weights as still quantised
    del config.quantization_config
    config.dtype = torch.bfloat16
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(read.state_dict())
    plain.bfloat16()
    plain.generation_config = read.generation_config
    plain.save_pretrained(into)
    for weights in into.glob("*.safetensors"):  # written for the owner alone, whatever the umask says
        weights.chmod((into / "config.json").stat().st_mode)

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # GGUF names this splitting only by a keyword ("smollm") that transformers does not read: each digit on its own
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(into)


if __name__ == "__main__":
    dequantise(Path(sys.argv[1]), Path(sys.argv[2]))
