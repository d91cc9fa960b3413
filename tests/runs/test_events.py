from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.runs.events import EventLog, EventReader, read_events
from tests.waits import SECONDS

VALUES = st.one_of(
    st.integers(), st.text(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)
)


def line(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, "time": 1.0, **fields}, ensure_ascii=False).encode() + b"\n"


def kinds(reader: EventReader) -> list[str]:
    return [event["type"] for event in reader.read()]


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each opening of a file has read."""
    amounts: list[int] = []

    class Counting(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(-1 if size is None else size)
            amounts[-1] += len(data)
            return data

    def counted(path: Path, mode: str) -> Counting:
        amounts.append(0)
        return Counting(path, mode)

    monkeypatch.setattr(Path, "open", counted)
    return amounts


def test_a_file_that_grows_is_read_once(tmp_path: Path, read_bytes: list[int]) -> None:
    path = tmp_path / "e.jsonl"
    log = EventLog(path)
    assert read_events(path) == () and read_bytes == []
    for number in range(300):
        log.emit("step", step=number, loss=0.123456789)
    assert len(read_events(path)) == 300 and read_bytes == [path.stat().st_size]
    assert read_events(path) is read_events(path) and len(read_bytes) == 1
    before = path.stat().st_size
    log.emit("done")
    assert [event["type"] for event in read_events(path)][-2:] == ["step", "done"]
    assert len(read_bytes) == 2 and read_bytes[-1] <= path.stat().st_size - before + 256


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    whole = line("step", text="aéb")
    reader = EventReader(path)
    path.write_bytes(whole + whole[:30])
    assert len(reader.read()) == 1
    path.write_bytes(whole + whole)
    assert reader.read() == ({"type": "step", "time": 1.0, "text": "aéb"},) * 2


@pytest.mark.parametrize(
    ("after", "replaced"),
    [
        (line("queued") + line("done"), True),  # the same beginning
        (line("step") + line("done"), True),  # the same length as before
        (line("failed"), True),
        (line("failed"), False),  # cut
        (line("failed") * 9, False),  # longer, and another
        (line("failed") + line("step"), False),  # as long, and another
        (b"", False),
    ],
)
def test_a_file_that_was_replaced_cut_or_changed_is_read_anew(
    after: bytes, replaced: bool, tmp_path: Path
) -> None:
    path, other = tmp_path / "e.jsonl", tmp_path / "other"
    path.write_bytes(line("queued") + line("step"))
    reader = EventReader(path)
    assert kinds(reader) == ["queued", "step"]
    time.sleep(0.01)  # the clock of the file system
    if replaced:
        other.write_bytes(after)
        other.replace(path)
    else:
        path.write_bytes(after)
    assert kinds(reader) == kinds(EventReader(path))
    EventLog(path).emit("lost")
    assert kinds(reader) == kinds(EventReader(path)) and kinds(reader)[-1] == "lost"


def test_a_file_that_is_gone_has_no_events_and_another_may_come(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    reader = EventReader(path)
    path.write_bytes(line("queued") + line("step"))
    assert len(reader.read()) == 2
    path.unlink()
    assert reader.read() == ()
    path.write_bytes(line("queued") + line("step") + line("done"))
    assert kinds(reader) == ["queued", "step", "done"]


def test_what_cannot_be_read_now_is_read_when_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "e.jsonl"
    reader = EventReader(path)
    path.write_bytes(line("queued"))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="bad disk"):
        patch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError("bad disk")))
        reader.read()
    assert kinds(reader) == ["queued"]


def test_threads_that_read_while_it_is_written_see_every_event_once(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    log, reader = EventLog(path), EventReader(path)

    def follow() -> list[int]:
        seen: list[int] = []
        while len(seen) < 500:
            found = [event["step"] for event in reader.read()]
            assert found[: len(seen)] == seen
            seen = found
        return seen

    with ThreadPoolExecutor(2) as threads:
        followers = [threads.submit(follow) for _ in range(2)]
        for number in range(500):
            log.emit("step", step=number)
        assert all(each.result(SECONDS) == list(range(500)) for each in followers)


def test_stump_of_a_killed_writer_does_not_swallow_the_next_event(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"type": "step", "time": 1.0}\n{"type": "st')
    EventLog(path).emit("failed", message="killed")
    assert [event["type"] for event in read_events(path)] == ["step", "failed"]


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"[]", b"7", b'{"type": 3, "time": 1.0}', b'{"type": "step"}', b"{}", b""]
)
def test_lines_that_are_no_events_are_left_out(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(line + b'\n{"type": "done", "time": 2.0}\n')
    assert read_events(path) == ({"type": "done", "time": 2.0},)


def test_a_number_that_json_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        EventLog(tmp_path / "e.jsonl").emit("step", loss=float("nan"))


@settings(deadline=None)  # it writes files, on a machine that may be busy
@given(
    rows=st.lists(
        st.dictionaries(st.text(min_size=1).filter(lambda key: key not in ("type", "time")), VALUES),
        max_size=8,
    )
)
def test_what_is_written_is_read(
    rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("events") / "e.jsonl"
    log = EventLog(path)
    for row in rows:
        log.emit("step", **row)
    read = [
        {key: value for key, value in event.items() if key not in ("type", "time")}
        for event in read_events(path)
    ]
    assert read == rows
