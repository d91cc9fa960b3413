"""compare and sweep on the command line, killed in the middle too."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from peft_lab.runs import store
from peft_lab.runs.tracking import start
from peft_lab.studies.compare import store as comparisons
from tests.cli.conftest import Run
from tests.conftest import link
from tests.prose import says

pytestmark = pytest.mark.weights
TINY = ("--model", "minilm-l6", "--task", "sentiment", "--steps", "3", "--batch", "2", "--eval-rows", "8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "lorra"], "'lora'"),
        (["--methods", ","], "--methods"),
        (["--seeds", "a"], "--seeds"),
        (["--seeds", ""], "1 to 20 seeds"),
        (["--methods", "prefix"], "None of these methods applies"),
        (["--methods", "lora,ia3", "--set", "rr=4"], "knob"),
        (["--steps", "0"], "Steps"),
    ],
)
def test_what_cannot_work_is_one_line(
    run: Run, own_home: Path, assets_home: Path, arguments: list[str], said: str
) -> None:
    link(own_home)
    assert said in run("compare", *TINY[:4], *arguments).refused()
    assert not comparisons.comparisons()


TRIAL = {
    "method",
    "values",
    "seed",
    "run_id",
    "status",
    "loss",
    "metric",
    "seconds",
    "peak_bytes",
    "message",
    "ended_early",
}


@pytest.mark.slow
def test_a_sweep_is_its_rows_and_the_same_file_again_trains_nothing(
    run: Run, tmp_path: Path, own_home: Path
) -> None:
    link(own_home)
    file = tmp_path / "sweep.json"
    wish = {"model": "minilm-l6", "task": "sentiment", "methods": ["bitfit"], "steps": 2, "batch": 4}
    file.write_text(json.dumps({**wish, "eval_rows": 4, "seeds": [0, 1]}))
    rows = run("sweep", str(file), "--json").document["rows"]
    assert [(row["method"], row["seed"], row["status"]) for row in rows] == [
        ("bitfit", 0, "done"),
        ("bitfit", 1, "done"),
    ]
    for row in rows:
        assert set(row) == TRIAL
        assert len(row["loss"]) == 2 and 0 <= row["metric"]["after"] <= 1
        assert isinstance(row["peak_bytes"], int) and row["seconds"] > 0
    assert rows[0]["loss"] != rows[1]["loss"] and "learning_rate" in rows[0]["values"]
    for each in store.runs():
        start.failed_trackers(each.folder, "mlflow", "The network is gone.")
    second = run("sweep", str(file), "--json")
    assert second.document["rows"] == rows and len(store.runs()) == 2
    assert says(second.stderr, "MLflow", 2, "network is gone")


def test_a_file_that_asks_for_nothing_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    assert "cannot be read" in run("sweep", str(file)).refused()
    file.write_text("model: minilm-l6\n")
    assert "has no task" in run("sweep", str(file)).refused()


def test_early_stopping_without_ray_tune_is_refused_and_not_passed_over(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    link(own_home)
    monkeypatch.setitem(sys.modules, "ray.tune.schedulers", None)
    file = tmp_path / "sweep.yaml"
    wish = {"model": "minilm-l6", "task": "sentiment", "methods": ["bitfit"], "steps": 8, "stop": "asha"}
    file.write_text(json.dumps(wish))
    assert says(run("sweep", str(file)).refused(), "stop: asha", "Ray Tune", "peft-lab[cluster]")
    assert store.runs() == []


def test_ray_that_is_not_installed_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    file = tmp_path / "sweep.yaml"
    file.write_text(
        json.dumps({"model": "minilm-l6", "task": "sentiment", "methods": ["bitfit"], "steps": 2})
    )
    said = run("sweep", str(file), "--executor", "ray").refused()
    assert says(said, "Ray", "peft-lab[cluster]", ".[cluster]")


def test_help_names_what_ray_needs(run: Run) -> None:
    """Help is markup, in which an extra's brackets would vanish."""
    assert "'peft-lab[cluster]'" in run("sweep", "--help").stdout
