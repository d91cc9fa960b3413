"""``check``: each stage of an adapter's life, on adapters that fail at one of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from peft_lab.interview.clinic.stages import check
from peft_lab.models.catalogue import get_model
from peft_lab.takeaway.ship.adapter import CONFIG, STATE, WEIGHTS, from_files

BASE = get_model("smollm2-135m")
LOG = {"log_history": [{"step": at, "loss": 2.0 - at / 20} for at in range(1, 21)]}
STAGES = ("trained", "saved", "loads", "merges", "serves")


def stages(
    zero: bool = False, drop: str = "", rank: int = 4, width: int = 576, log: bool = True, **config: Any
) -> dict[str, tuple[bool | None, str]]:
    tensors = {}
    for layer in range(30):
        path = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{path}.lora_A.weight"] = np.full((rank, width), 0.01, np.float32)
        tensors[f"{path}.lora_B.weight"] = np.full((576, rank), 0.0 if zero else 0.1, np.float32)
    made = {
        "peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj"],
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct", **config,
    }  # fmt: skip
    kept = {name: tensor for name, tensor in tensors.items() if not drop or drop not in name}
    files = {CONFIG: json.dumps(made).encode(), WEIGHTS: save(kept)}
    files |= {STATE: json.dumps(LOG).encode()} if log else {}
    found = check(from_files("made", files), BASE)
    assert tuple(stage.stage for stage in found) == STAGES
    for stage in found:
        assert stage.evidence and (stage.fix or stage.ok is not False), stage.stage
    return {stage.stage: (stage.ok, stage.evidence) for stage in found}


def test_a_healthy_adapter_passes_every_stage() -> None:
    found = stages()
    assert [ok for ok, _ in found.values()] == [True] * 5
    assert "60 tensors" in found["saved"][1] and "30 modules" in found["loads"][1]


@pytest.mark.parametrize(
    ("how", "stage", "ok", "figure"),
    [
        ({"log": False}, "trained", None, ""),
        ({"zero": True}, "saved", False, ""),
        ({"width": 512}, "loads", False, "576"),
        ({"drop": "layers.7."}, "loads", False, "layers.7.self_attn.q_proj"),
        ({"peft_type": "PROMPT_TUNING"}, "merges", False, ""),
        ({"peft_type": "BITFIT"}, "loads", False, "BITFIT"),
    ],
)
def test_an_adapter_fails_at_its_stage(how: dict[str, Any], stage: str, ok: bool | None, figure: str) -> None:
    found = stages(**how)
    assert found[stage][0] is ok
    assert figure in found[stage][1]
