"""A run as MLflow and trackio show it on their own pages."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import link
from tests.runs.tracking.conftest import with_trackers
from tests.runs.tracking.test_real import TRAINS
from tests.waits import SECONDS
from tools.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.weights]


@pytest.fixture(scope="module")
def tracked(assets_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], str]:
    """A lab folder with one run that went to both; the environment for their pages; the run's id."""
    home = tmp_path_factory.mktemp("tracked")
    link(home)
    environment = {**os.environ, **with_trackers(home)}
    command = [sys.executable, "-m", "peft_lab", "train", *TRAINS, "--track", "mlflow,trackio"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    (run,) = (home / "runs").glob("2*")
    return home, environment, run.name


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A fresh page whose own errors are no matter of ours: both trackers' pages ask their server for news every second,
    and say so as an error when it stops before they are closed."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    yield context.new_page()
    context.close()


@contextmanager
def _serving(command: list[str], environment: dict[str, str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline and server.poll() is None, log.read_text("utf-8")[-3000:]
                time.sleep(0.2)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.further
def test_mlflow_draws_the_loss_of_a_run(
    tracked: tuple[Path, dict[str, str], str], page: Page, tmp_path: Path
) -> None:
    home, environment, run = tracked
    store = home / "trackers" / "mlflow.db"
    with sqlite3.connect(store) as database:
        identity, experiment = database.execute("select run_uuid, experiment_id from runs").fetchone()
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{store}"]
    command += ["--port", str(port), "--workers", "1"]
    quiet = {**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with _serving(command, quiet, port, tmp_path / "mlflow.log"):
        base = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs/{identity}"
        page.goto(base)
        expect(page.get_by_text(run).first).to_be_visible()
        expect(page.get_by_text("values.r", exact=True).first).to_be_visible()
        page.goto(f"{base}/model-metrics")
        page.get_by_placeholder("Search metric charts").fill("^loss$")
        curve = page.locator(".js-plotly-plot .scatterlayer .trace path.js-line")
        expect(curve.first).to_be_visible()
        drawn = curve.first.get_attribute("d") or ""
        assert len(re.findall(r"[ML]-?[\d.]+,-?[\d.]+", drawn)) == 2, (
            f"two steps make a line of two points: {drawn}"
        )
        page.goto(f"{base}/artifacts/adapter")
        expect(page.get_by_text("adapter_model.safetensors").first).to_be_visible()


@pytest.mark.further
def test_trackio_draws_the_loss_of_a_run(
    tracked: tuple[Path, dict[str, str], str], page: Page, tmp_path: Path
) -> None:
    home, environment, run = tracked
    port = free_port()
    shown = f"project='peft-lab', open_browser=False, block_thread=True, server_port={port}"
    code = f"import trackio; trackio.show({shown})"
    own = {**environment, "TRACKIO_DIR": str(home / "trackers" / "trackio")}
    with _serving([sys.executable, "-c", code], own, port, tmp_path / "trackio.log"):
        page.goto(f"http://127.0.0.1:{port}/?project=peft-lab")
        expect(page.get_by_text(run).first).to_be_visible()
        expect(page.get_by_text("loss", exact=True).first).to_be_visible()
        expect(page.locator("canvas, svg.marks, .js-plotly-plot").first).to_be_visible()
