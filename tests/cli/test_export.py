"""``export`` on the command line: what :mod:`peft_lab.takeaway` makes, as it is."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from peft_lab import takeaway
from peft_lab.core.errors import BadInput
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec
from tests.cli.conftest import Run

ODD = 'print("[bold]é[/] :smile: \\t" + "x" * 300)\n\tif "\\\\[": pass  \n'


@pytest.fixture
def finished(own_home: Path) -> store.Run:
    return store.create(
        RunSpec(
            "minilm-l6",
            "lora",
            "sentiment",
            steps=60,
            batch=2,
            learning_rate=1e-3,
            max_length=64,
            eval_rows=4,
        )
    )


def test_a_script_is_printed_as_it_is(run: Run, finished: store.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeaway, "script", lambda _: ODD)
    assert run("export", finished.id).stdout == ODD
    assert run("export", finished.id, "--as", "script", "--json").document["content"] == ODD


def test_a_notebook_goes_to_a_file(
    run: Run, finished: store.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeaway, "notebook", lambda _: nbformat.writes(nbformat.v4.new_notebook()))
    file = tmp_path / "run.ipynb"
    document = run("export", finished.id, "--as", "notebook", "--out", str(file), "--json").document
    assert (document["as"], document["path"], document["content"]) == ("notebook", str(file), None)
    nbformat.validate(nbformat.read(file, 4))
    assert "--out" in run("export", finished.id, "--as", "notebook", "--out", str(tmp_path)).refused()


def test_what_cannot_be_exported(run: Run, finished: store.Run) -> None:
    with pytest.raises(BadInput):
        takeaway.script(finished)  # it has not run
    assert finished.id in run("export", finished.id).refused()
    assert "nothing" in run("export", "nothing").refused()
    assert "'script'" in run("export", finished.id, "--as", "pdf").refused()
