"""The document that page, command line and shipped file share."""

from __future__ import annotations

import json
import math

import pytest

from peft_lab.studies import carrying
from peft_lab.studies.compare import results, store
from peft_lab.studies.compare.store import make_plan
from tests.studies.compare.conftest import WISH, FakeQueue

pytestmark = pytest.mark.weights


def test_figures_are_those_of_the_runs(runner: FakeQueue) -> None:
    comparison = store.keep(make_plan(WISH))
    carrying.carry_out_here(comparison, runner)
    found = results.document(comparison)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    rows = {row["method"]: row for row in found["rows"]}
    lora = rows["lora"]
    assert lora["status"] == "done" and lora["seeds"] == [0, 1, 2]
    assert lora["metric_mean"] == pytest.approx(0.81) and lora["metric_std"] == pytest.approx(0.01)
    assert lora["peak_bytes"] == 1002
    assert lora["seconds"] == pytest.approx(1.0)
    assert lora["added_seconds"] == pytest.approx(0.002) and found["inference_unit"] == "row"
    assert lora["mergeable"] and not rows["bitfit"]["mergeable"]
    assert lora["loss"]["mean"] == pytest.approx([1.01, 0.91])
    assert lora["loss"]["std"] == pytest.approx([0.01, 0.01])
    assert lora["forgetting_change"] is None and "predicts words" in lora["forgetting_why"]
    assert lora["percent"] == pytest.approx(1000 / lora["total"])
    assert rows["prefix"]["status"] == "does not apply" and "cache" in rows["prefix"]["why"]
    assert rows["prefix"]["metric_mean"] is None


def test_pairs_and_sentences_follow_from_the_rows(runner: FakeQueue) -> None:
    comparison = store.keep(make_plan(WISH))
    assert results.document(comparison)["says"] == []
    carrying.carry_out_here(comparison, runner)
    found = results.document(comparison)
    (pair,) = found["pairs"]
    assert (pair["better"], pair["worse"], pair["apart"]) == ("lora", "bitfit", True)
    told = " ".join(found["says"])
    assert "LoRA beats BitFit by 10.0 points" in told
    assert "noise" in told
    worst = 100 * math.sqrt((73 / 104) * (31 / 104) / 104)
    assert f"differ by about {worst:.1f} points" in told
    lora = next(row for row in found["rows"] if row["method"] == "lora")
    lora["metric_values"] = [0.5, 0.8, 0.95]
    again = " ".join(results.with_conclusions(found)["says"])
    assert "cannot rank the methods" in again and "LoRA over" not in again


def test_a_failed_run_and_one_that_is_to_come_are_told(runner: FakeQueue) -> None:
    runner.endings = {("bitfit", seed): "failed" for seed in (0, 1, 2)} | {("lora", 2): "lost"}
    comparison = store.keep(make_plan(WISH))
    carrying.carry_out_here(comparison, runner)
    found = results.document(comparison)
    rows = {row["method"]: row for row in found["rows"]}
    assert rows["bitfit"]["status"] == "failed" and rows["bitfit"]["why"] == "as the test wanted"
    assert rows["lora"]["status"] == "partial" and rows["lora"]["seeds"] == [0, 1]
    assert (found["done"], found["total"], found["status"]) == (2, 6, "interrupted")
    assert "4 of 6 runs are not done" in found["says"][-1]


def test_one_seed_ranks_nothing(runner: FakeQueue) -> None:
    from dataclasses import replace

    comparison = store.keep(make_plan(replace(WISH, seeds=(0,))))
    carrying.carry_out_here(comparison, runner)
    found = results.document(comparison)
    assert found["pairs"] == []
    assert "one seed" in found["says"][0]


def test_a_run_that_left_no_record_is_read_from_its_events(runner: FakeQueue) -> None:
    comparison = store.keep(make_plan(WISH))
    carrying.carry_out_here(comparison, runner)
    before = results.document(comparison)
    for run in comparison.standing().runs.values():
        (run.folder / "record.json").unlink(missing_ok=True)
    after = results.document(comparison)
    rows = [{row["method"]: row["metric_mean"] for row in found["rows"]} for found in (before, after)]
    assert rows[0] == rows[1] and any(value is not None for value in rows[0].values())
