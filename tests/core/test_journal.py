"""The log of events: one JSON line each, and nothing in it that is somebody's."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core import journal
from peft_lab.core.errors import BadInput

SECRET = "xylophonequark"


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What was written so far, each line read as JSON."""
    file, root = tmp_path / "events.jsonl", logging.getLogger("peft_lab")
    before, level = list(root.handlers), root.level
    monkeypatch.setenv(journal.VARIABLE, str(file))
    journal.begin()
    journal.begin()  # a second start writes no line twice
    yield lambda: [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_an_event_is_one_line_with_its_facts(lines: Any) -> None:
    journal.note("run ended", run="2026-a", status="done", seconds=1.5)
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "info", "event": "run ended", "run": "2026-a", "status": "done", "seconds": 1.5}


def test_what_is_somebodys_cannot_be_a_fact(lines: Any) -> None:
    for fact in ("name", "code", "cookie", "owner", "text", "address"):
        with pytest.raises(ValueError, match=fact):
            journal.note("joined", **{fact: SECRET})
        with pytest.raises(ValueError, match=fact):
            journal.note("joined", ValueError(), **{fact: SECRET})
    assert lines() == []


def test_of_an_error_stand_type_and_place(lines: Any) -> None:
    try:
        raise BadInput(SECRET)
    except BadInput as error:
        journal.note("page failed", error, page="lora")
    (line,) = lines()
    assert line["error"] == "BadInput" and SECRET not in str(line)
    assert line["at"][-1].startswith("test_journal.py:")


def test_other_modules_records_come_without_what_was_put_into_them(lines: Any) -> None:
    logging.getLogger("peft_lab.runs.queue").warning("the queue met an error while %s\nhad its turn", SECRET)
    (line,) = lines()
    assert line["event"] == "the queue met an error while %s\nhad its turn"
    assert line["logger"] == "peft_lab.runs.queue" and SECRET not in str(line)


def test_a_file_that_cannot_be_written_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(journal.VARIABLE, str(tmp_path / "no/such/folder.jsonl"))
    with pytest.raises(BadInput, match="written to"):
        journal.begin()
