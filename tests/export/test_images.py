"""A run on images is repeated by its script, and its card loads what it saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab import export
from peft_lab.runs.spec import RunRequest
from tests.models import homemade

from .conftest import assert_loads, finish
from .test_script import assert_clean, assert_same, assert_same_adapter, carry_out


@pytest.mark.parametrize("slug", ["lora", "bitfit", pytest.param("adapters", marks=pytest.mark.slow)])
def test_a_run_on_images_is_repeated(slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path / "home"))
    folder, images = homemade.folder("vit", tmp_path / "my-vit"), homemade.images(tmp_path / "images")
    run = finish(RunRequest(folder, slug, "own", {}, steps=3, batch=4, eval_rows=2, own_data=images))
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)
    if slug == "lora":
        assert_clean(tmp_path / "repeat.py")
    card = export.model_card(run)
    assert 'pipeline_tag: "image-classification"' in card and "16 × 16 pixels" in card
    assert_loads(run, card, Path(left["OUT"]))
