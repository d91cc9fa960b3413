"""Both ends of the ranges: what is tried, and what has been tried already."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tools import ends

HERE = {name: version(name) for name in ("peft", "torch", "transformers")}


def test_versions_are_read_of_what_uv_writes() -> None:
    written = (
        "--index-url https://example.org\n# by uv\npeft==0.21.2\nuvloop==0.21.0 ; sys_platform != 'win32'\n"
    )
    assert ends.releases(written) == {"peft": "0.21.2", "uvloop": "0.21.0"}
    assert ends.without_torch(["torch", "nvidia-nccl-cu13", "peft", "triton"]) == ["peft"]


def test_what_is_installed_here_does_not_differ() -> None:
    assert ends.differing(HERE) == {}
    plain = HERE["torch"].partition("+")[0]  # where it was built for says nothing of the release
    assert ends.differing({**HERE, "torch": plain, "pip": "1.0"}) == {}
    other = {**HERE, "peft": "0.1.0", "no-such-package": "1.0"}
    assert ends.differing(other) == {"peft": HERE["peft"], "no-such-package": ""}


@pytest.mark.parametrize("oldest", ["0.1.0", HERE["peft"]])
def test_an_end_is_tried_unless_it_is_what_is_here(
    oldest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(sys, "argv", ["ends", "oldest"])
    monkeypatch.setattr(ends, "resolved", lambda end: {**HERE, "peft": oldest})

    def make(end: str, wanted: dict[str, str]) -> Path:
        asked.append((end, wanted["peft"]))
        return Path("python")

    (tmp_path / ".venv-oldest").mkdir()
    monkeypatch.setattr(ends, "ROOT", tmp_path)
    monkeypatch.setattr(ends, "make", make)
    monkeypatch.setattr(ends, "_run", lambda *command: asked.append(command))
    ends.main()
    said = capsys.readouterr().out
    if oldest == HERE["peft"]:
        assert asked == [] and "make test" in said
    else:
        assert f"peft 0.1.0 ({HERE['peft']})" in said
        made, tested = asked
        assert made == ("oldest", "0.1.0") and tested[:3] == ("python", "-m", "pytest")
        assert set(ends.TESTS) <= set(tested)
    assert (tmp_path / ".venv-oldest").exists() == (asked == [])


def test_the_tests_of_an_end_are_there() -> None:
    assert all((ends.ROOT / path).exists() for path in ends.TESTS)
