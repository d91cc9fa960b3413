"""A run of two steps goes to MLflow and trackio as they are, and is read back through their own libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from peft_lab.runs.store import Run
from peft_lab.runs.tracking import start
from tests.cli.conftest import Run as Command
from tests.cli.conftest import run_process
from tests.conftest import link
from tests.prose import says
from tests.waits import SECONDS

__all__ = ["run_process"]
pytestmark = [pytest.mark.weights, pytest.mark.slow]
TRAINS = ("--model", "minilm-l6", "--method", "lora", "--task", "sentiment", "--set", "r=4", "--steps", "2",
          "--batch", "2", "--eval-rows", "4")  # fmt: skip
_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1])
found = client.search_runs([client.get_experiment_by_name("peft-lab").experiment_id])
def told(run):
    told = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    history = {name: [(each.step, each.value) for each in rows] for name, rows in told.items()}
    files = [each.path for each in client.list_artifacts(run.info.run_id, "adapter")]
    return {"name": run.info.run_name, "status": run.info.status, "params": run.data.params, "history": history,
            "files": files}
print(json.dumps([told(run) for run in found]))
"""
_TRACKIO = """
import json
import trackio
from trackio.sqlite_storage import SQLiteStorage
runs = list(trackio.Api().runs("peft-lab"))
print(json.dumps([{"name": run.name, "config": run.config, "logs": SQLiteStorage.get_logs("peft-lab", run.name),
                   "artifacts": [each["name"] for each in SQLiteStorage.list_artifacts("peft-lab")]} for run in runs]))
"""


def _asked(code: str, environment: dict[str, str], *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def _in_mlflow(home: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _asked(_MLFLOW, environment, f"sqlite:///{home / 'trackers' / 'mlflow.db'}")
    return found


def _in_trackio(home: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _asked(
        _TRACKIO, {**environment, "TRACKIO_DIR": str(home / "trackers" / "trackio")}
    )
    return found


def _wait(home: Path, ids: Iterable[str], trackers: tuple[str, ...]) -> None:
    """Until the processes that follow these runs, which outlive the command, have told all."""

    for identity in ids:
        start.wait(Run(identity, home / "runs" / identity), trackers)


_OPENS = """
import sys
from pathlib import Path
from peft_lab.runs.view import Status
from peft_lab.runs.tracking.follow import ToMlflow
ToMlflow(sys.argv[2], {}, Path(sys.argv[1]), "").end(Status.DONE, "")
"""


@pytest.mark.further
@pytest.mark.rest
def test_runs_that_begin_at_once_make_one_new_store(trackers: dict[str, str], tmp_path: Path) -> None:
    """As on a cluster: MLflow's own first steps in a new store failed where two took them at once."""
    paths = os.pathsep.join((trackers["PYTHONPATH"], str(Path(__file__).parents[3])))
    environment = {**os.environ, **trackers, "PYTHONPATH": paths}
    store = tmp_path / "trackers"
    store.mkdir()
    opening = [
        subprocess.Popen(
            [sys.executable, "-c", _OPENS, str(store), f"run-{number}"],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for number in range(3)
    ]  # fmt: skip
    told = [(each.communicate()[1], each.returncode) for each in opening]
    assert [code for _, code in told] == [0, 0, 0], told
    assert sorted(run["name"] for run in _in_mlflow(tmp_path, trackers)) == ["run-0", "run-1", "run-2"]


@pytest.mark.further
def test_a_run_stands_in_both_with_parameters_curves_and_adapter(
    trackers: dict[str, str], tmp_path: Path, run_process: Command
) -> None:
    link(tmp_path)
    done = run_process("train", *TRAINS, "--track", "mlflow,trackio", "--json", **trackers)
    assert done.status == 0, done.stderr
    record = json.loads(done.stdout)
    assert "MLflow: sqlite:///" in done.stderr
    assert "trackio: " in done.stderr

    (run,) = _in_mlflow(tmp_path, trackers)
    assert (run["name"], run["status"]) == (record["run_id"], "FINISHED")
    assert run["params"]["values.r"] == "4"
    assert run["params"]["trainable"] == str(record["trainable"])
    assert run["history"]["loss"] == [[number, loss] for number, loss in enumerate(record["loss"], 1)]
    assert run["history"]["tuned/accuracy"] == [[2, record["metric"]["after"]]]
    assert run["history"]["base/accuracy"] == [[0, record["metric"]["before"]]]
    assert run["history"]["memory/peak_bytes"] == [[2, record["memory"]["peak_bytes"]]]
    assert "adapter/adapter_model.safetensors" in run["files"]

    (other,) = _in_trackio(tmp_path, trackers)
    assert other["name"] == record["run_id"]
    assert other["config"]["values.r"] == "4"
    losses = {row["step"]: row["loss"] for row in other["logs"] if "loss" in row}
    assert losses == dict(enumerate(record["loss"], 1))
    assert any(row.get("tuned/accuracy") == record["metric"]["after"] for row in other["logs"])
    assert other["artifacts"] == [record["run_id"]]


@pytest.mark.further
@pytest.mark.rest
def test_runs_on_ray_are_told_by_the_command_that_hands_them_out(
    trackers: dict[str, str], tmp_path: Path, run_process: Command
) -> None:
    """Nodes need no tracker, and none of their environment: the command follows what they write."""
    link(tmp_path)
    # Without an address Ray joins the cluster that was last begun on this machine: another test's, which ends it.
    alone = ("--executor", "ray", "--address", "local")
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps({
        "model": "minilm-l6", "task": "sentiment", "methods": ["bitfit"], "seeds": [0, 1], "steps": 2, "batch": 2,
        "eval_rows": 0,
    }))  # fmt: skip
    swept = run_process("sweep", str(file), *alone, "--track", "mlflow,trackio", "--json", **trackers)
    assert swept.status == 0, swept.stderr
    ids = {run.name for run in (tmp_path / "runs").iterdir() if run.name[0] != "."}
    assert len(ids) == 2
    _wait(tmp_path, ids, ("mlflow", "trackio"))
    found = {run["name"]: run for run in _in_mlflow(tmp_path, trackers)}
    assert found.keys() == {run["name"] for run in _in_trackio(tmp_path, trackers)} == ids
    assert all(len(run["history"]["loss"]) == 2 and run["status"] == "FINISHED" for run in found.values())


@pytest.mark.further
def test_a_server_that_does_not_answer_fails_no_run(
    trackers: dict[str, str], tmp_path: Path, run_process: Command
) -> None:
    link(tmp_path)
    nobody = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = run_process("train", *TRAINS, "--track", "mlflow", "--json", **trackers, **nobody)
    assert done.document["status"] == "done"
    assert says(done.stderr, "MLflow", "not receive")
    said = run_process("runs", done.document["run_id"], "--json", **trackers).document["tracking"]
    assert [each["complete"] for each in said] == [False]
    assert "127.0.0.1" in said[0]["problem"]


def test_a_name_that_is_no_tracker_is_refused_before_anything_runs(
    run_process: Command, tmp_path: Path
) -> None:
    for arguments, environment in (
        (("--track", "wandb"), {}),
        ((), {"PEFT_LAB_TRACK": "wandb"}),
    ):
        done = run_process("train", *TRAINS, *arguments, **environment)
        assert says(done.refused(), "wandb", "mlflow", "trackio")
