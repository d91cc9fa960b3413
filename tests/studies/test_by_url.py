"""Runs that go by a URL: what is brought there, what is fetched, and who may still write."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import BadInput, RunError
from peft_lab.runs import checkpoints, owners, store, waiting
from peft_lab.runs.store import Run
from peft_lab.studies import by_url
from peft_lab.studies.by_url import Download, NodeTurn, RemoteFolder, RemoteRuns

URL = "memory://lab/runs"
NAME = "20261127-180000-lora-minilm-sentiment-abcd"


@pytest.fixture
def at() -> Iterator[RemoteFolder]:
    found = by_url.place(URL)
    yield found
    found.remove()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that was queued, on whoever asked for it."""
    made = Run(NAME, tmp_path / "home" / NAME)
    made.folder.mkdir(parents=True)
    spec = {"model": "minilm-l6", "own_data": str(made.folder / "data.csv")}
    (made.folder / "spec.json").write_text(json.dumps(spec))
    (made.folder / "data.csv").write_text("text,label\n")
    made.log.emit("queued", owner={}, carrier="ray")
    return made


def begun(turn: RemoteFolder, tmp_path: Path, name: str) -> tuple[NodeTurn, Run]:
    carried = by_url.take_over(turn, tmp_path / name / NAME)
    return carried, Run(NAME, carried.folder)


def steps(run: Run) -> list[int]:
    return [event["step"] for event in run.events() if event["type"] == "step"]


def test_a_node_gets_the_run_and_brings_back_what_it_makes(
    at: RemoteFolder, run: Run, tmp_path: Path
) -> None:
    asked = by_url.hand_over(at, run, waiting.turn_number(run))
    carried, there = begun(asked.turn, tmp_path, "node")
    assert carried.number == 1 and there.events() == run.events()
    spec = json.loads((carried.folder / "spec.json").read_text())
    assert Path(spec["own_data"]) == carried.folder / "data.csv" and Path(spec["own_data"]).is_file()
    with carried.exchanging():
        there.log.emit("step", step=1, loss=0.5)
        (carried.folder / "adapter").mkdir()
        (carried.folder / "adapter/weights").write_bytes(b"first")
        (carried.folder / ".scratch").write_bytes(b"half")
    asked.fetch()
    assert steps(run) == [1] and (run.folder / "adapter/weights").read_bytes() == b"first"
    assert not (run.folder / ".scratch").exists()
    assert json.loads((run.folder / "spec.json").read_text())["own_data"] == str(run.folder / "data.csv")
    inode = run.stamp()
    with NodeTurn(asked.turn, carried.folder, 1).exchanging():
        there.log.emit("step", step=2, loss=0.4)
        (carried.folder / "adapter/weights").write_bytes(b"second")
    asked.fetch()
    assert steps(run) == [1, 2] and (run.folder / "adapter/weights").read_bytes() == b"second"
    assert run.stamp() == inode, "what is added is added: whoever follows the file reads on"


@pytest.mark.parametrize(("times", "arrives"), [(2, True), (9, False)])
def test_an_end_is_brought_once_the_url_is_back(
    at: RemoteFolder, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, arrives: bool
) -> None:
    monkeypatch.setattr(by_url, "LAST", (0.0,) * 4)
    asked = by_url.hand_over(at, run, waiting.turn_number(run))
    carried, there = begun(asked.turn, tmp_path, "node")
    ended, failures = threading.Event(), list[str]()

    class Files:
        def __getattr__(self, name: str) -> object:
            return getattr(at.files, name)

        def pipe_file(self, path: str, data: bytes) -> None:
            if ended.is_set() and len(failures) < times:
                failures.append(path)
                raise OSError("no route to host")
            at.files.pipe_file(path, data)

    carried.turn = RemoteFolder(Files(), asked.turn.path)
    with nullcontext() if arrives else pytest.raises(OSError, match="no route"), carried.exchanging():
        there.log.emit("done")
        ended.set()
    asked.fetch()
    assert failures and [event["type"] for event in run.events()] == ["queued", "done"][: 1 + arrives]


def test_an_end_is_told_only_with_what_it_left(at: RemoteFolder, run: Run, tmp_path: Path) -> None:
    asked = by_url.hand_over(at, run, waiting.turn_number(run))
    carried, there = begun(asked.turn, tmp_path, "node")
    seen: list[bool] = []

    class Files:
        """The node writes its record and its end in the very moment between two of the fetching's looks."""

        def __getattr__(self, name: str) -> object:
            if name == "find" and not seen:
                seen.append(True)
                (carried.folder / "record.json").write_text("{}")
                there.log.emit("done")
                by_url.Upload(carried.folder, asked.turn.below(1)).send()
            return getattr(at.files, name)

    by_url.Upload(carried.folder, asked.turn.below(1)).send()
    slow = Download(RemoteFolder(Files(), asked.turn.path), run.folder)
    slow.fetch()
    assert seen and (run.folder / "record.json").exists()
    assert [event["type"] for event in run.events()] == ["queued"]
    slow.fetch()
    assert [event["type"] for event in run.events()] == ["queued", "done"]


