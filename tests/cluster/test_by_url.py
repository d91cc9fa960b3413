"""A sweep on nodes that do not see the lab folder: runs go and come by an fsspec URL."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from peft_lab.runs import store
from peft_lab.studies.by_url import UNTOLD
from peft_lab.studies.on_ray import FOLDER
from tests.cluster.test_on_ray import (
    SECONDS,
    WISH,
    carried_past_a_killed_driver,
    carried_past_a_killed_node,
    command,
    far,
    trained_here,
    two_nodes,
)
from tests.conftest import link

# before a release, as what trains on Ray (test_on_ray.py)
pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.further, pytest.mark.rest]


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
    for node in nodes:
        link(node)
    with two_nodes(*nodes) as made:
        yield Apart(made, own_home, nodes, bucket)


def test_a_node_that_is_killed_loses_nothing_of_what_came_by_the_url(apart: Apart) -> None:
    def here() -> None:
        assert all(list((each / FOLDER).glob("*/*/spec.json")) for each in apart.nodes)

    rows = carried_past_a_killed_node(apart.cluster, apart.url, here)
    for row in rows:
        run = store.get(row["run_id"])
        assert (run.adapter / "adapter_model.safetensors").is_file() and run.record()["status"] == "done"
    apart.nothing_left()
    # the same figures as on this machine, also of the run that was cut off
    assert trained_here(apart.home) == rows[0]["loss"]


def test_a_driver_that_is_killed_is_followed_by_one_that_fetches_what_there_is(
    apart: Apart, tmp_path: Path
) -> None:
    carried_past_a_killed_driver(apart.cluster, tmp_path, "--store", apart.url)
    apart.nothing_left()


def test_a_url_that_is_away_for_a_while_is_told_once_and_loses_nothing(apart: Apart, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps({**WISH, "steps": 300, "seeds": [0, 1]}))
    asking = command(file, apart.cluster, "--store", apart.url)
    until = time.monotonic() + SECONDS
    while len(far(store.runs(), 5)) < 2:
        assert asking.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    kept = apart.bucket.rename(tmp_path / "away")
    apart.bucket.write_text("no folder: everything that is asked of it fails")
    time.sleep(UNTOLD + 4)
    apart.bucket.unlink()
    kept.rename(apart.bucket)
    out, told = asking.communicate(timeout=SECONDS)
    assert asking.returncode == 0, told
    assert [(row["status"], len(row["loss"])) for row in json.loads(out)["rows"]] == [("done", 300)] * 2
    assert told.count(f"{apart.url} cannot be read") == 1
    assert told.count(f"{apart.url} answers again") == 1
    apart.nothing_left()
