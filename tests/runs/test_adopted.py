"""A run that a script tells of elsewhere: taken in, followed, ended, let go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import BadInput, RunError
from peft_lab.runs import checkpoints, owners, record, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import Status
from peft_lab.runs.waiting import mark_lost, unfinished
from peft_lab.takeaway import ranks
from tests.prose import facts
from tests.runs.tracking.test_told import SPEC
from tests.ui.test_pages import opened, told


@pytest.fixture
def folder(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script has begun there; its rows are none that the lab could read."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    made = tmp_path / "outside"
    spec = {
        **SPEC.to_dict(),
        "task": "own",
        "own_data": "/no/such/rows.jsonl",
        "steps": 4,
        "schedule": "constant",
    }
    ranks.begin_telling(
        made, spec, {"trainable": 5, "total": 99, "device": "cpu", "rows": 24, "learning_rate": 0.1}
    )
    return made


def _step(folder: Path, number: int, **fields: Any) -> None:
    told = {"loss": 2.0 / number, "lr": 0.1, "grad_norm": 1.0, "tokens": 8, "seconds": 0.5, **fields}
    ranks.tell(folder, "step", step=number, **told)


def test_it_is_followed_while_it_goes_and_after(folder: Path) -> None:
    _step(folder, 1)
    run = store.adopt(folder)
    assert (run.view().status, run.view().losses) == (Status.RUNNING, (2.0,))
    _step(folder, 2)
    assert run.view().losses == (2.0, 1.0)
    (line,) = store.summaries()
    assert (line.id, line.status, line.steps, line.metric, line.before) == (run.id, "running", 4, "", None)
    assert record.result(run)["metric"]["after"] is None
    ranks.tell(folder, "done", message="")
    assert run.status() is Status.DONE


def test_it_is_no_business_of_this_machines_queue(folder: Path) -> None:
    run = store.adopt(folder)
    assert unfinished() == [] and mark_lost() == []
    with pytest.raises(RunError, match="started outside PEFT Lab"):
        get_queue().stop(run.id)
    assert run.status() is Status.RUNNING and not (folder / store.STOP).exists()


def test_one_that_gives_no_sign_of_life_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.adopt(folder)
    monkeypatch.setattr(owners, "heard", lambda *files: 0.0)
    assert run.view().status is Status.LOST
    assert "not responded" in run.view().message


def test_deleting_it_leaves_the_scripts_folder(folder: Path) -> None:
    run = store.adopt(folder)
    with pytest.raises(RunError, match="has not ended"):
        store.delete(run.id)
    ranks.tell(folder, "done", message="")
    store.delete(run.id)
    assert store.runs() == [] and (folder / "events.jsonl").is_file()


def test_what_holds_no_run_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    run = store.adopt(folder)
    with pytest.raises(BadInput, match=facts(run.id)):
        store.adopt(folder)
    with pytest.raises(BadInput, match="PEFT_LAB_RUN="):
        store.adopt(tmp_path)
    (folder / "spec.json").write_text("{}")
    store.delete(run.id) if run.status().final else run.folder.unlink()
    with pytest.raises(BadInput, match=facts("no run", "needs")):
        store.adopt(folder)


def test_no_state_that_lies_in_the_folder_is_gone_on_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be opened, and is from anywhere."""
    run = store.adopt(folder)
    monkeypatch.setattr(owners, "heard", lambda *files: 0.0)
    monkeypatch.setattr(checkpoints, "latest", lambda _: object())
    with pytest.raises(BadInput, match="outside PEFT Lab"):
        checkpoints.require_to_go_on(run)


def test_the_page_of_runs_draws_its_loss_and_offers_no_stop(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _step(folder, 1)
    run = store.adopt(folder)
    monkeypatch.setattr("peft_lab.ui.runs.page.rows", lambda *_: run.id)  # its row is chosen
    app = opened("runs")
    assert not app.exception
    text = told(app)
    assert "outside PEFT Lab" in text
    assert "step 1 of 4" in text
    assert app.get("plotly_chart")
    assert not {button.key for button in app.button} & {"run-open", "run-stop", "run-delete"}
    ranks.tell(folder, "failed", message="RuntimeError: out of memory")
    app.run()
    assert "RuntimeError: out of memory" in told(app)
    assert {button.key for button in app.button} >= {"run-delete"}
