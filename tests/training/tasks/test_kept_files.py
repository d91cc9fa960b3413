"""Own data that is kept: listed, removed by hand, and removed when it is old."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.training.tasks import hub

DAY = 24 * 3600.0


def put(home: Path, folder: str, name: str, days: float = 0) -> Path:
    path = home / folder / f"0123456789ab-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"text,label\n")
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def test_files_are_listed_the_latest_first(own_home: Path) -> None:
    assert hub.kept_files() == []
    put(own_home, "uploads", "mine.csv", days=3)
    put(own_home, "datasets", "theirs.jsonl", days=1)
    (own_home / "datasets" / "a-folder").mkdir()
    found = hub.kept_files()
    assert [each.title for each in found] == ["theirs.jsonl", "mine.csv"]
    assert [each.origin for each in found] == ["fetched from the Hugging Face Hub", "uploaded"]
    assert found[0].nbytes == 11


def test_only_a_kept_file_is_removed(own_home: Path) -> None:
    mine, other = put(own_home, "uploads", "mine.csv"), put(own_home, "runs", "record.json")
    hub.remove_file(mine)
    hub.remove_file(mine)  # gone already
    assert not mine.exists()
    with pytest.raises(BadInput, match="your files"):
        hub.remove_file(other)
    assert other.exists()


def test_rows_of_the_hub_that_nobody_asked_for_go_when_others_are_fetched(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(text: str) -> hub.Fetched:
        data = b'{"text": "a", "label": "b"}\n' + text.encode()
        return hub.Fetched("rows.jsonl", data, replace(hub.parse(text), revision="f" * 40), 1, 1)

    monkeypatch.setattr(hub, "fetch", fetch)
    again = Path(hub.kept_hub_file("hf:owner/again")[0])
    old, recent = put(own_home, "datasets", "old.jsonl", 61), put(own_home, "datasets", "recent.jsonl", 59)
    upload = put(own_home, "uploads", "mine.csv", 400)
    os.utime(again, (time.time() - 70 * DAY,) * 2)
    assert Path(hub.kept_hub_file("hf:owner/again")[0]) == again
    assert again.exists(), "it was asked for just now"
    assert not old.exists()
    assert recent.exists() and upload.exists(), "one's own uploads stay outside a class"
