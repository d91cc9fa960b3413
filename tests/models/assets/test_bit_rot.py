"""Bytes that change on the disk while size and time stay: found before anything is learned from them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from peft_lab.core.errors import AssetError
from peft_lab.models import loading
from peft_lab.models.assets import fetching
from peft_lab.models.assets import store as assets
from peft_lab.models.assets.fetching import sha256
from peft_lab.runs import kept, store
from peft_lab.runs.spec import RunRequest
from tests.cli.conftest import (
    Run,
    run,  # noqa: F401  fixtures
    run_process,  # noqa: F401  fixtures
)

pytestmark = pytest.mark.weights
WEIGHTS = "models/minilm-l6/model.safetensors"
SENTENCES = "data/sentences/movieReviewSnippets_GroundTruth.txt"
TRAIN = ("train", "-m", "minilm-l6", "--method", "bitfit", "--task", "sentiment", "--steps", "2", "--batch", "4",
         "--eval-rows", "4")  # fmt: skip


@pytest.fixture
def copied(assets_home: Path, own_home: Path) -> Path:
    """A lab folder with its own copy of MiniLM and the sentences, which a test may damage."""
    for part in ("models/minilm-l6", "data/sentences"):
        shutil.copytree((assets_home / part).resolve(), own_home / part, copy_function=shutil.copy2)
    return own_home


def rot(file: Path) -> None:
    """Flip one bit in the middle, and leave size and times as they were."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(before.st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(before.st_size // 2)
        stream.write(bytes([byte ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.parametrize("part", [pytest.param(WEIGHTS, marks=pytest.mark.slow), SENTENCES])
def test_nothing_is_trained_on_damaged_bytes(copied: Path, run_process: Run, part: str) -> None:  # noqa: F811
    rot(copied / part)
    done = run_process(*TRAIN, "--json")
    assert done.status == 1
    assert "Traceback" not in done.stderr
    told = done.stderr.strip().splitlines()[-1]
    assert "damaged" in told and Path(part).name in told and "peft_lab fetch" in told
    assert not [each for each in store.runs() if each.view().losses]
    # counting reads no weights, and says what it said before
    assert (
        run_process("count", "-m", "minilm-l6", "--method", "bitfit", "--json").document[0]["trainable"] > 0
    )


def test_doctor_says_present_and_with_verify_what_every_byte_says(copied: Path, run: Run) -> None:  # noqa: F811
    def checks(*options: str) -> dict[str, tuple[bool, str]]:
        found = run("doctor", "--json", *options).document["checks"]
        return {check["name"]: (check["ok"], check["detail"]) for check in found}

    title = assets.ASSETS["minilm-l6"].title
    assert checks("--verify")[title][1].startswith("every byte verified")
    rot(copied / WEIGHTS)
    ok, detail = checks()[title]
    assert ok and detail.startswith("present") and "verified" not in detail
    ok, detail = checks("--verify")[title]
    assert not ok and "model.safetensors" in detail and "peft_lab fetch minilm-l6" in detail
    # what one process found, every other knows without hashing
    assert not checks()[title][0]
    with pytest.raises(AssetError, match="damaged"):
        assets.path("minilm-l6")


def test_each_process_hashes_once_and_a_changed_file_anew(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def recorded(file: Path) -> str:
        read.append(file.name)
        return sha256(file)

    monkeypatch.setattr(fetching, "sha256", recorded)
    loading.load_tokenizer(str(copied / "models/minilm-l6"))
    assert read.count("model.safetensors") == 1
    loading.load_tokenizer(str(copied / "models/minilm-l6"))
    assert read.count("model.safetensors") == 1
    rot(copied / WEIGHTS)
    with pytest.raises(AssetError, match=r"model\.safetensors"):
        loading.load_base("minilm-l6", num_labels=2)
    assert read.count("model.safetensors") == 2


def test_sentences_are_checked_though_they_were_read_before(copied: Path) -> None:
    spec = RunRequest("minilm-l6", "bitfit", "sentiment")
    spec.complete()
    rot(copied / SENTENCES)
    with pytest.raises(AssetError, match="movieReviewSnippets"):
        spec.complete()


def test_a_lab_folder_that_cannot_be_written_to_is_checked_as_well(copied: Path) -> None:
    rot(copied / WEIGHTS)
    (copied / ".damaged-minilm-l6.json").mkdir()  # nothing can be noted
    with pytest.raises(AssetError, match="damaged"):
        assets.verified("minilm-l6")


def test_the_hashes_of_a_run_are_those_of_its_files(copied: Path, tmp_path: Path) -> None:
    spec = RunRequest("minilm-l6", "bitfit", "sentiment").complete()
    from peft_lab.models.catalogue import get_model

    found = kept.input_hashes(spec, spec.task_object(), get_model("minilm-l6"))
    assert found["minilm-l6"]["model.safetensors"] == sha256(copied / WEIGHTS)
    assert found["sentences"] == {Path(SENTENCES).name: sha256(copied / SENTENCES)}
    own = tmp_path / "mine.csv"
    own.write_text("text,label\n" + "".join(f"sentence {n},{'ab'[n % 2]}\n" for n in range(20)))
    spec = RunRequest("minilm-l6", "bitfit", "own", own_data=str(own)).complete()
    found = kept.input_hashes(spec, spec.task_object(), get_model("minilm-l6"))
    assert found["own"] == {"mine.csv": sha256(own)}


@pytest.mark.parametrize(
    "text",
    [
     "", "null", "[]", "3", "{", '{"sha256": null}', '{"files": 3}', "\0", "[" * 100_000,
     '{"sha256": "PIN", "files": []}',
     '{"sha256": "PIN", "files": {"a": null}}', '{"sha256": "PIN", "files": {"../../x": {"bytes": 1, "mtime_ns": 1, '
     '"sha256": "x"}}}', '{"sha256": "PIN", "files": {"a": {"bytes": "1", "mtime_ns": 1, "sha256": 3}}}', "folder"],
)  # fmt: skip
def test_a_malformed_provenance_is_an_asset_that_is_not_here(own_home: Path, text: str) -> None:
    place = own_home / "models/minilm-l6/provenance.json"
    place.parent.mkdir(parents=True)
    if text == "folder":
        place.mkdir()
    else:
        place.write_text(text.replace("PIN", assets.ASSETS["minilm-l6"].sha256))
    assert not any(found.present for found in assets.status())
    with pytest.raises(AssetError, match="peft_lab fetch"):
        assets.path("minilm-l6")
