"""JSON files and files written in one step. Paths that a user named are tested in tests/cli/test_options.py."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import peft_lab
from peft_lab.core import disk
from peft_lab.core.errors import UnreadableFile

PACKAGE = Path(peft_lab.__file__).parent
CORRUPT = {
    "missing": None,
    "empty": b"",
    "cut off": b'{"a": [1, 2',
    "too deep": b"[" * 100_000,
    "no UTF-8": b'{"a": "\xff"}',
    "a number of too many digits": b"1" * 10_000,
    "too large": b'"' + b"x" * 2_000 + b'"',
}


@pytest.mark.parametrize("what", CORRUPT)
def test_json_that_cannot_be_read_is_one_error_or_the_default(what: str, tmp_path: Path) -> None:
    path, content = tmp_path / "file.json", CORRUPT[what]
    if content is not None:
        path.write_bytes(content)
    most = 1_000 if what == "too large" else disk.LARGEST_JSON
    with pytest.raises(UnreadableFile, match=r"file\.json"):
        disk.read_json(path, most=most)
    assert disk.read_json(path, {}, most) == {}
    assert disk.read_json(path, None, most) is None


def test_what_is_read_is_no_pipe_of_the_defaults_type_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert disk.read_json(path, {}) == {}
    assert disk.read_json(path, []) == disk.read_json(path, None) == disk.read_json(path) == [1]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert disk.read_json(tmp_path / "pipe", []) == []  # nobody waits for it


def test_json_is_written_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    disk.write_json(path, {"a": 1})

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        disk.write_json(path, {"a": 2})
    assert disk.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_id() -> None:
    names = ("", ".", "..", "../runs", "a/b", "/etc", "A", "x" * 201, "a\n")
    assert not any(disk.is_identity(name) for name in names)
    assert disk.is_identity("20260101-000000-lora-smollm2-orders-0a1b")


def test_json_files_are_read_here_alone() -> None:
    """Except by files whose code is copied out of the package and runs alone."""
    alone = {"core/disk.py", "takeaway/ranks.py", "models/assets/onnx_weights.py"}
    others = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"json\.loads\(.*read_(text|bytes)\(", path.read_text("utf-8"))
    }
    assert others <= alone
