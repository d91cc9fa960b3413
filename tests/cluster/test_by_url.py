"""A sweep on nodes that do not see the lab folder: runs go and come by an fsspec URL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from peft_lab.queue import elsewhere
from peft_lab.runs import hold, owners, store
from peft_lab.runs.store import Run
from peft_lab.sweeping import asked, carrying
from peft_lab.sweeping.on_node import FOLDER
from peft_lab.sweeping.on_ray import OnRay
from peft_lab.workers import processes
from tests.cluster.test_on_ray import SECONDS, WISH, far, trained_once
from tests.conftest import link

pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.further]


@dataclass(frozen=True)
class Apart:
    """A cluster whose nodes have lab folders of their own, that of whoever asks, and the URL between them."""

    cluster: Cluster
    home: Path
    nodes: list[Path]
    bucket: Path

    @property
    def url(self) -> str:
        return self.bucket.as_uri()

    def nothing_left(self) -> None:
        """What was on its way is nowhere else any more; the nodes never made a run of their own."""
        assert not [path for path in self.bucket.rglob("*") if path.is_file()]
        for node in self.nodes:
            assert not (node / "runs").exists()


@pytest.fixture
def apart(own_home: Path, tmp_path: Path) -> Iterator[Apart]:
    link(own_home)
    nodes = [tmp_path / "node-1", tmp_path / "node-2"]
    (bucket := tmp_path / "bucket").mkdir()
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for node in nodes:
        link(node)
        made.add_node(num_cpus=1, env_vars={"PEFT_LAB_HOME": str(node)})
    made.wait_for_nodes()
    yield Apart(made, own_home, nodes, bucket)
    ray.shutdown()
    made.shutdown()  # type: ignore[no-untyped-call]


def test_a_node_that_is_killed_loses_nothing_of_what_came_by_the_url(apart: Apart) -> None:
    (node, _) = apart.cluster.worker_nodes
    killed: list[Run] = []
    executor, until = OnRay(apart.cluster.address, store=apart.url), time.monotonic() + SECONDS

    def watch(_done: int, _all: int, going: Any) -> None:
        if not killed and len(far(list(going), 15)) == 2:
            assert all(list((each / FOLDER).glob("*/*/spec.json")) for each in apart.nodes)
            killed.extend(going)
            apart.cluster.remove_node(node, allow_graceful=False)

    try:
        rows = carrying.carry_out(asked.of(WISH).specs, executor, watch, lambda: time.monotonic() > until)
    finally:
        executor.close()
    assert len(killed) == 2
    trained_once(rows)
    went_on = [
        event["continued"]
        for run in killed
        for event in run.events()
        if event["type"] == "queued" and "continued" in event
    ]
    assert len(went_on) == 1 and went_on[0] >= 10, "it went on from its state, not from the start"
    for row in rows:
        run = store.get(row["run_id"])
        assert (run.adapter / "adapter_model.safetensors").is_file() and run.record()["status"] == "done"
    apart.nothing_left()

    # the same figures as on this machine, also of the run that was cut off
    made = store.create(asked.of(WISH).specs[0], owners.myself())
    making: Any = processes.context()
    turn = (str(made.folder), str(apart.home), hold.turn(made), 1)
    here = making.Process(target=elsewhere.carry, args=turn)
    here.start()
    here.join(SECONDS)
    assert list(made.view().losses) == rows[0]["loss"]


def test_a_driver_that_is_killed_is_followed_by_one_that_fetches_what_there_is(
    apart: Apart, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(WISH))
    command = [sys.executable, "-m", "peft_lab", "sweep", str(file), "--json", "--executor", "ray"]
    command += ["--address", apart.cluster.address, "--store", apart.url]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + SECONDS
    while not far(store.runs(), 12):
        assert first.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = {run.id for run in store.runs()}
    second = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert second.returncode == 0, second.stderr
    rows = json.loads(second.stdout)["rows"]
    trained_once(rows)
    assert before <= {row["run_id"] for row in rows}
    apart.nothing_left()
