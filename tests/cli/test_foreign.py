"""``memory FILE`` and ``plan FILE``: another tool's config in place of options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab.advise.foreign import fitting
from peft_lab.advise.foreign.reading import read
from peft_lab.engine.devices import get_device
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import needed_bytes, simulate
from peft_lab.models.catalogue import get_model
from tests.cli.conftest import Run

SMALL = """
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
adapter: lora
lora_r: 4
lora_target_modules: [q_proj, v_proj]
sequence_len: 64
micro_batch_size: 2
gradient_accumulation_steps: 2
num_epochs: 1
learning_rate: 1e-4
optimizer: adamw_torch
bf16: true
wandb_project: mine
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "axolotl.yml"
    path.write_text(SMALL, "utf-8")
    return path


@pytest.mark.slow
def test_a_file_is_simulated_as_the_same_options_are(run: Run, file: Path) -> None:
    (row,) = run("memory", str(file), "--json").document
    options = ("--model", "smollm2-135m", "--method", "lora", "--set", "r=4", "--batch", "2", "--seq", "64")
    (same,) = run("memory", *options, "--accumulate", "2", "--json").document
    assert row["peak_bytes"] == same["peak_bytes"] and row["parts"] == same["parts"]
    assert row["tool"] == "Axolotl" and row["as_written"] is None
    assert row["understood"]["base_model"] == "smollm2-135m" and row["understood"]["micro_batch_size"] == 2
    (left,) = (one for one in row["ignored"] if one["key"] == "wandb_project")
    assert set(left) == {"key", "why", "effect"} and all(left.values())
    (more,) = run("memory", str(file), "--seq", "32", "--set", "r=8", "--json").document
    assert more["parts"]["adapter"] == 2 * row["parts"]["adapter"], "an option replaces the file's"


def test_a_files_switches_are_those_of_the_options(run: Run, file: Path) -> None:
    file.write_text(f"{SMALL}attn_implementation: eager\nliger_fused_linear_cross_entropy: true\n", "utf-8")
    (row,) = run("memory", str(file), "--json").document
    options = ("--model", "smollm2-135m", "--method", "lora", "--set", "r=4", "--batch", "2", "--seq", "64")
    switches = ("--attention", "eager", "--loss", "liger")
    (same,) = run("memory", *options, "--accumulate", "2", *switches, "--json").document
    assert row["peak_bytes"] == same["peak_bytes"] and row["parts"] == same["parts"]
    assert row["understood"]["attn_implementation"] == "eager"
    (plain,) = run("memory", str(file), "--loss", "whole", "--json").document
    assert plain["peak_bytes"] > row["peak_bytes"], "an option replaces the file's"


def test_a_gpu_says_whether_it_fits_and_in_how_many_hours(run: Run, file: Path) -> None:
    file.write_text(f"{SMALL}max_steps: 100\n", "utf-8")
    (row,) = run("memory", str(file), "--gpu", "rtx-4090", "--json").document
    written = row["as_written"]
    assert written["fits"] and written["change"] is None
    assert written["updates"] == 100 and written["accumulation"] == 2
    assert written["peak_bytes_per_device"] == row["reserved_bytes"]
    span = written["step_seconds"]
    assert written["hours"]["low"] == pytest.approx(100 * span["low"] / 3600)
    assert span["low"] <= span["value"] <= span["high"]


@pytest.mark.slow
def test_the_smallest_change_is_one_in_the_tools_own_words() -> None:
    """The limit lies between the step as it is written and the step with one setting changed."""
    reading = read(SMALL, "a.yml")
    entry = get_model("smollm2-135m")
    job = fitting.job_of(reading, entry.name, {"r": 4}, {})
    job = replace(job, request=job.request.at(batch=8, seq=512))
    less = replace(job, request=replace(job.request, checkpointing=True))
    needs = [needed_bytes(one.simulated()) for one in (job, less)]
    assert needs[1] < needs[0]
    card = replace(get_device("rtx-4090"), memory=int(needs[1] / 0.9))
    assert not card.holds(needs[0]) and card.holds(needs[1])
    found = fitting.smallest_change(job, card)
    assert found is not None and found[0] == ("checkpointing",) and found[2] == needs[1]
    assert fitting.spelt(reading, found[0], found[1]) == {"gradient_checkpointing": True}
    halved = job.changes()["batch"]
    assert fitting.spelt(reading, ("batch",), halved) == {
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 4,
    }


def test_several_changes_are_added_up_and_nothing_is_promised_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitting.Job, "simulated", lambda job: job)
    monkeypatch.setattr(fitting, "needed_bytes", _made_up)
    request = StepRequest("smollm2-135m", "lora", {}, StepSetting(2, 1024))
    job = fitting.Job(request, Sharding(), 1)
    for size, kinds in ((900, ("checkpointing",)), (800, ("loss",)), (600, ("checkpointing", "loss"))):
        found = fitting.smallest_change(job, replace(get_device("rtx-4090"), memory=int(size / 0.9)))
        assert found is not None and found[0] == kinds, size
    assert fitting.smallest_change(job, replace(get_device("rtx-4090"), memory=1)) is None


def _made_up(job: fitting.Job) -> int:
    setting = job.request.setting
    return 1000 - 150 * job.request.checkpointing - 300 * (setting.loss == "chunked")


def test_what_a_file_lacks_is_asked_for(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text('{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 2}', "utf-8")
    assert "--model" in run("memory", str(path)).refused()
    assert "--batch or --seq" in run("memory", str(path), "--model", "smollm2-135m").refused()
    assert "axolotl.yml" in run("memory", str(tmp_path / "axolotl.yml")).refused()
    assert "--model is missing" in run("memory", "--batch", "1", "--seq", "8").refused()
    assert "--model is missing" in run("plan", "--gpu", "rtx-4090").refused()


@pytest.mark.slow
def test_a_shared_step_is_simulated_per_rank(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text('{"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 2}', "utf-8")
    more = ("--model", "smollm2-135m", "--method", "lora", "--seq", "64", "--devices", "2", "--json")
    (row,) = run("memory", str(path), *more).document
    assert row["sharding"]["kind"] == "zero3" and row["sharding"]["devices"] == 2
    same = ("--batch", "2", "--sharding", "zero3", *more)
    assert run("memory", *same).document[0]["peak_bytes"] == row["peak_bytes"]


@pytest.mark.slow
def test_a_file_is_planned(run: Run, file: Path) -> None:
    ask = ("--gpu", "rtx-4090", "--rows", "500", "--json")
    rows = run("plan", str(file), *ask).document
    written = rows[0]["as_written"]
    assert {row["method"] for row in rows} and all(row["tool"] == "Axolotl" for row in rows)
    step = simulate(
        StepRequest("smollm2-135m", "lora", {"r": 4}, StepSetting(2, 64)).on(get_device("rtx-4090"))
    )
    assert written["peak_bytes_per_device"] == needed_bytes(step)
    assert written["updates"] == 119, "475 of 500 rows, four to an update"
    assert written["hours"]["low"] < written["hours"]["high"]
