"""What is drawn into the block: the parts that the settings say, where they say, with their sizes."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.methods import get_method
from tests.methods import tiny

LAYER = "model.layers.{}."
Q, K, V, OUT = (f"{LAYER}self_attn.{name}_proj" for name in "qkvo")
GATE, UP, DOWN = (f"{LAYER}mlp.{name}_proj" for name in ("gate", "up", "down"))
NARROW = {"num_virtual_tokens": 5, "encoder_hidden_size": 7}
PREFIX = {"tokens": 5, "width": 16, "layers": 2}
CELLS = ("cells", "tokens", "P", {"tokens": 5, "width": 32})
COLUMNS = [("columns", K, "P_k", PREFIX), ("columns", V, "P_v", PREFIX)]
ADAPTER = {"width": 8, "hidden": 32, "parallel": 0}
NF4, INT8 = {"bits": 4, "double": 1, "block": 64}, {"bits": 8, "double": 0}
# Of a Llama with 32 features, keys and values of 16, and 48 in the feed-forward part.
LLAMA: list[tuple[str, dict[str, Any], list[tuple[str, str, str, dict[str, int]]]]] = [
    ("lora", {"r": 3}, [("low_rank", at, "A B", {"rank": 3, "least": 3, "magnitude": 0}) for at in (Q, V)]),
    (
        "lora",
        {"r": 3, "use_dora": True, "rank_pattern": "v_proj=5, 0=2"},
        [
            ("low_rank", Q, "A B", {"rank": 3, "least": 2, "magnitude": 1}),
            ("low_rank", V, "A B", {"rank": 5, "least": 5, "magnitude": 1}),
        ],
    ),
    (
        "qlora",
        {"r": 3, "target_modules": ("q_proj",)},
        [
            *(("quantised", at, "NF4", NF4) for at in (Q, K, V, OUT, GATE, UP, DOWN)),
            ("low_rank", Q, "A B", {"rank": 3, "least": 3, "magnitude": 0}),
        ],
    ),
    (
        "qlora",
        {"r": 3, "target_modules": ("q_proj",), "load_in_8bit": True},
        [
            *(("quantised", at, "INT8", INT8) for at in (Q, K, V, OUT, GATE, UP, DOWN)),
            ("low_rank", Q, "A B", {"rank": 3, "least": 3, "magnitude": 0}),
        ],
    ),
    ("prefix", NARROW, COLUMNS),
    (
        "prefix",
        {**NARROW, "prefix_projection": True},
        [*COLUMNS, ("encoder", "attention", "MLP", {"width": 7, "layers": 2})],
    ),
    ("prompt", {"num_virtual_tokens": 5}, [CELLS]),
    ("ptuning", NARROW, [CELLS, ("encoder", "tokens", "MLP", {"width": 7, "layers": 3})]),
    (
        "ptuning",
        {**NARROW, "encoder_reparameterization_type": "LSTM", "encoder_num_layers": 4},
        [CELLS, ("encoder", "tokens", "LSTM", {"width": 7, "layers": 4})],
    ),
    ("ptuning", {**NARROW, "version": "v2"}, COLUMNS),
    ("adapters", {"bottleneck": 8}, [("bottleneck", at, "gelu", ADAPTER) for at in (OUT, DOWN)]),
    (
        "adapters",
        {"bottleneck": 8, "placement": "pfeiffer", "nonlinearity": "relu"},
        [("bottleneck", DOWN, "relu", ADAPTER)],
    ),
    (
        "adapters",
        {"bottleneck": 8, "placement": "parallel"},
        [("bottleneck", "ffn", "gelu", ADAPTER | {"parallel": 1})],
    ),
    (
        "ia3",
        {},
        [
            ("gate", K, "l_k", {"size": 16, "on_input": 0}),
            ("gate", V, "l_v", {"size": 16, "on_input": 0}),
            ("gate", DOWN, "l_ff", {"size": 48, "on_input": 1}),
        ],
    ),
    (
        "ia3",
        {"target_modules": ("q_proj", "gate_proj"), "feedforward_modules": ()},
        [
            ("gate", Q, "l_q", {"size": 32, "on_input": 0}),
            ("gate", GATE, "l", {"size": 48, "on_input": 0}),
        ],
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("slug", "values", "expected"), LLAMA, ids=lambda value: str(value)[:60])
def test_parts_of_a_llama(slug: str, values: dict[str, Any], expected: list[Any]) -> None:
    spec, shape = get_method(slug), tiny.shape_of("llama")
    parts = spec.parts(shape, spec.require(shape, values))
    assert [(part.kind, part.at, part.label, dict(part.size)) for part in parts] == expected


def test_biases_and_everything() -> None:
    """BitFit's two subsets and LoRA's biases on BERT; full fine-tuning has a part for every group."""
    shape = tiny.shape_of("bert")
    query, up = "encoder.layer.{}.attention.self.query", "encoder.layer.{}.intermediate.dense"

    def of(slug: str, **values: Any) -> list[tuple[str, str, dict[str, int]]]:
        spec = get_method(slug)
        parts = spec.parts(shape, spec.require(shape, values))
        return [(part.kind, part.at, dict(part.size)) for part in parts]

    assert of("bitfit", subset="query_mlp") == [("bias", query, {"size": 32}), ("bias", up, {"size": 64})]
    assert of("bitfit") == [
        ("bias", group.path, {"size": group.parameters["bias"][0]}) for group, _ in shape.biases
    ]
    adapted = of("lora", target_modules=("query",), r=2, bias="lora_only")
    assert adapted == [
        ("low_rank", query, {"rank": 2, "least": 2, "magnitude": 0}),
        ("bias", query, {"size": 32}),
    ]
    assert len(of("lora", target_modules=("query",), bias="all")) == 1 + len(shape.biases)
    assert of("full") == [("trainable", group.path, {"parameters": group.each}) for group in shape.groups]
