"""A model of one's own that reads images, on the command line from start to end; what cannot work is refused first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from peft_lab.runs import store
from tests.cli.conftest import Run
from tests.models import homemade
from tests.prose import says

STEPS = 3
BATCH = 20  # more than the 12 images to train on: some are in a batch twice


@pytest.fixture
def vit(tmp_path: Path) -> str:
    return homemade.folder("vit", tmp_path / "my-vit")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return Path(homemade.images(tmp_path / "images"))


@pytest.mark.slow
def test_from_a_folder_of_images_to_a_script(
    run: Run, vit: str, images: Path, own_home: Path, tmp_path: Path
) -> None:
    asked = ("--method", "lora", "--own", str(images), "--steps", str(STEPS), "--batch", str(BATCH))
    trained = run("train", "--model", vit, *asked, "--json").document
    assert trained["status"] == "done" and trained["metric"]["rows"] == 4
    assert trained["memory"]["rows"] == BATCH and trained["simulated_peak_bytes"] > 0
    assert (
        run("count", "--model", vit, "--method", "lora", "--json").document[0]["trainable"]
        == (trained["trainable"])
    )
    assert "16 × 16 pixels" in run("memory", "--model", vit, "--method", "lora", "--batch", "4").stdout
    assert "--batch" in run("memory", "--model", vit, "--method", "lora").refused()
    shown = run("runs", trained["run_id"])
    assert shown.status == 0 and says(shown.stdout, "accuracy", "4 held-out")
    script = tmp_path / "repeat.py"
    assert run("export", trained["run_id"], "--out", str(script)).status == 0
    head = script.read_text().split('"""')[1]
    assert "pillow" in head and says(" ".join(head.split()), 12, "4 held out", "zip")


def _broken(images: Path) -> None:
    (images / "blue/3.png").write_bytes((images / "blue/3.png").read_bytes()[:200])


def _one_class(images: Path) -> None:
    shutil.rmtree(images / "blue")


def _no_class(images: Path) -> None:
    (images / "loose.png").write_bytes((images / "blue/3.png").read_bytes())


def _empty(images: Path) -> None:
    for name in ("red", "blue"):
        shutil.rmtree(images / name)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_broken, "'blue/3.png' is damaged"),
        (_one_class, "folder 'red'"),
        (_no_class, "'loose.png'"),
        (_empty, "contains no images"),
    ],
)
def test_images_that_cannot_be_trained_on(
    spoil: Callable[[Path], None], said: str, run: Run, vit: str, images: Path, own_home: Path
) -> None:
    spoil(images)
    assert said in run("train", "--model", vit, "--method", "lora", "--own", str(images)).refused()
    assert not (own_home / "runs").exists()


def test_what_does_not_belong_together(
    run: Run, vit: str, images: Path, own_home: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("text,label\n" + "".join(f"text {at},{'ab'[at % 2]}\n" for at in range(12)))
    reader = homemade.folder("bert", tmp_path / "my-bert")
    train = ("train", "--method", "lora", "--model")
    assert says(run(*train, vit, "--own", str(texts)).refused(), "digits", "images")
    assert "reads them" in run(*train, reader, "--own", str(images)).refused()
    assert "Remove the sentence" in run(*train, vit, "--own", str(images), "--probe", "a text").refused()
    assert "Images have no tokens" in run(*train, vit, "--own", str(images), "--preview").refused()
    assert not (own_home / "runs").exists() and store.runs() == []


def test_plan_and_choose_know_texts_only(run: Run, vit: str) -> None:
    assert says(run("plan", "--model", vit, "--gpu", "24GB").refused(), "Plan", "only text")
    choose = run("recommend", "--answer", f"model={vit}", "--answer", "device=24GB")
    assert says(choose.refused(), "Choose", "only text")
