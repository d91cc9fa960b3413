"""A plan's script tells of itself: launched by accelerate in two processes, and read as a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peft_lab.advise.plans import configs, steps
from peft_lab.advise.plans.configs import layer_class
from peft_lab.advise.plans.wanted import NAME
from peft_lab.runs.events import read_events
from peft_lab.runs.view import Status, view
from peft_lab.takeaway import ranks
from tests.advise.plans.test_script import STEP, planned
from tests.waits import SECONDS, until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_without_a_folder_nothing_is_told(folder: Path) -> None:
    hook = sys.excepthook
    ranks.begin_telling(None, {}, {})
    ranks.tell(None, "step", step=1)
    assert not folder.exists() and sys.excepthook is hook


def test_what_was_made_before_stays_and_what_is_made_again_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    ranks.begin_telling(folder, {"model": "m"}, {"trainable": 3})
    for number in (1, 2, 3):
        ranks.tell(folder, "step", step=number, loss=1.0, lr=0.1, tokens=4, seconds=0.1)
    ranks.tell(folder, "failed", message="gone")
    ranks.begin_telling(folder, {"model": "m"}, {"trainable": 3}, first=2)
    found = read_events(folder / "events.jsonl")
    assert [event["step"] for event in found if event["type"] == "step"] == [1, 2]
    seen = view(found, 4, "")
    assert (seen.status, seen.step, seen.ready["trainable"]) == (Status.RUNNING, 2, 3)
    until((folder / "beat").exists)


def test_an_error_that_ends_the_script_ends_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    ranks.begin_telling(folder, {}, {})
    sys.excepthook(RuntimeError, RuntimeError("out of memory"), None)
    seen = view(read_events(folder / "events.jsonl"), 4, "")
    assert (seen.status, seen.message) == (Status.FAILED, "RuntimeError: out of memory")


def test_a_loss_that_is_no_number_is_not_told_as_one(folder: Path) -> None:
    folder.mkdir()
    with pytest.raises(ValueError, match="not JSON compliant"):
        ranks.tell(folder, "step", loss=float("nan"))


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize(("method", "sharding"), [("lora", "ddp"), ("lora", "fsdp2")])
def test_accelerate_launches_two_processes_that_are_followed_and_adopted(
    method: str, sharding: str, tiny: dict[str, str], rows_file: Path, tmp_path: Path, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    facts = planned(method, sharding, tiny["causal-lm"])
    (tmp_path / NAME).write_text(steps.script(facts), "utf-8")
    layer = layer_class(facts.entry) if facts.sharded else ""
    (tmp_path / "accelerate.yaml").write_text(configs.accelerate(facts, layer), "utf-8")
    # the config is of GPUs; --cpu has the same processes meet over gloo
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate.yaml", "--cpu",
               "--num_processes", "2", "--main_process_port", "0", NAME, str(rows_file), "out"]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PEFT_LAB_RUN": str(folder)}
    with (tmp_path / "printed").open("w") as output:
        going = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: (folder / "spec.json").exists() or going.poll() is not None)
        assert going.wait(SECONDS) == 0, (tmp_path / "printed").read_text("utf-8")[-3000:]
    finally:
        going.kill()
    printed = [float(loss) for loss in STEP.findall((tmp_path / "printed").read_text("utf-8"))]
    found = read_events(folder / "events.jsonl")
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    seen = view(found, spec["steps"], "")
    assert len(printed) == 3, "one rank alone prints"
    assert seen.losses == pytest.approx(printed, abs=1e-6)
    assert (seen.status, seen.step) == (Status.DONE, spec["steps"])
    assert seen.tokens_per_second and seen.ready["trainable"]
    assert (folder / "adapter").resolve() == (tmp_path / "out").resolve()
