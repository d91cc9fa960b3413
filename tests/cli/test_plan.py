"""``plan`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab.advise.plans import nearest
from peft_lab.advise.plans.configs import NARROW, Written
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.cli import plan
from peft_lab.cli.plan import _save
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


def test_what_is_not_written_is_said(tmp_path: Path) -> None:
    best = Planned(Candidate("lora", "none", False), None)
    two = {"axolotl.yaml": "Both do not.", "llama_factory.yaml": "Both do not."}
    head, one, both = _save(tmp_path, best, Written({}, {"train.py": "It is not.", **two}))
    assert says(head, tmp_path.name, "LoRA", "nothing") and says(one, "train.py", "It is not.")
    assert says(both, *two, "Both do not.")


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
    ("more", "message"),
    [
        (("--price", "free"), "--price: Price must be a number"),
        (("--devices", "none"), "--devices: "),
        (("--price", "free", "--rows", "0"), "Training rows must be"),
        (("--price", "free", "--rows", "0", "--json"), "Price must be a number"),
        (("--out", __file__), "--out"),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, more: tuple[str, str], message: str) -> None:
    assert message in run(*SMALL, *more).refused()


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


@pytest.mark.further
@pytest.mark.slow
def test_rows_are_packed_by_their_lengths(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "lengths.txt"
    file.write_text("\n".join(["60"] * 300 + ["20"] * 200), "utf-8")
    start = ("plan", "--model", "smollm2-135m", "--gpu", "rtx-4090", "--packing")
    assert "Give --lengths FILE" in run(*start).refused()
    packs = (*start, "--lengths", str(file), "--seq", "128")
    assert "Leave --rows out" in run(*packs, "--rows", "9").refused()
    alike = tmp_path / "alike.txt"
    alike.write_text("\n".join(["60"] * 300), "utf-8")
    assert "two rows" in run(*start, "--lengths", str(alike)).refused(), "cut at the longest there is"
    found = run(*packs, "--json").document
    assert {one["rows_packed_into"] for one in found} == {175}, "184 of all rows, one in twenty held out"
    assert all(one["rows_held_out"] == 25 and one["saved_by_packing"] is not None for one in found)
    assert "collate_packed(" in found[0]["files"]["train.py"]
