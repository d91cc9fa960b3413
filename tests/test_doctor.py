"""The doctor: says what is, fails nothing by raising, and names the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peft_lab.cli import machine
from peft_lab.core import machine as machine_module
from peft_lab.models.assets import store as assets


@pytest.fixture(scope="module")
def report() -> dict[str, object]:
    return machine.examine()


def test_the_report_has_the_agreed_keys_and_is_json(report: dict[str, object]) -> None:
    assert list(report) == ["python", "packages", "device", "cpu_features", "memory", "assets", "checks"]
    json.dumps(report)


def test_this_environment_passes(report: dict[str, list[dict[str, object]]]) -> None:
    titles = {asset.title for asset in assets.ASSETS.values()}
    failed = [check for check in report["checks"] if not check["ok"] and check["name"] not in titles]
    assert failed == []
    for check in report["checks"]:
        assert set(check) == {"name", "ok", "detail"}
        assert check["detail"]


def test_packages_are_those_required(report: dict[str, dict[str, str]]) -> None:
    assert set(report["packages"]) == set(machine.requirements()) >= {"torch", "peft", "streamlit"}
    assert all(report["packages"].values())


def test_requirements_are_read_without_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text(
        "# a note\n\nscikit-learn>=1.7,<2 # why\ntorch>=2.9\nno-such>=1; sys_platform == 'nowhere' # not here\n"
    )
    monkeypatch.setattr(machine, "REQUIREMENTS", listed)
    assert machine.requirements() == {"scikit-learn": ">=1.7,<2", "torch": ">=2.9"}


def _look(monkeypatch: pytest.MonkeyPatch, name: str) -> dict[str, object]:
    """The one check, without the slow ones."""
    monkeypatch.setattr(machine, "_quantise", lambda: (True, "not looked at"))
    return next(check for check in machine.examine()["checks"] if check["name"] == name)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("torch>=99", ">=99 is needed"), ("no-such-package>=1", "no-such-package is missing")],
)
def test_wrong_and_missing_packages_are_named(
    line: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text(f"{line}\n")
    monkeypatch.setattr(machine, "REQUIREMENTS", listed)
    check = _look(monkeypatch, "Packages")
    assert not check["ok"]
    assert complaint in str(check["detail"])
    assert "pip install -r" in str(check["detail"])


def test_missing_assets_are_reported_with_the_command(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, asset in assets.ASSETS.items():
        check = _look(monkeypatch, asset.title)
        assert not check["ok"]
        assert f"python -m peft_lab fetch {name}" in str(check["detail"])


def test_a_home_that_is_a_file_is_reported(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_home.write_text("")
    check = _look(monkeypatch, "Folder for weights, data and runs")
    assert not check["ok"]


def test_too_little_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "free_memory", lambda: -1)
    assert not _look(monkeypatch, "Memory")["ok"]


def test_what_a_check_raises_is_its_finding() -> None:
    def broken() -> tuple[bool, str]:
        raise OSError("library not found")

    assert machine._check("x", broken) == {"name": "x", "ok": False, "detail": "OSError: library not found"}


def test_processor_features_are_read_from_the_list(tmp_path: Path) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor: 0\nflags\t\t: fpu avx2 avx512_bf16 other\nflags : none\n")
    assert machine_module.cpu_features(listed) == ["avx2", "avx512_bf16"]
    listed.write_text("Features\t: fp asimd bf16\n")
    assert machine_module.cpu_features(listed) == ["asimd", "bf16"]
    assert machine_module.cpu_features(tmp_path / "absent") == []
