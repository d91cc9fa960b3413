"""Figures of a comparison against their formulas, and the ends of its axes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core import machine as this_machine
from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.studies import carrying
from peft_lab.studies.compare import results, store
from peft_lab.studies.compare.results import (
    MOST_NAMED,
    Pair,
    comparison_sentences,
    mean,
    sampling_error,
    seed_pairs,
)
from peft_lab.studies.compare.store import MOST_SEEDS, SEEDS, make_plan
from tests.studies.compare.conftest import WISH, FakeQueue
from tools.ship_comparison import to_ship


def test_more_is_better_of_the_metric_alone() -> None:
    """Of bytes, seconds, parameters and forgetting less is better."""
    assert {name: axis.better for name, axis in results.AXES.items() if axis.better == "high"} == {
        "metric_mean": "high"
    }
    assert {
        "trainable",
        "stored_bytes",
        "peak_bytes",
        "seconds",
        "added_seconds",
        "forgetting_change",
    } <= set(results.AXES)


@pytest.mark.parametrize("axis", [name for name in results.AXES if name != "metric_mean"])
def test_what_costs_less_and_scores_more_is_the_whole_front(axis: str) -> None:
    rows = [
        {"method": name, axis: cost, "metric_mean": score}
        for name, cost, score in (("a", 2, 0.5), ("b", 1, 0.9))
    ]
    assert results.pareto_front(rows, axis, "metric_mean") == ["b"]
    rows[0]["metric_mean"] = 0.95
    assert results.pareto_front(rows, axis, "metric_mean") == ["b", "a"], "in the order of the first axis"
    rows[1][axis] = 2
    assert results.pareto_front(rows, axis, "metric_mean") == ["a"], (
        "equal on one axis and beaten on the other"
    )


def test_the_rule_for_telling_apart() -> None:
    """Twice the spread of a difference, and one row at least; a difference of just that is noise."""
    scores = {"a": [0.50, 0.54], "b": [0.60, 0.64], "c": [0.9, 0.9], "one": [0.1]}
    found = seed_pairs(scores, 50)
    assert [(pair.better, pair.worse) for pair in found] == [("c", "a"), ("c", "b"), ("b", "a")]
    spreads = {"a": math.sqrt(2) * 0.02, "b": math.sqrt(2) * 0.02, "c": 0.0}
    for pair in found:
        assert pair.difference == pytest.approx(sum(scores[pair.better]) / 2 - sum(scores[pair.worse]) / 2)
        noise = max(2 * math.hypot(spreads[pair.better], spreads[pair.worse]), 1 / 50)
        assert pair.noise == pytest.approx(noise)
        assert pair.apart == (pair.difference > noise * (1 + 1e-9))
    (same,) = seed_pairs({"a": [0.5, 0.5], "b": [0.5, 0.5]}, 0)
    assert (same.difference, same.noise, same.apart) == (0.0, 0.0, False)
    (more,) = seed_pairs({"a": [0.5, 0.5], "b": [0.500001, 0.500001]}, 0)
    assert more.apart, "without rows there is no least difference"
    (twice,) = seed_pairs({"a": [0.25, 0.25], "b": [0.75, 0.75]}, 2)
    assert not twice.apart and twice.noise == 0.5, "one row of two, exactly"


def test_the_error_of_a_share() -> None:
    share = (0.3 * 96 + 2) / 100
    assert sampling_error(0.3, 96) == pytest.approx(math.sqrt(share * (1 - share) / 100))
    assert mean([1.0, 2.0]) == 1.5


# -- what follows from the rows ----------------------------------------------------------------------------------


def found(count: int, rows: int = 100, done: int = 6, **of_each: Any) -> dict[str, Any]:
    """A finished document with so many methods, called A, B, C ..."""
    of_all = {"metric_values": [0.5, 0.5], "metric_mean": 0.5, "forgetting_change": None, **of_each}
    return {
        "rows": [{"method": chr(97 + n), "title": chr(65 + n), **of_all} for n in range(count)],
        "plan": {"seeds": [0, 1], "steps": 60, "batch": 8, "model": "m", "task": "t", "values": {}},
        "metric": {"rows": rows}, "done": done, "total": 6,
    }  # fmt: skip


def versus(better: str, worse: str, apart: bool) -> Pair:
    return Pair(better, worse, 0.123, 0.1, apart)


def test_nothing_is_said_of_nothing() -> None:
    assert comparison_sentences(found(2, metric_values=[]), []) == []


def test_one_method_and_one_seed_rank_nothing() -> None:
    alone, seed = comparison_sentences(found(1), [])[0], comparison_sentences(found(2), [])[0]
    assert "only one method" in alone and "one seed" in seed


def test_pairs_that_are_told_apart_are_named_with_their_difference() -> None:
    told = " ".join(
        comparison_sentences(
            found(3), [versus("a", "b", True), versus("a", "c", False), versus("b", "c", False)]
        )
    )
    assert (
        "1 of 3 pairs differs by" in told
        and "12.3 points" in told
        and "A" in told
        and "B" in told
        and "2 times" in told
    )
    every = " ".join(comparison_sentences(found(3), [versus("a", "b", True), versus("b", "c", True)]))
    assert "All 2" in every and "points," not in every.split("rows;")[0]
    single = " ".join(comparison_sentences(found(2), [versus("a", "b", True)]))
    assert "12.3 points" in single
    none = " ".join(comparison_sentences(found(2), [versus("a", "b", False)]))
    assert "cannot rank the methods" in none and "12.3" not in none


def test_where_most_pairs_are_told_apart_the_others_are_named() -> None:
    """The shorter list of the two; six of it at most."""
    told = " ".join(comparison_sentences(found(3), [versus("a", "b", True), versus("b", "c", False)]))
    assert "1 of 2" in told and "12.3" not in told
    for many in (MOST_NAMED, MOST_NAMED + 2):
        here = [versus("a", "b", True)] * many
        text = " ".join(comparison_sentences(found(2), [*here, *[versus("a", "b", False)] * (many + 1)]))
        assert text.count("12.3 points") == 6
        assert ("2 more" in text) == (many == 8) and "0 more" not in text


def test_the_error_named_is_the_largest_of_the_methods() -> None:
    document = found(2)
    document["rows"][0]["metric_mean"] = 0.99
    assert f"{100 * sampling_error(0.5, 100):.1f} points" in " ".join(comparison_sentences(document, []))
    assert "held-out" not in " ".join(comparison_sentences(found(2, rows=0), []))


def test_the_method_that_forgot_most_is_named() -> None:
    document = found(3)
    document["rows"][1]["forgetting_change"], document["rows"][2]["forgetting_change"] = 0.25, -0.5
    told = [text for text in comparison_sentences(document, []) if "unrelated" in text]
    assert len(told) == 1 and "+0.250" in told[0] and "B" in told[0]
    assert not [text for text in comparison_sentences(found(3), []) if "unrelated" in text]


def test_runs_that_are_not_done_are_counted() -> None:
    assert not any("not done" in text for text in comparison_sentences(found(2), []))
    assert "1 of 6 runs is not done" in comparison_sentences(found(2, done=5), [])[-1]
    assert "2 of 6 runs are not done" in comparison_sentences(found(2, done=4), [])[-1]


def test_steps_are_named_in_one_and_in_many() -> None:
    many, one = found(2), found(2)
    one["plan"] = {**one["plan"], "steps": 1, "values": {"a": {"r": 4}}}
    assert "60 steps of 8 rows" in " ".join(
        comparison_sentences(many, [])
    ) and "default settings" in " ".join(comparison_sentences(many, []))
    assert "1 step of 8 rows" in " ".join(comparison_sentences(one, [])) and "one setting" in " ".join(
        comparison_sentences(one, [])
    )


# -- rows and plans ----------------------------------------------------------------------------------------------


@pytest.mark.weights
def test_a_row_is_worked_out_from_its_runs(runner: FakeQueue) -> None:
    comparison = store.keep(make_plan(WISH))
    waiting = {row["method"]: row for row in results.document(comparison)["rows"]}
    assert waiting["lora"]["status"] == "pending" and waiting["lora"]["percent"] is None
    assert waiting["lora"]["peak_bytes"] is None and waiting["lora"]["forgetting_why"] == ""
    runner.endings = {("lora", 1): "failed"}
    carrying.carry_out_here(comparison, runner)
    rows = {row["method"]: row for row in results.document(comparison)["rows"]}
    lora, bitfit = rows["lora"], rows["bitfit"]
    assert (lora["status"], lora["why"]) == ("partly failed", "as the test wanted")
    assert (bitfit["status"], bitfit["why"]) == ("done", "")
    assert lora["seeds"] == [0, 2] and lora["metric_values"] == pytest.approx([0.8, 0.82])
    total = get_model("minilm-l6").shape.total
    assert bitfit["total"] == total, "it adds nothing"
    formula = get_method("lora").formula(
        get_model("minilm-l6").shape, get_method("lora").complete(get_model("minilm-l6").shape, {})
    )
    assert lora["total"] == total + formula.added
    assert lora["percent"] == pytest.approx(100 * 10 / lora["total"])
    assert lora["metric_before"] == 0.5 and lora["base_inference_seconds"] == 0.01
    assert lora["forgetting_after"] is None and lora["forgetting_tokens"] is None
    assert [results.merging(rows[slug]) for slug in ("lora", "bitfit", "prefix")] == [
        "yes",
        "needs none",
        "no",
    ]


def test_forgetting_is_the_rise_of_the_loss() -> None:
    seeds = [
        {"before": {"loss": 1.0}, "after": {"loss": loss, "tokens": 7, "task": "x"}} for loss in (1.5, 2.5)
    ]
    told = results._forgetting(seeds, True, "encoder")
    assert (told["forgetting_before"], told["forgetting_after"], told["forgetting_change"]) == (1.0, 2.0, 1.0)
    assert told["forgetting_change_std"] == pytest.approx(math.sqrt(0.5))
    assert (told["forgetting_tokens"], told["forgetting_task"], told["forgetting_why"]) == (7, "x", "")
    assert results._forgetting(seeds[:1], True, "encoder")["forgetting_task"] == "x"
    curve = results._curve([[3.0, 2.0, 9.0], [1.0, 1.0]])
    assert curve["mean"] == [2.0, 1.5], "as far as all of them went"


def test_versions_that_changed_are_both_told() -> None:
    made = [{"packages": {"torch": "1", "peft": "2"}}, {"packages": {"torch": "1", "peft": "3"}}]
    assert results._versions(made) == {"torch": ["1"], "peft": ["2", "3"]}


@pytest.mark.weights
def test_one_to_twenty_seeds() -> None:
    from dataclasses import replace

    assert SEEDS == (0, 1, 2) and MOST_SEEDS == 20
    lora = replace(WISH, methods=("lora",), steps=1)
    assert len(make_plan(replace(lora, seeds=tuple(range(20)))).cells) == 20
    assert [cell.seed for cell in make_plan(replace(lora, seeds=(4, 4))).cells] == [4]
    with pytest.raises(BadInput, match="21"):
        make_plan(replace(lora, seeds=tuple(range(21))))


@pytest.mark.parametrize(
    ("status", "done", "ships"),
    [("done", 6, True), ("incomplete", 3, True), ("incomplete", 0, False), ("running", 3, False)],
)
def test_only_what_is_finished_ships(status: str, done: int, ships: bool) -> None:
    losses = {"mean": [1.23456, None], "std": [0.00012345, None]}
    document = {
        "id": "x",
        "status": status,
        "done": done,
        "rows": [{"loss": losses}],
        "pairs": [],
        "says": [],
    }
    if not ships:
        with pytest.raises(ValueError, match="only a finished"):
            to_ship(document)
        return
    kept = to_ship(document, "quiet")
    assert kept["rows"][0]["loss"] == {"mean": [1.235, None], "std": [0.0001235, None]} or kept["rows"][0]["loss"] == {
        "mean": [1.235, None], "std": [0.0001234, None],
    }  # fmt: skip
    assert kept["note"] == "quiet" and not {"pairs", "says"} & set(kept)


@pytest.mark.parametrize(
    ("model", "safe"),
    [("minilm-l6", "minilm-l6"), ("Org/My_Model.v2", "my-model-v2"), ("/a/b/Ünï/", "n"), ("///", "model")],
)
def test_a_comparisons_folder_is_called_after_the_last_part_of_its_model(model: str, safe: str) -> None:
    assert store._safe(model) == safe


def test_the_processor_is_named_as_the_kernel_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: A Fast One: 2 GHz \nmodel name\t: Another\n")
    monkeypatch.setattr(this_machine, "CPUINFO", info)
    assert this_machine.describe_machine()["processor"] == "A Fast One: 2 GHz"
    monkeypatch.setattr(this_machine, "CPUINFO", tmp_path / "none")
    assert this_machine.describe_machine()["processor"]
