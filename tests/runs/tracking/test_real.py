"""A run of two steps goes to MLflow and trackio as they are, and is read back through their own libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
