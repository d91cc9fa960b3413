"""Every PEFT type has the same parameters on the meta device as on a real model that PEFT itself adapted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.methods.counting import count
from peft_lab.models import meta
from peft_lab.models.shapes import ModelEntry

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96,
    "max_position_embeddings": 64, "use_cache": False, "tie_word_embeddings": True,
}  # fmt: skip
PROMPT: dict[str, Any] = {"num_virtual_tokens": 4}
# What a type cannot do without, or what its defaults make too large for a model of width 64.
NEEDED: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 100},
    "ADAMSS": {"r": 12, "num_subspaces": 3, "subspace_rank": 2},
    "ADAPTION_PROMPT": {"adapter_len": 5, "adapter_layers": 2},
    "PROMPT_TUNING": PROMPT,
    "PREFIX_TUNING": PROMPT,
    "P_TUNING": PROMPT,
    "MULTITASK_PROMPT_TUNING": PROMPT | {"num_tasks": 2},
    "CARTRIDGE": PROMPT,
    "CPT": PROMPT | {"cpt_token_ids": [1, 2, 3, 4], "cpt_mask": [1] * 4, "cpt_tokens_type_mask": [1] * 4},
    "C3A": {"block_size": 8},
    "FOURIERFT": {"n_frequency": 10},
    "WAVEFT": {"n_frequency": 10},
    "MISS": {"r": 8},
    "BONE": {"r": 8},
    "OFT": {"oft_block_size": 8},
    "PSOFT": {"r": 4},
    "ROAD": {"group_size": 8},
    "SHIRA": {"r": 2},
    "TRAINABLE_TOKENS": {"token_indices": [0, 1, 2]},
    "VBLORA": {"vector_length": 8, "num_vectors": 16, "topk": 2, "r": 2},
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *[
        ("LORA", {"init_lora_weights": start})
        for start in (
            "gaussian",
            "pissa",
            "pissa_niter_4",
            "olora",
            "orthogonal",
            "eva",
            "lora_ga",
            "mica",
            False,
        )
    ],
    # More rows than the matrix has singular vectors: these starts then make a smaller adapter than asked for.
    *[("LORA", {"init_lora_weights": start, "r": 40}) for start in ("pissa", "pissa_niter_4", "olora")],
    ("LORA", {"init_lora_weights": "mica", "bias": "all", "target_modules": ["embed_tokens", "q_proj"]}),
    ("LORA", {"kasa_config": {}}),
    ("LORA", {"velora_config": {}}),
    ("LORA", {"monteclora_config": {}}),
    ("LORA", {"layer_replication": [[0, 2], [1, 2]]}),
    ("LORA", {"use_dora": True, "bias": "all"}),
    (
        "LORA",
        {"target_modules": ["q_proj", "up_proj"], "rank_pattern": {"q_proj": 4}, "layers_to_transform": [1]},
    ),
    ("LORA", {"modules_to_save": ["lm_head"]}),
    ("LORA", {"target_modules": ["q_proj", "lm_head"]}),
    ("LORA", {"trainable_token_indices": [1, 2]}),
    ("LOHA", {"target_modules": ["down_proj"], "r": 3}),
    ("LOKR", {"decompose_both": True, "r": 2}),
    ("IA3", {"target_modules": ["q_proj", "up_proj"], "feedforward_modules": ["up_proj"]}),
    ("MISS", {"r": 8, "init_weights": "bat"}),
    ("OFT", {"oft_block_size": 8, "oft_block_share": True}),
    ("BOFT", {"boft_block_size": 0, "boft_block_num": 4}),
    ("DEFT", {"para": True, "decomposition_method": "qr"}),
    ("ADAMSS", {"r": 12, "num_subspaces": 3, "subspace_rank": 1, "target_modules": ["o_proj", "up_proj"]}),
    ("FROD", {"target_modules": ["down_proj"]}),
    ("RANDLORA", {"r": 4, "target_modules": ["q_proj", "up_proj"]}),
    ("P_TUNING", PROMPT | {"encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 8}),
    ("PREFIX_TUNING", PROMPT | {"prefix_projection": True, "encoder_hidden_size": 8}),
]


def peft_types() -> list[str]:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    return sorted(str(getattr(kind, "value", kind)) for kind in PEFT_TYPE_TO_CONFIG_MAPPING)


@pytest.fixture(scope="module")
def entry() -> ModelEntry:
    config = meta.make_config(LLAMA)
    shape = meta.read_shape(meta.build(config, "causal-lm"), config, "causal-lm", "tiny", "Tiny")
    return ModelEntry("tiny", "Tiny", "causal-lm", False, LLAMA, shape, "", None, "")


def signature(model: Any) -> dict[str, tuple[tuple[int, ...], bool]]:
    return {name: (tuple(value.shape), value.requires_grad) for name, value in model.named_parameters()}


def state_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    from peft import get_peft_model_state_dict

    return {
        name: tuple(v.shape)
        for name, v in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }


@pytest.mark.sampled(5)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "fields"),
    [*[(kind, NEEDED.get(kind, {})) for kind in peft_types() if kind != "XLORA"], *VARIANTS],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_meta_equals_real(entry: ModelEntry, kind: str, fields: dict[str, Any]) -> None:
    from peft import PeftConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from peft_lab.models.meta import shapes_only

    content = {"peft_type": kind, "task_type": "CAUSAL_LM", **fields}
    adapted = count.apply_config(entry, content)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(meta.make_config(LLAMA))
    real = get_peft_model(base, PeftConfig.from_peft_type(**content))
    parameters, expected = signature(adapted), signature(real)
    with shapes_only():
        stored = state_shapes(adapted)
    expected_stored = state_shapes(real)
    if kind == "ADAMSS":
        # Which rows form a cluster depends on the weights, so only the sums are the same.
        parameters, expected = _sums(parameters), _sums(expected)
        stored, expected_stored = _sizes(stored), _sizes(expected_stored)
    assert parameters == expected
    assert stored == expected_stored


def _sums(parameters: dict[str, tuple[tuple[int, ...], bool]]) -> Any:
    import math

    return sum(math.prod(s) for s, grad in parameters.values() if grad), sum(
        math.prod(s) for s, _ in parameters.values()
    )


def _sizes(stored: dict[str, tuple[int, ...]]) -> Any:
    import math

    return sum(math.prod(shape) for shape in stored.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("start", "more"),
    [
        ("loftq", {"loftq_config": {"loftq_bits": 4}}),
        ("corda", {"corda_config": {}}),
    ],
)
def test_starts_that_need_a_run_over_data_before_change_no_shape(
    entry: ModelEntry, start: str, more: dict[str, Any]
) -> None:
    plain = count.apply_config(entry, {"peft_type": "LORA"})
    other = count.apply_config(entry, {"peft_type": "LORA", "init_lora_weights": start, **more})
    assert signature(other) == signature(plain)


def test_stand_ins_are_taken_out_again() -> None:
    from peft.tuners.adamss import layer as adamss
    from peft.tuners.boft.layer import BOFTLayer

    from peft_lab.models.meta import shapes_only

    layer: Any = adamss
    before = layer.clustering_Z, BOFTLayer.perm2mat
    with pytest.raises(RuntimeError, match="on purpose"), shapes_only():
        assert layer.clustering_Z is not before[0]
        assert torch.empty(2).is_meta
        raise RuntimeError("on purpose")
    assert (layer.clustering_Z, BOFTLayer.perm2mat) == before
    assert not torch.empty(2).is_meta


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "adapter config"),
        ({"peft_type": "NOPE"}, "adapter config"),
        ({"peft_type": "XLORA"}, "already trained"),
        ({"peft_type": "PROMPT_TUNING"}, "leaves num_virtual_tokens empty"),
        ({"peft_type": "ADAPTION_PROMPT", "adapter_len": 3}, "leaves adapter_layers empty"),
        ({"peft_type": "LORA", "r": 8, "target_modules": ["qq"]}, "Target modules"),
        ({"peft_type": "LORA", "r": -3}, "positive integer"),
        ({"peft_type": "ADALORA"}, "total_step"),
        ({"peft_type": "LORA", "r": 40, "init_lora_weights": "mica"}, "at most 32"),
        ({"peft_type": "LORA", "r": 64, "kasa_config": {}}, "a rank below 64"),
        ({"peft_type": "LORA", "r": 7, "init_lora_weights": "orthogonal"}, "even"),
        ({"peft_type": "LORA", "init_lora_weights": "mica", "use_dora": True}, "variant combination"),
        ({"peft_type": "LORA", "init_lora_weights": "micah"}, "not know"),
        ({"peft_type": "ADAMSS", "use_dynamic_rank": True}, "singular values"),
    ],
)
def test_unusable_configs_say_why(entry: ModelEntry, content: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        count.apply_config(entry, content)
    assert caught.value.field == "adapter_config"
