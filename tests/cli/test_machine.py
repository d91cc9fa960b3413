"""``doctor`` on the command line."""

from __future__ import annotations

import pytest

from peft_lab.cli import machine
from tests.cli.conftest import Run


def test_doctor_reports_what_it_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine.examine()
    found["checks"].append({"name": "Weather", "ok": False, "detail": "[rain] stay in"})
    monkeypatch.setattr(machine, "examine", lambda verify: found)
    document = run("doctor", "--json").document
    assert set(document) == {
        "python",
        "packages",
        "device",
        "cpu_features",
        "memory",
        "assets",
        "speed",
        "checks",
    }
    assert all(set(check) == {"name", "ok", "detail"} for check in document["checks"])
    shown = run("doctor").stdout
    assert "NOT OK" in shown
    assert "[rain] stay in" in shown
