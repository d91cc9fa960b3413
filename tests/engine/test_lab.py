"""Simulated beside measured: the tracked step of a real run, on the real weights, with the same tracker."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.core.errors import BadInput, Unsupported
from peft_lab.engine.lab import LabBatch, simulate_lab
from peft_lab.engine.request import StepRequest
from peft_lab.methods import get_method
from peft_lab.models import loading
from peft_lab.models.catalogue import resolve
from peft_lab.models.heads import task_type

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
    import torch

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
    import torch

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


def test_contradictions_are_refused() -> None:
    with pytest.raises(BadInput):
        LabBatch(2, 10, kept=11).check()
    with pytest.raises(BadInput):
        LabBatch(2, 10, kept=2, predicted=5).check()
