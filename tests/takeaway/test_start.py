"""A run's adapters as a folder of the adapters library, and such a folder scored, trained on, and in a script."""

from __future__ import annotations

import io
import json
import runpy
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peft_lab import takeaway
from peft_lab.core.errors import BadInput
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.runs import respond
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.takeaway import bundle
from tests.takeaway.conftest import KINDS, Train, finish
from tests.takeaway.test_script import assert_same, assert_same_adapter, carry_out

FOLDER = {"encoder": "seq_bn", "causal-lm": "par_bn", "seq2seq": "double_seq_bn"}
VALUES = {"placement": "seq_bn", "bottleneck": 6, "nonlinearity": "relu", "init_std": 0.3}


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["repeat.py"])


def trained_on(train: Train, kind: str, folder: Path, pickled: bool = False) -> tuple[Run, Run]:
    """A run that is saved as the adapters library saves it, and one that starts from there."""
    first = train(kind, "adapters", {**VALUES, "placement": FOLDER[kind]}, learning_rate=0.02, seed=4)
    bundle.write_library_folder(first, folder)
    if pickled:
        for safe in (library_files.WEIGHTS[0], library_files.HEAD[0]):
            (folder / safe).unlink(missing_ok=True)
    spec = first.spec
    asked = RunRequest(
        spec.model, "adapters", spec.task, values=respond.opened_values(folder, spec.model),
        own_data=spec.own_data, start=str(folder), steps=3, batch=4, eval_rows=5, seed=1, learning_rate=0.02,
    )  # fmt: skip
    return first, finish(asked)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_scores_as_the_run_that_wrote_it_and_what_starts_from_it_is_repeated_to_the_last_digit(
    kind: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "theirs"
    first, run = trained_on(train, kind, folder, pickled=kind == "encoder")
    spec = first.spec
    found = respond.opened_scores(str(folder), spec.model, spec.task, spec.own_data, spec.eval_rows)
    after = first.view().after
    assert after is not None
    assert found["opened"]["metrics"] == pytest.approx(after.metrics)
    assert found["opened"]["loss"] == pytest.approx(after.loss, rel=1e-3)
    assert found["base"]["loss"] != pytest.approx(after.loss, rel=1e-3)
    shutil.rmtree(folder)  # the run's own copy is what counts
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)
    assert "| start | an adapter that the adapters library saved |" in takeaway.model_card(run)
    from_scratch = finish(RunRequest.from_dict({**run.spec.to_dict(), "start": None}))
    assert from_scratch.record()["loss"] != run.record()["loss"]


@pytest.mark.rest
def test_the_start_is_given_by_its_path_and_checked(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere: out of the zip of the run's adapter, another adapter, and none. Here: one that has changed since."""
    _, run = trained_on(train, "causal-lm", tmp_path / "theirs")
    with zipfile.ZipFile(io.BytesIO(takeaway.adapter_zip(run))) as archive:
        (tmp_path / "mine.zip").write_bytes(archive.read(f"{run.id}/start.zip"))
    (tmp_path / "repeat.py").write_text(takeaway.script(run).replace(str(run.folder), "/nowhere"), "utf-8")
    monkeypatch.chdir(tmp_path)

    def left(*given: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["repeat.py", *given])
        return runpy.run_path("repeat.py")

    assert left(str(tmp_path / "mine.zip"))["losses"] == run.record()["loss"]
    none = r"/nowhere/start\.zip is not on this machine: set ADAPTER to your copy"
    with pytest.raises(SystemExit, match=none):
        left()
    (tmp_path / "other.zip").write_bytes(b"another")
    with pytest.raises(SystemExit, match=r"other\.zip is not the adapter that the run started from"):
        left("other.zip")
    kept = Path(str(run.spec.start))
    with zipfile.ZipFile(kept, "a") as archive:
        archive.writestr("more", b"x")
    with pytest.raises(BadInput, match=r"start\.zip of '.*' has changed since the run started from it"):
        takeaway.script(run)
    kept.unlink()
    with pytest.raises(BadInput, match=r"start\.zip"):
        takeaway.script(run)


def test_what_a_folder_does_not_fit_is_refused(train: Train, tmp_path: Path) -> None:
    run = train("encoder", "adapters", VALUES)
    folder = tmp_path / "theirs"
    bundle.write_library_folder(run, folder)
    asked = RunRequest(
        run.spec.model, "adapters", "own", values={**VALUES, "bottleneck": 8}, own_data=run.spec.own_data,
        start=str(folder),
    )  # fmt: skip
    with pytest.raises(BadInput, match="The folder has bottleneck 6, but the settings have 8"):
        asked.complete()
    with pytest.raises(BadInput, match="needs the method 'adapters', not 'lora'"):
        replace(asked, method="lora", values={}).complete()
    head = json.loads((folder / "head_config.json").read_text("utf-8"))
    (folder / "head_config.json").write_text(json.dumps({**head, "label2id": {"no": 0, "yes": 1}}), "utf-8")
    with pytest.raises(BadInput, match="has the labels no, yes, but 'own' has bad, good"):
        replace(asked, values=VALUES).complete()


def test_what_the_library_has_not_got_is_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no placement equal to pfeiffer"):
        bundle.write_library_folder(train("encoder", "adapters", {"placement": "pfeiffer"}), tmp_path / "a")
    with pytest.raises(BadInput, match="Only bottleneck adapters can be exported"):
        bundle.write_library_folder(train("encoder", "ia3"), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_zip_holds_the_folder_and_is_made_once(train: Train, tmp_path: Path) -> None:
    run = train("causal-lm", "adapters", {"placement": "par_bn", "bottleneck": 4}, steps=1, eval_rows=0)
    path = Path(bundle.zipped_library_folder(run.id))
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        names = [name.removeprefix(f"{run.id}/") for name in archive.namelist()]
        assert names == sorted([library_files.CONFIG, *library_files.WEIGHTS])
        archive.extractall(tmp_path)
    assert respond.opened_values(tmp_path / run.id, run.spec.model)["scale"] == 4.0
    stamp = path.stat().st_mtime_ns
    assert bundle.zipped_library_folder(run.id) == str(path) and path.stat().st_mtime_ns == stamp
    assert not [each for each in run.folder.iterdir() if each.name.startswith(".library")]
