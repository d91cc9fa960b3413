"""Simulations of the scenarios as they were run, so that quick tests ask the real figures without running them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_lab.advise import simulating

FILE = Path(__file__).parent / "simulated.json"


@pytest.fixture
def kept_simulations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What was simulated for the scenarios and ships with the lab; a simulation that is in neither fails the test."""
    known = {**simulating.shipped_simulations(), **json.loads(FILE.read_text("utf-8"))["bytes"]}

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError(f"not kept: {arguments}; run tools.refresh_choices")

    monkeypatch.setattr(simulating, "shipped_simulations", lambda: known)
    monkeypatch.setattr(simulating, "bytes_needed", refuse)
    monkeypatch.setattr(simulating, "simulate_step", refuse)
    simulating._simulated.cache_clear()
    yield
    simulating._simulated.cache_clear()


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every simulation is run."""
    monkeypatch.setattr(simulating, "shipped_simulations", dict)
    simulating._simulated.cache_clear()
    yield
    simulating._simulated.cache_clear()
