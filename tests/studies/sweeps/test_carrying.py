"""A sweep's driver: killed at any moment it loses nothing and does nothing twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import RunError
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies import carrying as studies_carrying
from peft_lab.studies.compare.store import Comparison, ComparisonRequest, make_plan
from peft_lab.studies.store import runs_of
from peft_lab.studies.sweeps import plan
from peft_lab.studies.sweeps import store as carrying
from tests.conftest import link
from tests.studies.sweeps.made import Killed, Stand
from tests.waits import SECONDS

pytestmark = pytest.mark.weights
ROUNDS = 8
WISH = {
    "model": "minilm-l6",
    "task": "sentiment",
    "methods": ["lora"],
    "steps": 3,
    "batch": 4,
    "eval_rows": 0,
}


def lose(specs: tuple[RunSpec, ...]) -> None:
    """What a driver that is gone held is lost."""
    for run in runs_of(specs):
        if run is not None and not run.status().final:
            run.log.emit("lost", message="gone")


@pytest.fixture
def home(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    link(own_home)
    monkeypatch.setattr(studies_carrying, "POLL", 0.0)
    return own_home


@pytest.mark.parametrize("slots", [1, 3])
def test_fifty_kills_lose_nothing_and_do_nothing_twice(home: Path, slots: int) -> None:
    specs = plan.sweep_of({**WISH, "seeds": list(range(6)), "grid": {"learning_rate": [0.001, 0.002]}}).specs
    chance, kills = random.Random(slots), 0
    while kills < 50:
        try:
            carrying.carry_out_sweep(
                specs, Stand(slots, chance.randint(1, 12)), lambda *_: None, lambda: False
            )
        except Killed:
            kills += 1
            lose(specs)
        else:  # carried out to its end before the fiftieth: once more from the start
            for run in store.runs():
                store.remove(run)
    rows = carrying.carry_out_sweep(specs, Stand(slots), lambda *_: None, lambda: False)
    assert [(row["status"], row["seed"], row["values"]["learning_rate"]) for row in rows] == [
        ("done", spec.seed, spec.learning_rate) for spec in specs
    ]
    assert all(row["loss"] == [1, 1 / 2, 1 / 3] for row in rows)
    # one folder for each run, even of those that were begun often
    assert Counter(run.status() for run in store.runs()) == {Status.DONE: len(specs)}
    assert len({row["run_id"] for row in rows}) == len(specs)


def test_what_fails_is_told_and_tried_again_by_the_next_command_only(home: Path) -> None:
    specs = plan.sweep_of(WISH).specs

    class Failing(Stand):
        def look(self) -> None:
            for run in self._going:
                run.log.emit("failed", message="memory ran out")
            self._going.clear()

    stand = Failing()
    (row,) = carrying.carry_out_sweep(specs, stand, lambda *_: None, lambda: False)
    assert (row["status"], row["message"]) == ("failed", "memory ran out")
    (row,) = carrying.carry_out_sweep(specs, Stand(), lambda *_: None, lambda: False)
    assert row["status"] == "done" and len(store.runs()) == 1


def test_a_sweep_is_carried_out_by_one_command_at_a_time(home: Path) -> None:
    specs = plan.sweep_of(WISH).specs

    class Nosy(Stand):
        def start(self, spec: RunSpec) -> str:
            with pytest.raises(RunError, match="already running"):
                carrying.carry_out_sweep(specs, Stand(), lambda *_: None, lambda: False)
            return super().start(spec)

    (row,) = carrying.carry_out_sweep(specs, Nosy(), lambda *_: None, lambda: False)
    assert row["status"] == "done"


def test_a_comparison_is_carried_out_by_the_same_carrier_on_any_executor(
    home: Path, assets_home: Path
) -> None:
    """Several at a time; what was cut off goes on in its own folder, and the machines are those that trained."""
    request = ComparisonRequest("minilm-l6", "sentiment", ("lora", "bitfit"), steps=3, batch=4, seeds=(0, 1))
    comparison = Comparison.create("one", make_plan(request).to_dict())
    machines = [{"processor": "a node's"}, {"processor": "another's"}]
    with pytest.raises(Killed):
        studies_carrying.carry_out(comparison, Stand(3, 9), machines[:1])
    lose(tuple(comparison.specs))
    most = 0

    def watch(_done: int, total: int, going: Sequence[Run]) -> None:
        nonlocal most
        most = max(most, len(going))
        assert total == 4

    assert studies_carrying.carry_out(comparison, Stand(3), machines, watch)
    assert comparison.standing().status == "done" and comparison.machines == machines and most == 3
    assert len(store.runs()) == 4, "none was begun in a second folder"


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.rest
def test_the_command_killed_at_random_moments_ends_as_one_that_was_not(home: Path, tmp_path: Path) -> None:
    """``kill -9`` of the driver, for real; its run goes on from its last state."""
    file = tmp_path / "sweep.yaml"
    wish: dict[str, Any] = {**WISH, "steps": 12, "seeds": [0, 1], "grid": {"learning_rate": [0.001, 0.002]}}
    file.write_text(json.dumps(wish))
    chance = random.Random(18)
    for _ in range(ROUNDS):
        driver = _command(file)
        try:
            driver.wait(chance.uniform(4, 20))
            break
        except subprocess.TimeoutExpired:
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
    ended = _command(file)
    out, problem = ended.communicate(timeout=SECONDS)
    assert ended.returncode == 0, problem
    rows = json.loads(out)["rows"]
    assert [row["status"] for row in rows] == ["done"] * 4
    assert all(len(row["loss"]) == 12 for row in rows)
    assert Counter(run.status() for run in store.runs()) == {Status.DONE: 4}


def _command(file: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "peft_lab", "sweep", str(file), "--json"]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