def test_another_node_goes_on_from_the_state_and_the_first_writes_no_more(
    at: RemoteFolder, run: Run, tmp_path: Path
) -> None:
    asked = by_url.hand_over(at, run, waiting.turn_number(run))
    first, there = begun(asked.turn, tmp_path, "first")
    there.log.emit("step", step=1, loss=0.5)
    size = there.log.path.stat().st_size
    (first.folder / f"checkpoint-1-{size}.pt").write_bytes(b"state")
    there.log.emit("step", step=2, loss=0.4)
    upload = by_url.Upload(first.folder, asked.turn.below(1))
    upload.send()
    asked.fetch()
    assert steps(run) == [1, 2]

    second, elsewhere = begun(asked.turn, tmp_path, "second")
    found = checkpoints.latest(second.folder)
    assert second.number == 2 and found is not None and found.step == 1
    with second.exchanging():
        text = elsewhere.log.path.read_bytes()[: found.offset]
        (elsewhere.folder / ".cut").write_bytes(text)
        (elsewhere.folder / ".cut").replace(elsewhere.log.path)
        elsewhere.log.emit("step", step=2, loss=0.3)
        found.path.unlink()
    there.log.emit("step", step=3, loss=9.0)
    with first.exchanging():
        pass
    assert (first.folder / store.STOP).exists(), "the first is told to end"
    asked.fetch()
    assert [event["loss"] for event in run.events() if event["type"] == "step"] == [0.5, 0.3]
    assert not list(run.folder.glob("checkpoint-*.pt"))


def test_what_is_asked_of_a_run_reaches_its_node(at: RemoteFolder, run: Run, tmp_path: Path) -> None:
    asked = by_url.hand_over(at, run, waiting.turn_number(run))
    carried, there = begun(asked.turn, tmp_path, "node")
    with carried.exchanging():
        pass
    assert not there.asked_to_stop()
    run.ask_to_stop()
    (run.folder / "rungs.json").write_text('{"sweep": "s", "rungs": []}')
    asked.tell()
    with carried.exchanging():
        pass
    assert there.asked_to_stop() and (carried.folder / "rungs.json").read_text().startswith('{"sweep"')
    asked.fetch()
    assert asked.turn.below(1).read("rungs.json") is None, "it is not brought back"


def test_a_turn_that_is_over_is_nobodys(at: RemoteFolder, run: Run, tmp_path: Path) -> None:
    driver = RemoteRuns(URL)
    turn = waiting.turn_number(run)
    driver.hand_over(run, turn)
    carried, there = begun(by_url.turn_of(at, NAME, turn), tmp_path, "node")
    with carried.exchanging():
        there.log.emit("done")
    assert driver.over(run) == "" and [event["type"] for event in run.events()] == ["queued", "done"]
    assert at.below(NAME).names() == []
    with carried.exchanging():
        pass
    assert there.asked_to_stop()
    with pytest.raises(RunError, match="no run to train"):
        begun(by_url.turn_of(at, NAME, 1.0), tmp_path, "other")


def test_the_next_driver_fetches_what_a_killed_one_did_not(
    at: RemoteFolder, run: Run, tmp_path: Path
) -> None:
    turn = waiting.turn_number(run)
    RemoteRuns(URL).hand_over(run, turn)
    carried, there = begun(by_url.turn_of(at, NAME, turn), tmp_path, "node")
    with carried.exchanging():
        there.log.emit("step", step=1, loss=0.5)
    RemoteRuns(URL).left(run)
    assert steps(run) == [1]


@pytest.mark.parametrize(
    "carrier", ["", "ray"]
)  # by the queue here, and by Ray in a folder that all nodes see
def test_what_went_on_here_since_is_newer_than_what_a_killed_driver_left(
    at: RemoteFolder, run: Run, tmp_path: Path, carrier: str
) -> None:
    turn = waiting.turn_number(run)
    RemoteRuns(URL).hand_over(run, turn)
    carried, there = begun(by_url.turn_of(at, NAME, turn), tmp_path, "node")
    with carried.exchanging():
        there.log.emit("step", step=1, loss=0.5)
    run.log.emit("lost", message="its command was killed")
    checkpoints.reopen(run, owners.myself(), anew=True, carrier=carrier)
    for step in (1, 2):
        run.log.emit("step", step=step, loss=0.5)
    state = run.folder / f"checkpoint-2-{run.log.path.stat().st_size}.pt"
    state.write_bytes(b"state")
    RemoteRuns(URL).left(run)
    assert steps(run) == [1, 2] and state.exists()


