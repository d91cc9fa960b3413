"""Comparisons that come with the app, and how one gets there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model
from peft_lab.studies import carrying
from peft_lab.studies.compare import results, shipped, store
from peft_lab.studies.compare.store import make_plan
from peft_lab.training.tasks import get_task
from tests.studies.compare.conftest import WISH, FakeQueue
from tools import ship_comparison


def test_what_ships_is_complete_and_says_where_it_is_from() -> None:
    for identity, found in shipped.all_shipped().items():
        assert found["id"] == identity
        assert get_model(found["plan"]["model"]).live and get_task(found["plan"]["task"])
        assert found["machines"] and found["packages"] and found["device"] and found["dtype"]
        assert found["command"].startswith("python -m peft_lab compare --model ")
        assert {row["method"] for row in found["rows"]} <= set(all_methods())
        assert found["says"] and all(row["metric_values"] or row["why"] for row in found["rows"])
        assert len(found["plan"]["seeds"]) >= 3
        # the rows' means are those of their seeds
        for row in found["rows"]:
            if row["metric_values"]:
                assert row["metric_mean"] == pytest.approx(
                    sum(row["metric_values"]) / len(row["metric_values"])
                )


@pytest.mark.weights
def test_a_finished_comparison_becomes_a_file(
    runner: FakeQueue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = store.keep(make_plan(WISH))
    target = tmp_path / "shipped"
    assert ship_comparison.main([comparison.id], target) == 1
    assert "only a finished comparison ships" in capsys.readouterr().err
    assert ship_comparison.main([]) == 0
    assert f"{comparison.id}  interrupted  0 runs" in capsys.readouterr().out
    carrying.carry_out_here(comparison, runner)
    assert ship_comparison.main([comparison.id, "--note", "a quiet machine"], target) == 0
    content = json.loads((target / "minilm-l6-sentiment.json").read_text())
    assert content["note"] == "a quiet machine"
    again = results.with_conclusions(content)
    found = results.document(comparison)
    assert again["says"] == found["says"] and again["pairs"] == found["pairs"]
    assert ship_comparison.main(["no-such"], target) == 1
