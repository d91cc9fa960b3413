"""``compare`` on the command line, killed in its middle too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peft_lab.runs import store
from peft_lab.studies.compare import store as comparisons
from tests.cli.conftest import REPO, Run
from tests.conftest import link
from tests.waits import SECONDS, until

pytestmark = pytest.mark.weights
TINY = ("--model", "minilm-l6", "--task", "sentiment", "--steps", "3", "--batch", "2", "--eval-rows", "8")
ROW = {
    "method",
    "trainable",
    "metric_mean",
    "metric_std",
    "seconds",
    "peak_bytes",
    "stored_bytes",
    "added_seconds",
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "lorra"], "'lora'"),
        (["--methods", ","], "--methods"),
        (["--seeds", "a"], "--seeds"),
        (["--seeds", ""], "1 to 20 seeds"),
        (["--axes", "trainable"], "--axes"),
        (["--axes", "trainable,acuracy"], "axis"),
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


def done() -> int:
    return sum(summary.status == "done" for summary in store.summaries())


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.rest
def test_killed_in_its_middle_it_goes_on_and_repeats_nothing(own_home: Path, assets_home: Path) -> None:
    link(own_home)
    command = [
        sys.executable,
        "-m",
        "peft_lab",
        "compare",
        *TINY,
        "--methods",
        "lora,bitfit,prefix",
        "--seeds",
        "0",
        "--json",
    ]
    first = subprocess.Popen(
        command, cwd=REPO, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    until(lambda: done() >= 1 and len(store.runs()) > done())
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = {summary.id for summary in store.summaries() if summary.status == "done"}
    assert len(kept) == 1
    (comparison,) = comparisons.comparisons()
    assert comparison.standing().status == "interrupted"
    second = subprocess.run(
        command, cwd=REPO, env=dict(os.environ), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert second.returncode == 0, second.stderr + second.stdout
    found = json.loads(second.stdout)
    used = {identity for row in found["rows"] for identity in row["runs"]}
    assert kept <= used and len(used) == found["total"] == found["done"] == 2
    assert {row["method"]: row["status"] for row in found["rows"]} == {
        "lora": "done",
        "bitfit": "done",
        "prefix": "does not apply",
    }
    assert set(found["rows"][0]) >= ROW
    assert set(found["pareto"]) <= {"lora", "bitfit"} and found["pareto"]
    assert "Comparing" in second.stderr and "does not apply: prefix" in second.stderr
    # finished: asked again, it answers from what is there, also about other axes
    third = subprocess.run(
        [*command, "--axes", "peak_bytes,metric_mean"], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert json.loads(third.stdout)["rows"] == found["rows"]
    # what was cut short saved what it had (stopped), or was killed before it could (lost)
    assert len(store.runs()) == 2 + sum(
        summary.status in ("lost", "stopped") for summary in store.summaries()
    )


@pytest.mark.further
@pytest.mark.slow
def test_a_signal_stops_it_after_the_step(own_home: Path, assets_home: Path) -> None:
    link(own_home)
    command = [
        sys.executable,
        "-m",
        "peft_lab",
        "compare",
        *TINY[:4],
        "--steps",
        "20000",
        "--batch",
        "2",
        "--seeds",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--methods", "lora,bitfit"],
        cwd=REPO,
        env=dict(os.environ),
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: any(summary.status == "running" for summary in store.summaries()))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + signal.SIGINT
    assert "0 of 2 runs are done" in said
    assert [summary.status for summary in store.summaries()] == ["stopped"]
