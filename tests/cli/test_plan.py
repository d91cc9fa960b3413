"""plan on the command line; plan FILE and memory FILE, another tool's config in place of options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab.advise.foreign import fitting
from peft_lab.advise.plans import nearest
from peft_lab.advise.plans.configs import NARROW
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.cli import plan
from peft_lab.engine.devices import get_device
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.sharding.wrap import Sharding
from tests.cli.conftest import Run
from tests.prose import says

SMALL = ("plan", "--model", "smollm2-135m", "--gpu", "rtx-4090", "--rows", "500", "--row-tokens", "100")


@pytest.mark.slow
def test_the_contracts_fields(run: Run, tmp_path: Path) -> None:
    done = run(*SMALL, "--price", "0.5", "--deadline", "12", "--out", str(tmp_path / "plan"), "--json")
    found = done.document
    assert {one["method"] for one in found} == {"full", "lora", "qlora"}
    for one in found:
        assert {
            "method", "plan", "sharding", "peak_bytes_per_device", "headroom", "step_seconds", "hours", "cost",
            "bottleneck", "files",
        } <= set(one)  # fmt: skip
        assert one["peak_bytes_per_device"] <= one["device_bytes"] and one["headroom"] >= 0.05
        assert one["peak_band"][0] < one["peak_bytes_per_device"] < one["peak_band"][1]
        for span in ("step_seconds", "hours", "cost"):
            assert 0 < one[span]["low"] < one[span]["high"]
        assert one["cost"]["high"] == pytest.approx(0.5 * one["hours"]["high"])
        assert one["quality"]["accuracy"] is None and one["quality"]["text"]
        assert {"train.py", "accelerate.yaml", "skypilot.yaml", "llama_factory.yaml"} <= set(one["files"])
        lacks = {"axolotl.yaml": NARROW} if one["method"] == "full" else {}
        assert one["files_missing"] == lacks and ("axolotl.yaml" in one["files"]) is not bool(lacks)
    assert (tmp_path / "plan/train.py").read_text("utf-8") == found[0]["files"]["train.py"]
    assert says(done.stderr, "plan", "first plan") and ": train.py, " in done.stderr


def test_where_nothing_fits_it_says_why_of_each_way(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "Even one row needs at least 30.0 GB; of 24.0 GB a plan takes 22.0 GB."
    lora = Candidate("lora", "none", True)
    monkeypatch.setattr(plan, "tried", lambda _: [Planned(lora, None, reason=reason)])
    monkeypatch.setattr(nearest, "nearest", lambda *_: nearest.Nearest("It fits in no way."))
    done = run(*SMALL, "--json")
    assert (done.status, done.stdout) == (2, "")
    why, error = done.stderr.splitlines()
    assert says(why, "LoRA", "one GPU", "checkpointed", reason)
    assert says(error, "error", "no way", "We know of nothing")


@pytest.mark.parametrize(
    ("more", "message", "option"),
    [
        (("--gpu", "rtx-2060"), "no device called 'rtx-2060'", "(--gpu rtx-3060)?"),
        (("--rows", "0"), "Training rows must be", "(--rows 1000)?"),
        (("--price", "-2"), "Price must be above 0", "(no --price)?"),
        (("--deadline", "2020-01-01"), "The deadline has passed", "(no --deadline)?"),
        (
            ("--gpu", "rtx-2060", "--devices", "0", "--json"),
            "Devices must be",
            "(--gpu rtx-3060 --devices 1)?",
        ),
    ],
)
def test_what_cannot_be_is_one_line_with_the_options_that_are_meant(
    run: Run, more: tuple[str, str], message: str, option: str
) -> None:
    line = run(*SMALL, *more).refused()
    assert message in line and option in line


@pytest.mark.slow
@pytest.mark.further
def test_plan_and_choose_say_the_same(run: Run) -> None:
    """The plan that Choose makes for one device is among those ranked here, with its settings and its peak."""
    answers = ("model=smollm2-135m", "device=rtx-4090", "rows=500", "row_tokens=100", "seq=128")
    told = [part for answer in answers for part in ("--answer", answer)]
    advised = run("recommend", *told, "--json").document
    ranked = run(*SMALL, "--json").document
    same = [one for one in ranked if (one["method"], one["config"]) == (advised["method"], advised["config"])]
    match = [one for one in same if one["checkpointing"] == advised["plan"]["checkpointing"]["value"]]
    for name in ("learning_rate", "epochs", "accumulation", "optimizer"):
        assert match[0]["plan"][name]["value"] == advised["plan"][name]["value"]
    assert match[0]["batch"] == advised["plan"]["batch"]["value"]
    assert match[0]["peak_bytes_per_device"] == advised["peak_bytes"]


AXOLOTL = """
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
    path.write_text(AXOLOTL, "utf-8")
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


def test_a_gpu_says_whether_it_fits_and_in_how_many_hours(run: Run, file: Path) -> None:
    file.write_text(f"{AXOLOTL}max_steps: 100\n", "utf-8")
    (row,) = run("memory", str(file), "--gpu", "rtx-4090", "--json").document
    written = row["as_written"]
    assert written["fits"] and written["change"] is None
    assert written["updates"] == 100 and written["accumulation"] == 2
    assert written["peak_bytes_per_device"] == row["reserved_bytes"]
    span = written["step_seconds"]
    assert written["hours"]["low"] == pytest.approx(100 * span["low"] / 3600)
    assert span["low"] <= span["value"] <= span["high"]


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
