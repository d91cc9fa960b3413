"""Intruders of a run, from its saved adapter on the base that it started from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.methods import get_method
from peft_lab.runs import store
from peft_lab.studies import blending
from tests.methods import tiny

pytestmark = pytest.mark.filterwarnings("ignore")
SETTINGS = {"r": 2, "target_modules": ("q_proj", "v_proj")}


def saved(
    folder: Path, scale: float, monkeypatch: pytest.MonkeyPatch, name: str = "llama", **values: Any
) -> None:
    """A run that seems to have ended: its adapter in ``folder``, with B drawn at this scale."""
    import torch

    chosen = SETTINGS | values
    model: Any = tiny.apply(get_method("lora"), name, chosen)
    torch.manual_seed(3)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if ".lora_B." in path:
                parameter.normal_(std=scale)
    get_method("lora").save(model, folder)
    spec = SimpleNamespace(method="lora", task_object=lambda: None)
    monkeypatch.setattr(store, "get", lambda identity: SimpleNamespace(folder=folder, spec=spec))
    monkeypatch.setattr(blending, "kept_adapter", lambda path: path)
    monkeypatch.setattr(
        "peft_lab.runs.course.fresh_base", lambda spec, task: SimpleNamespace(model=tiny.build(name))
    )


def test_a_correction_that_is_nothing_brings_no_intruder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 0.0, monkeypatch)
    rows = blending.compare_intruders("any")
    assert {row["module"].rpartition(".")[2] for row in rows} == {"q_proj", "v_proj"}
    assert all(row["found"] == () for row in rows)
    assert all(min(row["nearest"]) > 0.99 for row in rows)


def test_a_strong_random_correction_is_seen_in_every_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 30.0, monkeypatch)
    rows = blending.compare_intruders("any")
    assert all(row["nearest"][0] < 0.9 for row in rows), "what was added is the strongest direction, and new"
    assert any(1 in row["found"] for row in rows)
    assert all(row["tuned"][0] > 2 * row["pretrained"][0] for row in rows)


def test_maps_that_are_stored_the_other_way_round_are_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 0.0, monkeypatch, "gpt2", target_modules=("c_attn",))
    (first, *_) = blending.compare_intruders("any")
    assert first["shape"][0] == 3 * first["shape"][1], "queries, keys and values are the outputs"
    assert first["found"] == ()
