"""What is told when, with a tracker made here: in parts, after going on, and where it breaks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from peft_lab.classroom import places
from peft_lab.core import asking
from peft_lab.core.asking import OPERATOR, Asker, acting_for
from peft_lab.core.errors import BadInput
from peft_lab.runs import owners, store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.tracking import follow, start
from peft_lab.runs.tracking.follow import TrackedPoint
from peft_lab.runs.tracking.start import TrackerState
from peft_lab.runs.view import Status
from tests.prose import facts, says
from tests.runs.test_view import event, step
from tests.waits import SECONDS, until


class Notebook:
    """A tracker that keeps what it is told, or breaks when it is told something that is named in ``breaks``."""

    identity, address = "page-7", "a notebook"
    breaks: tuple[str, ...] = ()
    opened: list[str]
    heard: list[Any]

    def __init__(self, run: str, parameters: Mapping[str, str], home: Path, identity: str) -> None:
        type(self).opened.append(identity)
        self.heard.append(parameters["method"])

    def points(self, points: Sequence[TrackedPoint]) -> None:
        if "points" in self.breaks:
            raise ConnectionError("the network\n is gone")
        self.heard.append([(each.name, each.step) for each in points if each.name == "loss"])

    def folder(self, path: Path) -> None:
        self.heard.append(sorted(file.name for file in path.iterdir()))

    def end(self, status: Status, message: str) -> None:
        self.heard.append((str(status), message))


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> type[Notebook]:
    class Mine(Notebook):
        opened: list[str] = []  # noqa: RUF012  anew for each test
        heard: list[Any] = []  # noqa: RUF012

    monkeypatch.setattr(follow, "OPENS", {"mlflow": Mine})
    monkeypatch.setattr(follow, "EVERY", 0.05)
    return Mine


@pytest.fixture
def run(own_home: Path) -> Run:
    made = store.create(SPEC, owners.myself())
    owners.touch(made.folder)
    return made


def _steps(run: Run, *numbers: int) -> None:
    for number in numbers:
        step_event = step(number, 0.0)
        run.log.emit(
            "step", **{key: value for key, value in step_event.items() if key not in ("type", "time")}
        )


def _ready(run: Run) -> None:
    run.log.emit(
        "ready", trainable=5, head=0, total=99, dtype="float32", device="cpu", learning_rate=0.1, rows=4
    )


def test_a_run_is_told_while_it_goes_on_and_its_adapter_at_its_end(
    run: Run, notebook: type[Notebook], tmp_path: Path
) -> None:
    teller = threading.Thread(target=follow.follow, args=(run, tmp_path / "stores", ["mlflow"]))
    teller.start()
    _ready(run)
    _steps(run, 1)
    until(lambda: [("loss", 1)] in notebook.heard and start.read_tracking(run.folder))
    assert says(start.read_tracking(run.folder)["mlflow"].sentence(), "MLflow", "notebook", "page-7")
    _steps(run, 2)
    until(lambda: [("loss", 2)] in notebook.heard)
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")
    run.log.emit("stopped", message="Stopped after 2 of 60 steps.")
    teller.join(SECONDS)
    assert not teller.is_alive()
    assert notebook.heard[:-1] == ["lora", [("loss", 1)], [("loss", 2)], ["adapter_config.json"]]
    assert notebook.heard[-1] == ("stopped", run.view().message)
    assert start.read_tracking(run.folder)["mlflow"].complete


def test_what_is_told_once_is_not_told_again_when_a_run_goes_on(
    run: Run, notebook: type[Notebook], tmp_path: Path
) -> None:
    _ready(run)
    _steps(run, 1, 2)
    run.log.emit("lost", message="gone")
    follow.follow(run, tmp_path / "stores", ["mlflow"])
    (run.folder / "events.jsonl").unlink()
    run.log.emit("queued", owner=owners.myself().to_dict(), continued=1)
    _ready(run)
    _steps(run, 1, 2, 3)
    run.log.emit("done", message="")
    follow.follow(run, tmp_path / "stores", ["mlflow"])
    assert notebook.opened == ["", "page-7"]
    assert [("loss", 1), ("loss", 2)] in notebook.heard
    assert [("loss", 3)] in notebook.heard


def test_a_tracker_that_breaks_is_told_of_on_the_run_and_leaves_it_alone(
    run: Run, notebook: type[Notebook], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "breaks", ("points",))
    _ready(run)
    _steps(run, 1)
    run.log.emit("done", message="")
    before = (run.folder / "events.jsonl").read_bytes()
    follow.follow(run, tmp_path / "stores", ["mlflow"])
    assert (run.folder / "events.jsonl").read_bytes() == before
    assert run.status() is Status.DONE
    said = start.read_tracking(run.folder)["mlflow"].sentence()
    assert says(said, "MLflow", "network is gone")
    monkeypatch.setattr(notebook, "breaks", ())
    follow.follow(run, tmp_path / "stores", ["mlflow"])
    assert start.read_tracking(run.folder)["mlflow"].complete, "sent again, it has all"


def test_a_run_that_is_deleted_meanwhile_ends_the_telling(
    run: Run, notebook: type[Notebook], tmp_path: Path
) -> None:
    teller = threading.Thread(target=follow.follow, args=(run, tmp_path / "stores", ["mlflow"]))
    teller.start()
    _ready(run)
    until(lambda: notebook.heard)
    run.folder.rename(tmp_path / "away")
    teller.join(SECONDS)
    assert not teller.is_alive()


def test_a_tracker_that_is_none_or_not_installed_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=facts("wandb", "mlflow", "trackio")):
        start.tracker_names("mlflow, wandb" if find_spec("mlflow") else "wandb")
    monkeypatch.setattr("peft_lab.runs.tracking.start.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=facts("MLflow", "peft-lab[mlflow]")):
        start.tracker_names("mlflow")
    monkeypatch.setattr(start, "find_spec", lambda name: object())
    assert start.tracker_names(" MLflow,trackio,mlflow,") == ("mlflow", "trackio")
    assert start.tracker_names("") == ()


def test_in_a_class_a_learners_run_goes_to_no_tracker(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(asking.CLASS_VARIABLE, "blue-whale")
    monkeypatch.setenv(start.TRACK_VARIABLE, "mlflow")
    monkeypatch.setattr(start, "find_spec", lambda name: object())
    ada = Asker("a" * 32)
    with acting_for(ada):
        hers = store.create(SPEC, owners.myself())
        monkeypatch.setattr(start, "_started", lambda *_: pytest.fail("a learner's run left her folder"))
        start.require_trackers()
        start.begin(hers)
    assert start.trackers_of(hers) == ()
    assert not (hers.folder / start.TRACKING_FILE).exists()
    assert places.asker_of(hers.folder) == ada
    with acting_for(Asker(OPERATOR)):
        assert start.trackers_of(store.create(SPEC, owners.myself())) == ("mlflow",)


def _silent(run: Run) -> None:
    """As of a machine that slept, or a command that was held in its terminal (Ctrl-Z)."""
    long_ago = time.time() - 2 * owners.SILENT
    os.utime(run.folder / owners.BEAT, (long_ago, long_ago))
    assert run.status() is Status.LOST


def test_a_run_that_is_silent_for_a_while_is_told_to_its_end(
    run: Run, notebook: type[Notebook], tmp_path: Path
) -> None:
    _ready(run)
    _steps(run, 1)
    _silent(run)
    teller = threading.Thread(target=follow.follow, args=(run, tmp_path / "stores", ["mlflow"]))
    teller.start()
    until(lambda: [("loss", 1)] in notebook.heard)
    time.sleep(0.2)  # some looks more
    owners.touch(run.folder)
    _steps(run, 2)
    run.log.emit("done", message="")
    teller.join(SECONDS)
    assert not teller.is_alive()
    assert notebook.heard == ["lora", [("loss", 1)], [("loss", 2)], ("done", "")]


SPEC = RunSpec("minilm-l6", "lora", "sentiment", values={"r": 8, "target_modules": ("query", "value")},
               steps=60, batch=4, learning_rate=5e-4, max_length=128, eval_rows=4)  # fmt: skip
EVENTS = [
    event("queued", 10.0),
    event("evaluated", 10.5, which="base", metrics={"accuracy": 0.5}, loss=0.7, rows=4, seconds=0.2),
    event("ready", 11.0, trainable=5, head=2, total=99, dtype="float32", device="cpu"),
    step(1, 12.0, loss=2.0),
    step(2, 13.0, loss=1.5),
    event("memory", 13.0, peak_bytes=1000, parts={"weights": 600, "adapter": 40}, detail={}, timeline=[]),
    event("evaluated", 14.0, which="tuned", metrics={"accuracy": 0.75}, loss=0.4, rows=4, seconds=0.3),
    event("done", 15.0, message=""),
]


def test_figures_stand_at_the_step_after_which_they_were_found() -> None:
    found = {(each.name, each.step): each for each in follow.run_points(EVENTS)}
    assert found["loss", 1].value == 2.0
    assert (found["loss", 2].value, found["loss", 2].time, found["loss", 2].since) == (1.5, 13.0, 3.0)
    assert found["base/accuracy", 0].value == 0.5
    assert found["tuned/accuracy", 2].value == 0.75
    assert found["memory/peak_bytes", 2].value == 1000
    assert found["memory/weights_bytes", 2].value == 600
    assert found["step_seconds", 2].value == EVENTS[4]["seconds"]


# ----------------------------------------
# What is said at the end of a comparison or a sweep of what its trackers were told.


THERE = TrackerState("mlflow", "a notebook", "page-7", complete=True)


@pytest.fixture
def three(own_home: Path) -> list[Run]:
    made = [store.create(SPEC, owners.myself()) for _ in range(3)]
    for run in made:
        start.write_tracking(run.folder, THERE)
    return made


def _said(three: list[Run]) -> list[str]:
    return [one.sentence() for one in start.trackers_summed(three)]


def test_where_all_went_well_it_says_where_they_are(three: list[Run]) -> None:
    assert len(_said(three)) == 1 and says(_said(three)[0], "MLflow", "all", 3, "notebook")
    assert _said(three[:1]) == [THERE.sentence()] and _said([]) == []


def test_what_failed_is_counted_with_the_reason_that_most_have(three: list[Run]) -> None:
    start.failed_trackers(three[1].folder, "mlflow", "The network is gone.")
    start.failed_trackers(three[2].folder, "trackio", "The disk is full.")
    mlflow, trackio = _said(three)
    assert says(mlflow, "MLflow", "1 of these 3", "network is gone")
    assert says(trackio, "trackio", "this run", "disk is full")
    start.failed_trackers(three[2].folder, "mlflow", "The network is gone.")
    start.failed_trackers(three[0].folder, "mlflow", "Another reason.")
    assert says(_said(three)[0], "MLflow", "3 of these 3", "network is gone")
