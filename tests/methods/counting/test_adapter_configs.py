"""Adapter configs as they are read: what cannot be meant is said in a sentence, before anything is built."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.methods.counting import count
from peft_lab.models.catalogue import get_model

PROMPT = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 8}
PREFIX = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 8}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**PROMPT, "num_virtual_tokens": "20"}, "num_virtual_tokens '20'"),
        ({**PROMPT, "num_virtual_tokens": [1]}, "whole number"),
        ({**PROMPT, "num_virtual_tokens": 0}, "whole number"),
        ({**PROMPT, "num_virtual_tokens": True}, "whole number"),
        ({"peft_type": "ADAPTION_PROMPT", "adapter_len": 4, "adapter_layers": 0}, "adapter_layers 0"),
        ({**PROMPT, "token_dim": 99}, "token_dim 99, but GPT-2 has 768"),
        ({**PROMPT, "token_dim": [3]}, "GPT-2 has 768"),
        ({**PREFIX, "num_layers": 3}, "num_layers 3, but GPT-2 has 12"),
        ({**PREFIX, "token_dim": 10}, "token_dim 10, but GPT-2 has 768"),
        ({**PREFIX, "num_attention_heads": 7}, "num_attention_heads 7, but GPT-2 has 12"),
    ],
)
def test_numbers_that_cannot_be_meant(content: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message.replace("[", r"\[")) as caught:
        count.parse_config(get_model("gpt2"), content)
    assert caught.value.field == "adapter_config"


def test_a_stored_config_is_accepted() -> None:
    """PEFT writes the sizes of the model into what it saves: of the keys where there are fewer than queries."""
    llama = get_model("llama-3.2-1b")
    for heads, width in ((8, 512), (32, 2048)):
        sizes = {"num_layers": 16, "num_attention_heads": heads, "token_dim": width}
        prefix: Any = count.parse_config(llama, {**PREFIX, **sizes})
        assert prefix.num_virtual_tokens == 8
    sizes = {"num_layers": 12, "num_attention_heads": 12, "token_dim": 768, "num_transformer_submodules": 2}
    prompt: Any = count.parse_config(get_model("t5-base"), {**PROMPT, **sizes})
    assert prompt.token_dim == 768
