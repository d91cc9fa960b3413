"""Classifiers of images: counted as PEFT counts them, drawn, simulated, refused where nothing is known of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.drawing.block import PATCHES, draw_block
from peft_lab.engine.request import ConfigRequest, StepRequest, StepSetting
from peft_lab.engine.simulate import simulate, simulate_config
from peft_lab.methods import get_method
from peft_lab.methods.counting.count import count, count_config
from peft_lab.models.catalogue import resolve
from tests.cli.conftest import (
    Run,
    run,  # noqa: F401  a fixture
)
from tests.drawing.geometry import read
from tests.prose import facts

#: google/vit-base-patch16-224-in21k.
BASE: dict[str, Any] = {
    "architectures": ["ViTModel"], "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0, "hidden_size": 768, "image_size": 224, "initializer_range": 0.02,
    "intermediate_size": 3072, "layer_norm_eps": 1e-12, "model_type": "vit", "num_attention_heads": 12,
    "num_channels": 3, "num_hidden_layers": 12, "patch_size": 16, "qkv_bias": True,
}  # fmt: skip
FOOD = 101  # classes of food101


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "vit-base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BASE))
    return str(folder)


def test_the_shape_is_the_backbone_of_a_classifier(vit: str) -> None:
    shape = resolve(vit).shape
    assert (shape.kind, shape.total, shape.max_positions, shape.vocab) == (
        "vision",
        85_798_656,
        14 * 14 + 1,
        0,
    )
    assert {role: group.path.rpartition(".")[2] for role, group in shape.block.items()} == {
        "q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "up": "fc1", "down": "fc2",
    }  # fmt: skip
    (patches,) = (group for group in shape.groups if group.type == "Conv2d")
    assert (patches.in_features, patches.out_features) == (3 * 16 * 16, 768)


def test_lora_is_counted_as_pefts_guide_has_it(vit: str) -> None:
    """PEFT's docs, task_guides/lora_based_methods: 'trainable params: 667,493 || all params: 86,543,818' (rank 16 on
    queries and values, 101 classes of food, the head saved). PEFT counts its frozen copy of the head too; a model has
    one. An older version of the guide has 86466149 for all, without the copy."""
    found = count(vit, "lora", {"r": 16}, FOOD)
    assert found.formula == found.trainable == 12 * 2 * 16 * (768 + 768)
    assert found.head == FOOD * (768 + 1)
    assert found.trainable + found.head == found.stored_parameters == 667_493
    assert found.total + 2 * found.head == 86_543_818
    assert found.total + found.head == 86_466_149


def test_a_config_that_saves_the_head_is_one_for_classification(vit: str) -> None:
    config = {"peft_type": "LORA", "r": 16, "target_modules": ["q_proj", "v_proj"]}
    bare, whole = count_config(vit, config), count_config(vit, {**config, "modules_to_save": ["classifier"]})
    assert bare.trainable == whole.trainable == 589_824
    assert (bare.head, whole.head) == (0, 2 * (768 + 1))
    asked = ConfigRequest(vit, {**config, "modules_to_save": ["classifier"]}, StepSetting(2, 197))
    lora = simulate(StepRequest(vit, "lora", {"r": 16}, StepSetting(2, 197)))
    assert simulate_config(asked).peak_bytes == lora.peak_bytes


#: The same guide's other types: what is trained with the head, and all that PEFT counts.
GUIDE = {
    "LOHA": ({"r": 16, "alpha": 16}, 1_257_317, 87_133_642),
    "LOKR": ({"r": 16, "alpha": 16}, 116_069, None),
    "ADALORA": (
        {"r": 8, "init_r": 12, "tinit": 200, "tfinal": 1000, "deltaT": 10, "total_step": 2000},
        520_325,
        None,
    ),
}


@pytest.mark.parametrize("kind", GUIDE)
def test_other_types_are_counted_as_that_guide_has_them(kind: str, vit: str) -> None:
    settings, trained, whole = GUIDE[kind]
    config = {"peft_type": kind, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["classifier"]}
    found = count_config(vit, {**config, **settings})
    head = FOOD * (768 + 1)
    assert found.trainable + head == trained
    assert whole is None or found.total + 2 * head == whole


def test_a_pooler_that_targets_reach_is_said(vit: str) -> None:
    """PEFT on ViTModel itself trains a pair for its pooler too, which no classifier has."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModel

    config: dict[str, Any] = {"peft_type": "LORA", "r": 3, "target_modules": "all-linear"}
    found = count_config(vit, config)
    with torch.device("meta"):
        whole = get_peft_model(AutoModel.from_config(AutoConfig.from_pretrained(vit)), LoraConfig(**config))
    trained = sum(weight.numel() for weight in whole.parameters() if weight.requires_grad)
    assert trained == found.trainable + 3 * (768 + 768)
    assert found.note and "768 by 768" in found.note
    assert count(vit, "lora", {"target_modules": ("all-linear",)}).note
    for other in ({"target_modules": ["q_proj"]}, {"modules_to_save": ["classifier"]}):
        assert count_config(vit, {**config, **other}).note is None
    assert count(vit, "lora", {"target_modules": ("all-linear",)}, FOOD).note is None


@pytest.mark.sampled(6)
@pytest.mark.parametrize("method", ["lora", "qlora", "adapters", "ia3", "bitfit", "full"])
def test_a_step_is_simulated_on_images(method: str, vit: str) -> None:
    small, large = (
        simulate(StepRequest(vit, method, {}, StepSetting(rows, 197), checkpointing=False)).peak_bytes
        for rows in (2, 8)
    )
    kept = simulate(StepRequest(vit, method, {}, StepSetting(8, 197), checkpointing=True)).peak_bytes
    assert small < large and kept < large
    with pytest.raises(BadInput, match=facts("224 × 224", 197, 64)):
        simulate(StepRequest(vit, method, {}, StepSetting(2, 64)))


def test_a_block_is_drawn_over_patches(vit: str) -> None:
    shape, method = resolve(vit).shape, get_method("lora")
    for layout in ("wide", "narrow"):
        drawn = draw_block(shape, method.parts(shape, method.complete(shape, {})), layout=layout)
        picture = read(drawn.svg)
        assert picture.problems() == []
        assert "projection" in drawn.svg and "patch vectors" in drawn.svg and PATCHES[1] in drawn.svg


def test_the_command_line_takes_it(vit: str, run: Run) -> None:  # noqa: F811
    rows = {row["method"]: row for row in run("count", "--model", vit, "--labels", "101", "--json").document}
    assert set(rows) == {"full", "lora", "qlora", "adapters", "ia3", "bitfit"}
    assert all(row["trainable"] == row["formula"] and row["head"] == 77_669 for row in rows.values())
    told = run("memory", "--model", vit, "--batch", "4", "--method", "lora").stdout
    assert "4 × images of 224 × 224 pixels" in " ".join(told.split())
    refused = {
        ("memory", "--batch", "4", "--seq", "64", "--method", "lora"): "64 tokens does not apply",
        ("memory", "--batch", "4", "--method", "lora", "--fits", "a100-80"): "have one length",
        ("memory", "--batch", "4", "--method", "lora", "--gpu", "l40s"): "no times for models of images",
        (
            "memory",
            "--batch",
            "4",
            "--method",
            "lora",
            "--generate",
            "2,2",
        ): "reads images and writes no text",
        ("questions",): "Practice supports only text models",
        ("claims",): "the check of claims supports only text models",
        ("count", "--method", "lora", "--labels", "0"): "--labels must be from 1",
    }
    for (command, *rest), said in refused.items():
        assert said in run(command, "--model", vit, *rest).refused()
