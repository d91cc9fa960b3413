"""Simulated beside measured: the tracked step of a real run, on real weights, with the same tracker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core.errors import Unsupported
from peft_lab.engine import account
from peft_lab.engine.build import Blueprint
from peft_lab.engine.lab import LabBatch, simulate_lab
from peft_lab.engine.loading import LOADERS
from peft_lab.engine.loading import loading as loading_loading
from peft_lab.engine.request import StepRequest, StepSetting, largest
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import simulate
from peft_lab.engine.tracker import MemoryRecorder, recording
from peft_lab.methods import get_method
from peft_lab.models import loading, meta
from peft_lab.models.catalogue import get_model, resolve
from peft_lab.models.heads import task_type
from peft_lab.models.quantise import Quantization
from tests.engine import small

pytestmark = pytest.mark.filterwarnings("ignore")

# -- Simulated beside measured: the tracked step of a real run, on the real weights, with the same tracker.

METHODS = ("full", "lora", "qlora", "prefix", "prompt", "ptuning", "adapters", "ia3", "bitfit")


def _measure(
    model: str,
    method: str,
    rows: int,
    length: int,
    completion: int,
    attention: str,
    given: dict[str, Any] | None = None,
    dtype: Any = None,
) -> tuple[int, str, int, int]:
    from peft_lab.runs import measuring
    from peft_lab.training import batches
    from peft_lab.training.step import Masters, cast_added, train_step

    entry, spec = resolve(model), get_method(method)
    encoder = entry.kind == "encoder"
    values = spec.require(entry.shape, given or {})
    how = spec.quantization(values)
    base = loading.load_base(model, 2 if encoder else None, how, dtype, attention=attention)
    start, kind = loading.decoder_start(entry), "SEQ_CLS" if encoder else task_type(entry.kind)
    adapted: Any = spec.apply(base.model, entry.shape, values, kind)
    cast_added(adapted, base.dtype)
    masters = Masters(adapted)
    optimizer = torch.optim.AdamW(masters.parameters, lr=1e-4, fused=True)
    lengths = [length - 3 * (row % 2) for row in range(rows)]
    label = 1 if encoder else -100
    encoded = [batches.Encoded((5,) * own, own - completion, label, start) for own in lengths]
    adapted.train()
    for step in range(2):
        batch = batches.collate(encoded, 0, "cpu")
        tracker = (
            measuring.StepTracker(adapted, masters, optimizer, entry.kind, entry.shape.num_layers)
            if step
            else None
        )
        with measuring.tracking(tracker) as phase:
            train_step(adapted, batch, batches.loss_of, masters, optimizer, 1.0, phase)
    assert tracker is not None
    labels = batch["labels"]
    kept = 0 if encoder else int((labels != -100).any(dim=0).sum())
    predicted = 0 if encoder else int((labels != -100).sum())
    return tracker.result()["peak_bytes"], str(base.dtype).removeprefix("torch."), kept, predicted


@pytest.mark.sampled(28)
@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("model", "rows", "length", "completion", "attention"),
    [
        ("minilm-l6", 16, 32, 0, "eager"),
        ("smollm2-135m", 4, 32, 12, "eager"),
        ("smollm2-135m", 2, 40, 12, "sdpa"),
        ("flan-t5-small", 4, 32, 12, "eager"),
        ("flan-t5-small", 3, 40, 30, "eager"),  # more to write than to read
    ],
)
def test_simulated_is_measured_within_one_percent(
    model: str, method: str, rows: int, length: int, completion: int, attention: str
) -> None:
    try:
        measured, dtype, kept, predicted = _measure(model, method, rows, length, completion, attention)
    except Unsupported as refused:
        pytest.skip(str(refused))
    apart = resolve(model).kind == "seq2seq"
    length -= completion if apart else 0
    batch = LabBatch(rows, length, kept=kept, predicted=predicted, apart=apart, implementation=attention)
    found = simulate_lab(StepRequest(model, method, {}, batch, dtype))
    assert found.peak_bytes == pytest.approx(measured, rel=0.01)


@pytest.mark.sampled(5)
@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", ["float32", "bfloat16"])
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_what_a_4_bit_base_computes_in_is_measured_too(base: str, compute: str) -> None:
    values = {"bnb_4bit_compute_dtype": compute}
    measured, dtype, kept, predicted = _measure(
        "minilm-l6", "qlora", 16, 32, 0, "eager", values, getattr(torch, base)
    )
    batch = LabBatch(16, 32, kept=kept, predicted=predicted, implementation="eager")
    found = simulate_lab(StepRequest("minilm-l6", "qlora", values, batch, dtype))
    assert found.peak_bytes == pytest.approx(measured, rel=0.002)


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model", "rows", "completion"), [("minilm-l6", 16, 0), ("smollm2-135m", 4, 12)])
def test_an_8_bit_base_is_measured_too(model: str, rows: int, completion: int) -> None:
    """What is left out: inputs beyond the threshold, which depend on the data."""
    values = {"load_in_8bit": True}
    measured, dtype, kept, predicted = _measure(model, "qlora", rows, 32, completion, "eager", values)
    batch = LabBatch(rows, 32, kept=kept, predicted=predicted, implementation="eager")
    found = simulate_lab(StepRequest(model, "qlora", values, batch, dtype))
    assert found.peak_bytes == pytest.approx(measured, rel=0.01)


# -- What the device and main memory hold while a base is loaded: against a real load, simulations and measured one


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
    found = loading_loading(shape, "bfloat16", own=Quantization(4, "nf4", True, "bfloat16"))
    mapped = 4 * 256 * 1024
    assert found.device_bytes == pytest.approx(peak - mapped, rel=0.05)


def test_first_ranks_were_measured_to_hold_what_is_said() -> None:
    """A Llama of 1,008 MB in float32 (bench/RESULTS.md) on two: the first process holds it, as every one did before."""
    every, first, other = json.loads(RESULTS.read_text("utf-8"))["rows"][0][1:]
    shape = get_model("llama-3.2-1b").shape
    alone, each = (loading_loading(shape, "float32", how=Sharding(kind, 2)) for kind in ("fsdp2", "tp"))
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
    found = loading_loading(shape, dtype)
    step = simulate(StepRequest("smollm2-135m", "lora", {}, StepSetting(1, 8), dtype))
    weights = step.parts["weights"] + step.parts["quantisation"]
    assert found.loader == loader in LOADERS
    matrix = 2 * 1536 * 576 * (2 if dtype == "int8" else dtype == "nf4")
    assert found.device_bytes - matrix == pytest.approx(weights, rel=0.01)
    held = weights if loader == "main-memory" else 2 * shape.vocab * shape.hidden
    assert found.main_bytes == pytest.approx(held, rel=0.001)
