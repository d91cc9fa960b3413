"""Send a run to trackio: in ``TRACKIO_DIR``, else in the lab folder, one SQLite file per project; or where
trackio's own ``TRACKIO_SERVER_URL`` and ``TRACKIO_SPACE_ID`` point."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from peft_lab.core.errors import RunError
from peft_lab.runs.tracking.base import PROJECT, Point
from peft_lab.runs.tracking.to_mlflow import without_password
from peft_lab.runs.view import Status

_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class ToTrackio:
    """Implements :class:`peft_lab.runs.tracking.base.Tracker`. trackio's name of a run is the run's id."""

    def __init__(self, run: str, parameters: Mapping[str, str], home: Path, identity: str) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(own_store(home)))
        # trackio reports errors as warnings, also from its own threads; collect them to raise them as an error
        self._warned: list[str] = []
        warnings.showwarning = lambda message, *rest, **more: self._warned.append(str(message))
        warnings.filterwarnings("always", message=r"trackio\b.*")
        self._library: Any = importlib.import_module("trackio")
        self._told = self._library.init(
            PROJECT, name=run, config=dict(parameters), resume="must" if identity else "never", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        self.identity = str(self._told.name)
        if not identity and self.identity != run:
            raise RunError(f"trackio has a run called '{run}' already.")

    @property
    def address(self) -> str:
        elsewhere = next((os.environ[name] for name in _ELSEWHERE if os.environ.get(name)), "")
        return f"{without_password(elsewhere) or os.environ['TRACKIO_DIR']}, project {PROJECT}"

    def points(self, points: Sequence[Point]) -> None:
        for step, together in groupby(points, key=lambda point: point.step):
            rows = list(together)
            # trackio stamps a row on arrival, so the run's elapsed seconds are sent along
            self._told.log({**{each.name: each.value for each in rows}, "elapsed": rows[-1].since}, step=step)
        self._require_told()

    def folder(self, path: Path) -> None:
        self._told.log_artifact(str(path), name=self.identity, type="model")
        self._require_told()

    def end(self, status: Status, message: str) -> None:
        if status is not Status.DONE:
            level = self._library.AlertLevel.WARN
            self._told.alert(title=f"{self.identity} {status}", text=message or None, level=level)
        self._told.finish()
        self._require_told()

    def _require_told(self) -> None:
        said = next((text for text in self._warned if "trackio" in text.lower()), "")
        if said:
            raise RunError(said)


def own_store(home: Path) -> Path:
    """Return the folder of the store in the lab folder."""
    return home / "trackio"
