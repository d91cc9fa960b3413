"""The trajectories that ship are whole, small, of a real run, and of the model that the method's page begins with."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.drawing.trajectory import format
from peft_lab.drawing.trajectory.format import FILE_BYTES, STATES
from peft_lab.models.catalogue import get_model
from peft_lab.runs.spec import RunSpec

ROOT = Path(__file__).parents[3]
ALL_BYTES = 3_000_000


def test_together_they_are_small() -> None:
    assert len(format.shipped_names()) > 8
    assert sum(file.stat().st_size for file in format.SHIPPED_DATA.glob("*.json")) <= ALL_BYTES


@pytest.mark.parametrize("name", format.shipped_names())
def test_a_shipped_trajectory_is_of_a_whole_run(name: str) -> None:
    found, (slug, _, model) = format.shipped(name), name.partition(".")
    assert (format.SHIPPED_DATA / f"{name}.json").stat().st_size <= FILE_BYTES
    assert (
        found.method == slug and found.ended and found.run and re.match(r"20\d\d-\d\d-\d\dT", found.recorded)
    )
    spec = RunSpec.from_dict(found.spec)
    assert found.steps[0] == 0 and found.steps[-1] == spec.steps == len(found.curve.loss)
    assert len(found.steps) <= STATES
    if get_model(spec.model).kind == "vision":
        assert not found.answers, "it is asked no sentence"
    else:
        assert found.answers[0].step == 0 and found.answers[-1].step == spec.steps
    assert {"torch", "transformers", "peft"} <= set(found.versions) and found.machine["processor"]
    page = (ROOT / "pages" / f"{slug}.py").read_text("utf-8")
    assert spec.model == model or f'first_model="{spec.model}"' in page
    assert format.shipped_on(slug, spec.model) is found
    assert found.model.total == get_model(spec.model).shape.total
    assert sum(part.parameters for part in found.parts) == found.model.trainable
    assert all(math.isfinite(loss) for loss in found.curve.loss)
    assert any(part.tensors for part in found.parts)


def test_a_method_without_one_is_named() -> None:
    with pytest.raises(UnknownName, match="full"):
        format.shipped("full")
    assert format.shipped_on("full", "smollm2-135m") is None
    assert format.shipped_on("lora", "minilm-l6") is None


def test_a_damaged_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format, "SHIPPED_DATA", tmp_path)
    for content in ("{", json.dumps({"format": 1})):
        (tmp_path / "full.json").write_text(content, "utf-8")
        with pytest.raises(BadInput):
            format.shipped("full")
