"""A sweep on a Ray cluster: its runs are this machine's, and a killed node or driver loses and repeats nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from peft_lab.core import processes
from peft_lab.core.errors import BadInput
from peft_lab.core.machine import describe_machine
from peft_lab.runs import child, owners, store, waiting
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.runs.waiting import unfinished
from peft_lab.studies.on_ray import OnRay
from peft_lab.studies.sweeps import plan
from peft_lab.studies.sweeps import store as carrying
from tests.conftest import link

pytestmark = [pytest.mark.weights, pytest.mark.slow]
STEPS = 60
WISH: dict[str, Any] = {
    "model": "minilm-l6",
    "task": "sentiment",
    "methods": ["lora"],
    "steps": STEPS,
    "batch": 4,
    "eval_rows": 8,
    "seeds": [0, 1, 2],  # one more than nodes, so that one waits
    "grid": {"learning_rate": [0.001]},
}
SECONDS = 600


@pytest.fixture
def home(own_home: Path) -> Path:
    link(own_home)
    return own_home


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that trains nothing, and two nodes with a processor each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1)
        made.wait_for_nodes()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()  # type: ignore[no-untyped-call]


def carried(cluster: Cluster, watch: Callable[[list[Run]], None] = lambda _: None) -> list[dict[str, Any]]:
    executor = OnRay(cluster.address)
    until = time.monotonic() + SECONDS
    try:
        return carrying.carry_out_sweep(
            plan.sweep_of(WISH).specs,
            executor,
            lambda _done, _all, going: watch(list(going)),
            lambda: time.monotonic() > until,
        )
    finally:
        executor.close()


def trained_once(rows: list[dict[str, Any]]) -> None:
    """Every run is done, in one folder, with every step once."""
    assert [(row["status"], row["message"]) for row in rows] == [("done", "")] * 3
    assert len({row["run_id"] for row in rows}) == 3
    assert Counter(run.status() for run in store.runs()) == {Status.DONE: 3}
    for row in rows:
        steps = [e["step"] for e in store.get(row["run_id"]).events() if e["type"] == "step"]
        assert steps == list(range(1, STEPS + 1))


def far(runs: list[Run], steps: int) -> list[Run]:
    return [run for run in runs if run.view().step >= steps]


def command(file: Path, cluster: Cluster) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "peft_lab", "sweep", str(file), "--json", "--executor", "ray"]
    line += ["--address", cluster.address]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.rest
@pytest.mark.further
def test_a_node_that_is_killed_in_the_middle_repeats_no_finished_step(home: Path, cluster: Cluster) -> None:
    (node, _) = cluster.worker_nodes
    killed: list[Run] = []

    def watch(going: list[Run]) -> None:
        if not killed and len(far(going, 15)) == 2:
            killed.extend(going)
            cluster.remove_node(node, allow_graceful=False)

    rows = carried(cluster, watch)
    assert len(killed) == 2
    trained_once(rows)
    went_on = [
        event["continued"]
        for run in killed
        for event in run.events()
        if event["type"] == "queued" and "continued" in event
    ]
    assert len(went_on) == 1 and went_on[0] >= 10, "it went on from its state, not from the start"


@pytest.mark.rest
@pytest.mark.further
def test_a_driver_that_is_killed_is_followed_by_one_that_repeats_nothing(
    home: Path, cluster: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(WISH))
    first = command(file, cluster)
    until = time.monotonic() + SECONDS
    while not far(store.runs(), 12):
        assert first.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = {run.id for run in store.runs()}
    second = command(file, cluster)
    out, problem = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, problem
    rows = json.loads(out)["rows"]
    trained_once(rows)
    assert before <= {row["run_id"] for row in rows}


def trained_here(home: Path) -> list[float]:
    """The losses of the sweep's first run on this machine, with as many threads as a node's processor: more of them add
    up in another order."""
    run = store.create(plan.sweep_of(WISH).specs[0], owners.myself())
    making: Any = processes.context()
    here = making.Process(
        target=child.carry_elsewhere, args=(str(run.folder), str(home), waiting.turn_number(run), 1)
    )
    here.start()
    here.join(SECONDS)
    return list(run.view().losses)


@pytest.mark.rest  # all that trains on Ray's nodes takes minutes: before a release
@pytest.mark.further
def test_two_nodes_train_two_at_a_time_what_this_machine_trains(home: Path, cluster: Cluster) -> None:
    together: set[int] = set()

    def watch(going: list[Run]) -> None:
        together.add(len(far(going, 1)))
        assert not unfinished(), "a run of the cluster holds up none of this machine's"

    rows = carried(cluster, watch)
    trained_once(rows)
    assert 2 in together
    assert trained_here(home) == rows[0]["loss"]


def test_what_no_node_has_is_told_before_anything_starts(home: Path, cluster: Cluster) -> None:
    with pytest.raises(BadInput, match="64 processors"):
        OnRay(cluster.address, cpus=64)
    with pytest.raises(BadInput, match="and 1 GPUs"):
        OnRay(cluster.address, gpus=1)
    assert not ray.is_initialized()
    assert not store.runs()


def test_a_dead_address_is_told_at_once(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(BadInput, match=f"127.0.0.1:{port}: .*refused"):
        OnRay(f"127.0.0.1:{port}")
    assert not ray.is_initialized()


@pytest.mark.rest
@pytest.mark.further
def test_a_comparison_trains_on_two_nodes_and_is_not_repeated(home: Path, cluster: Cluster) -> None:
    asking = ["compare", "--model", "minilm-l6", "--task", "sentiment", "--methods", "bitfit,ia3", "--seeds"]
    asking += ["0,1", "--steps", "20", "--batch", "4", "--eval-rows", "8", "--json", "--executor", "ray"]
    whole = [sys.executable, "-m", "peft_lab", *asking, "--address", cluster.address]
    first = subprocess.run(whole, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert (told["done"], told["total"], told["status"]) == (4, 4, "done")
    assert [(row["method"], row["status"]) for row in told["rows"]] == [("bitfit", "done"), ("ia3", "done")]
    assert told["machines"] == [describe_machine()], "the nodes', which are this machine twice"
    before = {run.id: run.events() for run in store.runs()}
    assert {
        event.get("carrier") for seen in before.values() for event in seen if event["type"] == "queued"
    } == {"ray"}
    spans = [(seen[0]["time"], seen[-1]["time"]) for seen in before.values()]
    assert any(a[0] < b[0] < a[1] for a in spans for b in spans if a != b), "two at a time"
    again = subprocess.run(whole, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert again.returncode == 0, again.stderr
    assert {run.id: run.events() for run in store.runs()} == before