def test_an_end_that_could_not_be_fetched_is_fetched_when_the_run_is_begun_again(
    at: RemoteFolder, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, turn = RemoteRuns(URL), waiting.turn_number(run)
    driver.hand_over(run, turn)
    carried, there = begun(by_url.turn_of(at, NAME, turn), tmp_path, "node")
    with carried.exchanging():
        there.log.emit("done")
    monkeypatch.setattr(by_url, "TRIES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Download, "fetch", lambda _: away(NAME))
        assert "no route to host" in driver.over(run)
    run.log.emit("lost", message="")
    driver.left(run)
    assert [event["type"] for event in run.events()] == ["queued", "done"]


def away(_run: str) -> None:
    raise OSError("no route\nto host.")


def slow(_run: str) -> None:
    time.sleep(0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "said"), [(away, "no route to host"), (slow, "no answer within 0.1 s")])
def test_a_url_that_is_away_for_long_is_told_once_and_so_is_its_return(
    at: RemoteFolder, run: Run, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[str], None], said: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr(by_url, "EVERY", 0.0)
    driver = RemoteRuns(URL, told.append)
    driver.hand_over(run, waiting.turn_number(run))
    with monkeypatch.context() as patch:
        patch.setattr(Download, "fetch", lambda _: trouble(NAME))
        driver.look()
        assert told == [], "a moment is not worth a word"
        patch.setattr(by_url, "UNTOLD", 0.1)
        time.sleep(0.1)
        for _ in range(3):
            driver.look()
        assert len(told) == 1
        since = time.localtime(driver._away)
        assert told[0].startswith(f"no results of the nodes since {since.tm_hour:02d}:")
        assert f"{URL} cannot be read ({said}); retrying" in told[0]
    driver.look()
    driver.look()
    assert len(told) == 2 and told[1].startswith(f"{URL} answers again, after 0.")


def test_a_url_that_brings_a_large_file_is_not_away(
    at: RemoteFolder, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    driver, turn = RemoteRuns(URL, told.append), waiting.turn_number(run)
    driver.hand_over(run, turn)
    carried, there = begun(by_url.turn_of(at, NAME, turn), tmp_path, "node")
    with carried.exchanging():
        there.log.emit("step", step=1, loss=0.5)
    real = by_url.fetch_changed

    def large(source: RemoteFolder, folder: Path, got: dict[str, Any]) -> set[str]:
        time.sleep(0.5)
        return real(source, folder, got)

    monkeypatch.setattr(by_url, "UNTOLD", 0.2)
    monkeypatch.setattr(by_url, "fetch_changed", large)
    driver.look()
    assert told == [] and steps(run) == [1]


def test_a_url_that_is_away_for_a_moment_is_not_worth_a_word(
    at: RemoteFolder, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(by_url, "EVERY", 0.0)
    driver = RemoteRuns(URL, told.append)
    driver.hand_over(run, waiting.turn_number(run))
    with monkeypatch.context() as patch:
        patch.setattr(Download, "fetch", lambda _: away(NAME))
        driver.look()
    driver.look()
    monkeypatch.setattr(by_url, "UNTOLD", 0.0)
    assert told == []
    monkeypatch.setattr(Download, "fetch", lambda _: away(NAME))
    driver.look()
    assert len(told) == 1, "counted anew: the moment before is over"


def test_names_that_lead_out_of_the_folder_are_left(at: RemoteFolder, run: Run, tmp_path: Path) -> None:
    asked = by_url.hand_over(at, run, waiting.turn_number(run))
    for name in ("../outside", "a/../../outside", ".hidden", "spec.json"):
        at.files.pipe_file(f"{asked.turn.path}/1/{name}", b"foreign")
    asked.turn.below(1).write(by_url.EVENTS, run.log.path.read_bytes())
    before = (run.folder / "spec.json").read_bytes()
    asked.fetch()
    assert not list(tmp_path.rglob("outside")) and not (run.folder / ".hidden").exists()
    assert (run.folder / "spec.json").read_bytes() == before


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nowhere://bucket", "nowhere://bucket cannot be used as the store: .*nowhere"),
        ("file:///proc/lab", "file:///proc/lab cannot be used as the store: .*proc"),
        ("bucket/lab", "is not a URL"),
    ],
)
def test_where_nothing_can_be_written_is_told_before_anything_starts(url: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        by_url.place(url)
