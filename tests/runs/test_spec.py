from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import AssetError, BadInput, UnknownName, Unsupported
from peft_lab.methods.base import STEPS
from peft_lab.runs.spec import RunRequest, RunSpec

GOOD: dict[str, Any] = {"model": "minilm-l6", "method": "lora", "task": "sentiment"}


@given(
    steps=st.integers(),
    rate=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    rank=st.integers(),
    targets=st.lists(st.text()).map(tuple),
    probes=st.lists(st.text()).map(tuple),
)
def test_a_spec_survives_json(
    steps: int, rate: float | None, rank: int, targets: tuple[str, ...], probes: tuple[str, ...]
) -> None:
    values = {"r": rank, "target_modules": targets}
    spec = RunRequest("m", "lora", "t", values=values, steps=steps, learning_rate=rate, probes=probes)
    assert RunRequest.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    full = RunSpec(**{**vars(spec), "batch": 2, "learning_rate": 0.1, "max_length": 9, "eval_rows": 0})
    assert RunSpec.from_dict(json.loads(json.dumps(full.to_dict()))) == full


def test_unknown_or_missing_settings_are_named() -> None:
    with pytest.raises(BadInput, match="field 'stepz'"):
        RunRequest.from_dict({**GOOD, "stepz": 3})
    with pytest.raises(BadInput, match="task"):
        RunRequest.from_dict({"model": "a", "method": "b"})


@pytest.mark.weights
@pytest.mark.parametrize(
    ("model", "method", "task", "steps"),
    [
        ("smollm2-135m", "lora", "json", 25),
        ("smollm2-135m", "qlora", "json", 25),
        ("smollm2-135m", "adapters", "json", 25),
        ("smollm2-135m", "ia3", "json", 25),
        ("smollm2-135m", "prefix", "json", STEPS),
        ("smollm2-135m", "prompt", "json", STEPS),
        ("minilm-l6", "lora", "sentiment", STEPS),
    ],
)
def test_a_run_is_as_short_as_its_methods_loss_allows(model: str, method: str, task: str, steps: int) -> None:
    assert RunRequest(model, method, task).complete().steps == steps
    assert RunRequest(model, method, task, steps=7).complete().steps == 7


def test_check_fills_in_every_default() -> None:
    full = RunRequest(**GOOD).complete()
    assert full.batch == 32 and full.learning_rate and full.max_length and full.eval_rows >= 800
    assert full.values["target_modules"] == ("query", "value")
    assert full.complete() == full


@pytest.mark.weights
@pytest.mark.parametrize(
    ("changes", "kind", "field", "words"),
    [
        ({"model": "minilm"}, UnknownName, "model", "minilm-l6"),
        ({"model": "gpt2"}, BadInput, "model", "only the shape"),
        ({"task": "sentimental"}, UnknownName, "task", "sentiment"),
        ({"task": "json"}, BadInput, "task", "a decoder"),
        ({"model": "smollm2-135m"}, BadInput, "task", "json"),
        ({"task": "own"}, BadInput, "own_data", "file"),
        ({"method": "prefix"}, Unsupported, "model", "cache"),
        ({"values": {"r": 0}}, BadInput, "r", "1 to"),
        ({"values": {"target_modules": ("query", "valu")}}, BadInput, "target_modules", "value"),
        ({"steps": 0}, BadInput, "steps", "1 to"),
        ({"steps": 2.5}, BadInput, "steps", "whole"),
        ({"learning_rate": 0.0}, BadInput, "learning_rate", "above"),
        ({"learning_rate": float("nan")}, BadInput, "learning_rate", "number"),
        ({"max_length": 513}, BadInput, "max_length", "8 to 512"),
        ({"method": "prompt", "max_length": 500}, BadInput, "max_length", "8 to 492"),
        ({"schedule": "step"}, BadInput, "schedule", "cosine"),
        ({"warmup": 1.0}, BadInput, "warmup", "0.9"),
        ({"probes": ("  ",)}, BadInput, "probes", "characters"),
        ({"probes": ("x",) * 9}, BadInput, "probes", "at most"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(
    changes: dict[str, Any], kind: type[BadInput], field: str, words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        RunRequest(**{**GOOD, **changes}).complete()
    assert caught.value.field == field


def test_missing_weights_name_the_command(own_home: Path) -> None:
    with pytest.raises(AssetError, match="peft_lab fetch"):
        RunRequest(**GOOD).complete()


@pytest.mark.weights
def test_own_file_is_read_and_its_faults_are_said(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "text,label\n" + "".join(f"sentence number {n},{'good' if n % 2 else 'bad'}\n" for n in range(20))
    )
    full = RunRequest(**{**GOOD, "task": "own", "own_data": str(path)}).complete()
    assert full.task_object().labels == ("bad", "good")
    path.write_text("text,label\n")
    with pytest.raises(BadInput, match="rows"):
        RunRequest(**{**GOOD, "task": "own", "own_data": str(path)}).complete()
