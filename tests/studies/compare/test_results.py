"""Figures of a comparison against their formulas, what is said of them, the published rows, what ships."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine import published
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import get_model
from peft_lab.studies import carrying
from peft_lab.studies.compare import results, shipped, store
from peft_lab.studies.compare.results import (
    Pair,
    comparison_sentences,
    mean,
    sampling_error,
    seed_pairs,
)
from peft_lab.studies.compare.store import MOST_SEEDS, SEEDS, make_plan
from peft_lab.training.tasks import get_task
from tests.studies.compare.conftest import WISH, FakeQueue
from tools import ship_comparison


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


def test_one_method_and_one_seed_rank_nothing() -> None:
    alone, seed = comparison_sentences(found(1), [])[0], comparison_sentences(found(2), [])[0]
    assert "only one method" in alone and "one seed" in seed


def test_the_error_named_is_the_largest_of_the_methods() -> None:
    document = found(2)
    document["rows"][0]["metric_mean"] = 0.99
    assert f"{100 * sampling_error(0.5, 100):.1f} points" in " ".join(comparison_sentences(document, []))
    assert "held-out" not in " ".join(comparison_sentences(found(2, rows=0), []))


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


@pytest.mark.weights
def test_one_to_twenty_seeds() -> None:
    from dataclasses import replace

    assert SEEDS == (0, 1, 2) and MOST_SEEDS == 20
    lora = replace(WISH, methods=("lora",), steps=1)
    assert len(make_plan(replace(lora, seeds=tuple(range(20)))).cells) == 20
    assert [cell.seed for cell in make_plan(replace(lora, seeds=(4, 4))).cells] == [4]
    with pytest.raises(BadInput, match="21"):
        make_plan(replace(lora, seeds=tuple(range(21))))


SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=5)


def test_one_value_has_no_spread() -> None:
    assert results.deviation([0.5]) is None
    assert results.deviation([0.4, 0.6]) == pytest.approx(math.sqrt(0.02))
    assert results.mean([]) is None


@given(st.dictionaries(st.sampled_from("abcdef"), SHARES, min_size=2), st.integers(1, 1000))
def test_every_pair_once_the_better_first(scores: dict[str, list[float]], rows: int) -> None:
    pairs = results.seed_pairs(scores, rows)
    assert len({frozenset((p.better, p.worse)) for p in pairs}) == len(scores) * (len(scores) - 1) // 2
    assert all(p.difference >= -1e-12 and p.noise >= 1 / rows for p in pairs)


def test_none_of_few_rows_is_no_certainty() -> None:
    assert results.sampling_error(0.0, 2) > 0.15
    assert results.sampling_error(0.5, 10_000) == pytest.approx(0.005, rel=0.01)
    assert results.sampling_error(0.0, 1000) == pytest.approx(results.sampling_error(1.0, 1000))
    assert results.sampling_error(0.0, 1000) < 0.003


def row(method: str, trainable: int | None, metric: float | None) -> dict[str, object]:
    return {"method": method, "trainable": trainable, "metric_mean": metric}


def test_the_front_is_what_nothing_beats_on_both_axes() -> None:
    rows = [row("a", 10, 0.8), row("b", 5, 0.7), row("c", 20, 0.75), row("d", 5, 0.7), row("e", None, 0.9)]
    assert results.pareto_front(rows, "trainable", "metric_mean") == ["b", "d", "a"]
    with pytest.raises(UnknownName, match="trainable"):
        results.pareto_front(rows, "trainble", "metric_mean")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_every_point_is_on_the_front_or_beaten_by_one_that_is(points: list[tuple[int, int]]) -> None:
    rows = [row(str(number), x, float(y)) for number, (x, y) in enumerate(points)]
    kept = results.pareto_front(rows, "trainable", "metric_mean")
    assert kept
    for number, (x, y) in enumerate(points):
        beaten = any(a <= x and b >= y and (a, b) != (x, y) for a, b in (points[int(name)] for name in kept))
        assert (str(number) in kept) != beaten


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


def test_a_run_that_left_no_record_is_read_from_its_events(runner: FakeQueue) -> None:
    comparison = store.keep(make_plan(WISH))
    carrying.carry_out_here(comparison, runner)
    before = results.document(comparison)
    for run in comparison.standing().runs.values():
        (run.folder / "record.json").unlink(missing_ok=True)
    after = results.document(comparison)
    rows = [{row["method"]: row["metric_mean"] for row in found["rows"]} for found in (before, after)]
    assert rows[0] == rows[1] and any(value is not None for value in rows[0].values())


WANTED = {"metric_mean", "trainable", "stored_bytes", "peak_bytes", "forgetting_change"}


def test_any_two_figures_of_both_benchmarks_are_axes() -> None:
    language, pictures = (set(shipped.published_axes(name)) for name in published.BENCHMARKS)
    assert language == WANTED | {"seconds", "tokens_per_second"}
    assert pictures == WANTED | {"step_seconds"}
    for name in published.BENCHMARKS:
        axes = shipped.published_axes(name)
        assert all(axis.source == "cited" for axis in axes.values())
        for x in axes.values():
            for y in axes.values():
                assert x is y or results.pareto_front(shipped.published_points(name), x, y)


def test_best_against_other_settings_of_a_method() -> None:
    families = shipped.families()
    shown = {kind: [round(row.accuracy, 3) for row in found] for kind, found in families.items()}
    assert shown["prefixtuning"] == [0.416, 0.358, 0.186]
    assert (shown["ia3"][0], shown["ia3"][-1]) == (0.455, 0.311)
    assert "ptuning" in shipped.several_published() and "beft" not in shipped.several_published()
    told = [shipped.published_setting(row, families["prefixtuning"]) for row in families["prefixtuning"]]
    assert len(set(told)) == 3
    assert "num_virtual_tokens 50" in told[0] and "learning rate 0.005" in told[0] and "a text" in told[0]


@pytest.mark.parametrize("name", published.rows())
def test_what_opens_on_a_methods_page_is_the_same_setting(name: str) -> None:
    row = published.rows()[name]
    found = shipped.lab_page(row)
    opens = row.kind in ("lora", "ia3", "prefixtuning", "prompt_tuning", "ptuning")
    # the lab has neither BD-LoRA nor MiCA, and LoRA-FA is an optimizer
    assert (found is not None) == (opens and not name.endswith(("bdlora", "mica", "lorafa")))
    if found is not None:
        spec, shape = get_method(found[0]), get_model(published.MODEL).shape
        values = spec.require(
            shape, {key: spec.knob(key).parse(spec_text(value)) for key, value in found[1].items()}
        )
        assert spec.formula(shape, values).trainable == row.trainable


def spec_text(value: object) -> str:
    """As it stands in an address."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).removesuffix(".0")


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
