"""Send a run to MLflow: at ``MLFLOW_TRACKING_URI``, else in a SQLite file of the lab folder, without a server.

``mlflow-skinny`` with SQLAlchemy and alembic is enough to write and read it; MLflow's own pages need all of ``mlflow``.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from peft_lab.runs.tracking.base import PROJECT, Point
from peft_lab.runs.view import Status

MOST = 1000  # most metrics in one request to MLflow
LONGEST = 6000  # most characters of a parameter
_ENDS = {Status.DONE: "FINISHED", Status.STOPPED: "KILLED"}


class ToMlflow:
    """Implements :class:`peft_lab.runs.tracking.base.Tracker`."""

    def __init__(self, run: str, parameters: Mapping[str, str], home: Path, identity: str) -> None:
        # Send no usage telemetry to MLflow's makers.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._entities: Any = importlib.import_module("mlflow.entities")
        uri = os.environ.get("MLFLOW_TRACKING_URI") or own_store(home)
        self._uri = uri
        # the first of several runs that begin at once creates the store's tables and the experiment
        with FileLock(home / ".mlflow.lock"):
            self._client: Any = importlib.import_module("mlflow").MlflowClient(tracking_uri=uri)
            experiment = self._experiment(home)
        if identity:
            self._client.update_run(identity, status="RUNNING")
            self.identity = identity
        else:
            tags = {"mlflow.source.name": "PEFT Lab", "peft_lab.run": run}
            made = self._client.create_run(experiment, run_name=run, tags=tags)
            self.identity = str(made.info.run_id)
        params = [self._entities.Param(name, value[:LONGEST]) for name, value in parameters.items()]
        self._client.log_batch(self.identity, params=params)

    @property
    def address(self) -> str:
        return f"{without_password(self._uri)}, experiment {PROJECT}"

    def points(self, points: Sequence[Point]) -> None:
        for first in range(0, len(points), MOST):
            part = points[first : first + MOST]
            metrics = [
                self._entities.Metric(each.name, each.value, round(each.time * 1000), each.step)
                for each in part
            ]
            self._client.log_batch(self.identity, metrics=metrics)

    def folder(self, path: Path) -> None:
        self._client.log_artifacts(self.identity, str(path), path.name)

    def end(self, status: Status, message: str) -> None:
        self._client.set_tag(self.identity, "peft_lab.status", str(status))
        if message:
            self._client.set_tag(self.identity, "mlflow.note.content", message)
        self._client.set_terminated(self.identity, _ENDS.get(status, "FAILED"))

    def _experiment(self, home: Path) -> str:
        found = self._client.get_experiment_by_name(PROJECT)
        if found is not None:
            return str(found.experiment_id)
        # a local store keeps artifacts beside it; a server decides itself
        beside = (home / "mlflow-artifacts").as_uri() if self._uri == own_store(home) else None
        return str(self._client.create_experiment(PROJECT, artifact_location=beside))


def own_store(home: Path) -> str:
    """Return the address of the store in the lab folder."""
    return f"sqlite:///{home / 'mlflow.db'}"


def without_password(uri: str) -> str:
    """Return an address without user and password, as it may be shown on a page."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)
