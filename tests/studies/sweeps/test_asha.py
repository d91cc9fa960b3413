"""Early stopping: who is ended at which rung, what is recorded of it, and that the next command keeps to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peft_lab.runs import checkpoints, store
from peft_lab.studies import carrying as studies_carrying
from peft_lab.studies.sweeps import plan
from peft_lab.studies.sweeps import store as carrying
from tests.conftest import link
from tests.studies.sweeps.made import Killed, Stand

pytestmark = pytest.mark.weights
STEPS = 16
RATES = (0.005, 0.001, 0.004, 0.006, 0.002, 0.0005)
WISH: dict[str, Any] = {
    "model": "minilm-l6",
    "task": "sentiment",
    "methods": ["lora"],
    "steps": STEPS,
    "batch": 4,
    "eval_rows": 0,
    "grid": {"learning_rate": list(RATES)},
    "stop": {"by": "asha", "grace": 4, "factor": 2},
}


@pytest.fixture(autouse=True)
def home(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    link(own_home)
    monkeypatch.setattr(studies_carrying, "POLL", 0.0)
    return own_home


def standing(moments: int = 0) -> Stand:
    """Runs whose loss is their rate."""
    return Stand(1, moments, lambda spec, _: spec.learning_rate)


def carried(stand: Stand, wish: dict[str, Any] = WISH) -> list[dict[str, Any]]:
    wanted = plan.sweep_of(wish)
    return carrying.carry_out_sweep(wanted.specs, stand, lambda *_: None, lambda: False, wanted.early)


def expected() -> dict[float, int | None]:
    """By the rule as its paper and Ray's manual have it: the rung at which each rate ends when they come one by one."""
    found: dict[float, int | None] = {}
    came: dict[int, list[float]] = {4: [], 8: []}
    for rate in RATES:
        found[rate] = None
        for rung, before in came.items():
            bad = bool(before) and rate > np.percentile(before, 100 / 2)
            before.append(rate)
            if bad:
                found[rate] = rung
                break
    return found


def test_runs_are_ended_where_the_rule_ends_them_and_recorded_so() -> None:
    rows = carried(standing())
    by_rate = {row["values"]["learning_rate"]: row for row in rows}
    truth = expected()
    assert {rate: (row["ended_early"] or {}).get("rung") for rate, row in by_rate.items()} == truth
    assert set(truth.values()) == {None, 4}
    for rate, row in by_rate.items():
        if truth[rate] is None:
            assert row["status"] == "done" and len(row["loss"]) == STEPS
        else:
            assert row["status"] == "stopped" and row["metric"]["after"] is None
            assert row["ended_early"] == {"rung": 4, "loss": rate, "steps": len(row["loss"])}
            assert 4 <= len(row["loss"]) < STEPS
            assert f"rung at step 4) after {len(row['loss'])} of 16 steps" in row["message"]
    (kept,) = carrying.sweeps()
    found = carrying.trials(kept.specs)
    assert [trial.status == carrying.EARLY for trial in found] == [truth[rate] is not None for rate in RATES]
    best = carrying.best_setting(carrying.settings_of(found, carrying.varied(kept.specs)), carrying.TRAINING)
    assert best is not None and best.values == {"learning_rate": min(RATES)}


def test_a_command_after_kills_keeps_every_decision() -> None:
    seen: dict[tuple[str, int], bool] = {}
    for looks in range(3, 60, 4):
        try:
            rows = carried(standing(looks))
            break
        except Killed:
            for run in store.runs():
                verdicts = checkpoints.read_early(run)
                for rung in verdicts.rungs if verdicts else ():
                    assert seen.setdefault((run.id, rung.step), rung.goes_on) == rung.goes_on
                if not run.status().final:
                    run.log.emit("lost", message="gone")
    else:
        rows = carried(standing())
    assert any(seen.values()) and not all(seen.values())
    before = {run.id: run.events() for run in store.runs()}
    assert carried(standing()) == rows and {run.id: run.events() for run in store.runs()} == before
    ended = {row["run_id"] for row in rows if row["ended_early"]}
    assert ended >= {run for (run, _), goes_on in seen.items() if not goes_on}


def test_whoever_asks_for_full_runs_gets_them() -> None:
    """The same runs without ``stop`` are another sweep: what was ended early goes on."""
    assert any(row["ended_early"] for row in carried(standing()))
    rows = carried(standing(), {name: value for name, value in WISH.items() if name != "stop"})
    assert [(row["status"], row["ended_early"], len(row["loss"])) for row in rows] == [
        ("done", None, STEPS)
    ] * len(RATES)
    assert len(store.runs()) == len(RATES) and len(carrying.sweeps()) == 2
