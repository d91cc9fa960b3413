"""What the device and main memory hold while a base is loaded: against a real load, simulations and measured ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from peft_lab.engine import account
from peft_lab.engine.build import Blueprint
from peft_lab.engine.loading import LOADERS, loading
from peft_lab.engine.request import StepRequest, StepSetting, largest
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import simulate
from peft_lab.engine.tracker import MemoryRecorder, recording
from peft_lab.methods import get_method
from peft_lab.models import meta
from peft_lab.models.catalogue import get_model
from peft_lab.models.quantise import Quantization
from tests.engine import small

pytestmark = pytest.mark.filterwarnings("ignore")

RESULTS = Path(__file__).parents[2] / "bench/results/loading_split_models.json"


@pytest.mark.slow
def test_a_real_load_that_quantises_takes_as_much(tmp_path: Path) -> None:
    """transformers' own. The file is in float32: each tensor is cast as it comes, and its mapped original is seen."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = small.config("llama", 8)
    config.update({"hidden_size": 256, "intermediate_size": 1024, "head_dim": 64})
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path)
    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    recorder = MemoryRecorder("meta")
    with recording(recorder):
        AutoModelForCausalLM.from_pretrained(
            tmp_path, dtype=torch.bfloat16, quantization_config=how, device_map={"": "cpu"}
        )
    peak = largest(account.timeline(recorder.stop())).nbytes
    with meta.shapes_only():
        model = Blueprint(config, "causal-lm", None, torch.bfloat16).build()
    shape = meta.read_shape(model, config, "causal-lm", "small", "Small")
    found = loading(shape, "bfloat16", own=Quantization(4, "nf4", True, "bfloat16"))
    mapped = 4 * 256 * 1024
    assert found.device_bytes == pytest.approx(peak - mapped, rel=0.05)


def test_first_ranks_were_measured_to_hold_what_is_said() -> None:
    """A Llama of 1,008 MB in float32 (bench/RESULTS.md) on two: the first process holds it, as every one did before."""
    every, first, other = json.loads(RESULTS.read_text("utf-8"))["rows"][0][1:]
    shape = get_model("llama-3.2-1b").shape
    alone, each = (loading(shape, "float32", how=Sharding(kind, 2)) for kind in ("fsdp2", "tp"))
    assert (alone.loader, alone.processes) == ("first-rank", 1)
    assert (each.loader, each.processes, each.main_bytes) == ("every-rank", 2, alone.main_bytes)
    assert 1008 * alone.main_bytes / (4 * shape.total) == pytest.approx(first, rel=0.01) == every
    assert other > 1008 / 2  # its share, and what is left of the parts in passing


@pytest.mark.parametrize(
    ("dtype", "loader"),
    [("bfloat16", "main-memory"), ("float32", "main-memory"), ("nf4", "device-map"), ("int8", "device-map")],
)
def test_what_is_loaded_is_what_the_step_has(dtype: str, loader: str) -> None:
    shape = get_model("smollm2-135m").shape
    found = loading(shape, dtype)
    step = simulate(StepRequest("smollm2-135m", "lora", {}, StepSetting(1, 8), dtype))
    weights = step.parts["weights"] + step.parts["quantisation"]
    assert found.loader == loader in LOADERS
    matrix = 2 * 1536 * 576 * (2 if dtype == "int8" else dtype == "nf4")
    assert found.device_bytes - matrix == pytest.approx(weights, rel=0.01)
    held = weights if loader == "main-memory" else 2 * shape.vocab * shape.hidden
    assert found.main_bytes == pytest.approx(held, rel=0.001)


def test_qloras_own_knobs_decide() -> None:
    shape, qlora = get_model("llama-3.1-8b").shape, get_method("qlora")
    double, single = (
        loading(
            shape, "bfloat16", own=qlora.quantization(qlora.require(shape, {"bnb_4bit_use_double_quant": on}))
        )
        for on in (True, False)
    )
    assert single.device_bytes > double.device_bytes
    split = loading(
        shape, "bfloat16", own=qlora.quantization(qlora.require(shape, {})), how=Sharding("fsdp2", 4)
    )
    assert split.loader == "every-rank" and split.device_bytes < double.device_bytes
