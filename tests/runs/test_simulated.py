"""The simulated counterpart of a measured step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.runs import admission
from peft_lab.training import batches
from peft_lab.training.batches import size_of


def batch(labels: list[Any], mask: list[list[int]]) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.zeros(len(mask), len(mask[0]), dtype=torch.long),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
    }


def test_the_size_of_a_batch() -> None:
    ignored = batches.IGNORED
    classified = size_of(batch([1, 0], [[1, 1, 1], [1, 1, 0]]))
    assert classified == {"rows": 2, "length": 3, "padded": True, "kept": 0, "predicted": 0, "apart": False}
    said = [[ignored, 5, ignored, 6, ignored], [ignored, ignored, 7, 8, ignored]]
    written = size_of(batch(said, [[1] * 5, [1] * 5]))
    assert written == {"rows": 2, "length": 5, "padded": False, "kept": 3, "predicted": 4, "apart": False}
    assert set(written) == {*admission.SIMULATED_BATCH, "apart"}, "which runs of older versions do not say"


def record(**memory: Any) -> dict[str, Any]:
    spec = {
        "model": "minilm-l6",
        "method": "lora",
        "task": "sentiment",
        "values": {"r": 4, "target_modules": ["query"]},
    }
    return {"memory": memory or None, "spec": spec, "dtype": "float32", "device": "cpu"}


def test_a_run_without_a_measured_step_has_none() -> None:
    assert admission.peak_of_run(record()) is None
    assert admission.peak_of_run(record(process_peak_bytes=1)) is None


def test_the_peak_grows_with_the_batch() -> None:
    size = {"length": 16, "padded": True, "kept": 0, "predicted": 0}
    few, many = (admission.peak_of_run(record(rows=rows, **size)) for rows in (2, 32))
    assert few is not None
    assert many is not None
    assert few < many


def test_what_cannot_be_simulated_says_so() -> None:
    with pytest.raises(BadInput):
        admission.peak_of_run(record(rows=2, length=4, padded=True, kept=9, predicted=0))
