from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.runs.events import EventLog, EventReader, read_events

VALUES = st.one_of(
    st.integers(), st.text(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)
)


def test_reader_returns_only_what_is_new(tmp_path: Path) -> None:
    log, reader = EventLog(tmp_path / "e.jsonl"), EventReader(tmp_path / "e.jsonl")
    assert reader.read() == []
    log.emit("queued")
    log.emit("step", step=1, loss=0.5)
    assert [event["type"] for event in reader.read()] == ["queued", "step"]
    assert reader.read() == []
    log.emit("done")
    assert [event["type"] for event in reader.read()] == ["done"]


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    line = json.dumps({"type": "step", "time": 1.0, "text": "a\u00e9b"}, ensure_ascii=False).encode() + b"\n"
    reader = EventReader(path)
    path.write_bytes(line + line[:30])
    assert len(reader.read()) == 1
    path.write_bytes(line + line)
    assert reader.read() == [{"type": "step", "time": 1.0, "text": "aéb"}]


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
    assert read_events(path) == [{"type": "done", "time": 2.0}]


def test_a_number_that_json_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        EventLog(tmp_path / "e.jsonl").emit("step", loss=float("nan"))


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
