"""A run that trained on from an adapter of the adapters library is repeated by its script, which has that adapter."""

from __future__ import annotations

import io
import json
import runpy
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from peft_lab import takeaway
from peft_lab.core.errors import BadInput
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.takeaway import bundle
from tests.takeaway.conftest import KINDS, Train, finish
from tests.takeaway.test_script import assert_same, assert_same_adapter, carry_out

FOLDER = {"encoder": "seq_bn", "causal-lm": "par_bn", "seq2seq": "double_seq_bn"}


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["repeat.py"])


def trained_on(train: Train, kind: str, folder: Path, pickled: bool = False) -> Run:
    """A run that starts from what another one has learned, saved as the adapters library saves it."""
    values = {"placement": FOLDER[kind], "bottleneck": 6, "nonlinearity": "relu", "init_std": 0.3}
    first = train(kind, "adapters", values, learning_rate=0.02, seed=4)
    bundle.write_library_folder(first, folder)
    if pickled:
        for safe in (library_files.WEIGHTS[0], library_files.HEAD[0]):
            (folder / safe).unlink(missing_ok=True)
    spec, known = first.spec, {"placement", "bottleneck", "nonlinearity", "scale"}
    return finish(
        RunRequest(
            spec.model, "adapters", spec.task, values={k: v for k, v in spec.values.items() if k in known},
            own_data=spec.own_data, start=str(folder), steps=3, batch=4, eval_rows=5, seed=1, learning_rate=0.02,
        )
    )  # fmt: skip


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_from_someones_adapter_is_repeated_to_the_last_digit(
    kind: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained_on(train, kind, tmp_path / "theirs", pickled=kind == "encoder")
    shutil.rmtree(tmp_path / "theirs")  # the run's own copy is what counts
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)
    from_scratch = finish(RunRequest.from_dict({**run.spec.to_dict(), "start": None}))
    assert from_scratch.record()["loss"] != run.record()["loss"]


@pytest.mark.further
def test_the_start_is_given_by_its_path_and_checked(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere: out of the zip of the run's adapter, another adapter, and none."""
    run = trained_on(train, "causal-lm", tmp_path / "theirs")
    with zipfile.ZipFile(io.BytesIO(takeaway.adapter_zip(run))) as archive:
        (tmp_path / "mine.zip").write_bytes(archive.read(f"{run.id}/start.zip"))
    (tmp_path / "repeat.py").write_text(takeaway.script(run).replace(str(run.folder), "/nowhere"), "utf-8")
    monkeypatch.chdir(tmp_path)

    def left(*given: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["repeat.py", *given])
        return runpy.run_path("repeat.py")

    assert left(str(tmp_path / "mine.zip"))["losses"] == run.record()["loss"]
    with pytest.raises(
        SystemExit, match=r"/nowhere/start\.zip is not on this machine: set ADAPTER to your copy"
    ):
        left()
    (tmp_path / "other.zip").write_bytes(b"another")
    with pytest.raises(SystemExit, match=r"other\.zip is not the adapter that the run started from"):
        left("other.zip")


@pytest.mark.further
def test_a_notebook_names_the_start_and_reads_no_command_line(train: Train, tmp_path: Path) -> None:
    run = trained_on(train, "causal-lm", tmp_path / "theirs")
    cells = json.loads(takeaway.notebook(run))["cells"]
    code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert f'ADAPTER = "{run.folder}/start.zip"' in code and "argv" not in code


@pytest.mark.further
def test_a_start_that_is_another_by_now_is_refused(train: Train, tmp_path: Path) -> None:
    run = trained_on(train, "causal-lm", tmp_path / "theirs")
    kept = Path(str(run.spec.start))
    with zipfile.ZipFile(kept, "a") as archive:
        archive.writestr("more", b"x")
    with pytest.raises(BadInput, match=r"start\.zip of '.*' has changed since the run started from it"):
        takeaway.script(run)
    kept.unlink()
    with pytest.raises(BadInput, match=r"start\.zip"):
        takeaway.script(run)
