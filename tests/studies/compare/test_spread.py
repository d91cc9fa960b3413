"""Differences and noise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import UnknownName
from peft_lab.studies.compare import results

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=5)


def test_one_value_has_no_spread() -> None:
    assert results.deviation([0.5]) is None
    assert results.deviation([0.4, 0.6]) == pytest.approx(math.sqrt(0.02))
    assert results.mean([]) is None


def test_a_difference_above_twice_the_spread_is_told_apart() -> None:
    (pair,) = results.seed_pairs({"a": [0.5, 0.52], "b": [0.6, 0.62]}, rows=1000)
    assert (pair.better, pair.worse) == ("b", "a")
    assert pair.noise == pytest.approx(2 * math.hypot(0.02, 0.02) / math.sqrt(2))
    assert pair.apart
    (close,) = results.seed_pairs({"a": [0.5, 0.52], "b": [0.53, 0.55]}, rows=1000)
    assert not close.apart


def test_equal_seeds_need_more_than_one_row_of_difference() -> None:
    (row,) = results.seed_pairs({"a": [0.5, 0.5], "b": [0.51, 0.51]}, rows=100)
    assert not row.apart
    (two,) = results.seed_pairs({"a": [0.5, 0.5], "b": [0.52, 0.52]}, rows=100)
    assert two.apart


@given(st.dictionaries(st.sampled_from("abcdef"), SHARES, min_size=2), st.integers(1, 1000))
def test_every_pair_once_the_better_first(scores: dict[str, list[float]], rows: int) -> None:
    pairs = results.seed_pairs(scores, rows)
    assert len({frozenset((p.better, p.worse)) for p in pairs}) == len(scores) * (len(scores) - 1) // 2
    assert all(p.difference >= -1e-12 and p.noise >= 1 / rows for p in pairs)


def test_methods_with_one_seed_are_in_no_pair() -> None:
    assert results.seed_pairs({"a": [0.5], "b": [0.6, 0.7]}, 10) == []


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


def test_which_end_of_each_axis_is_wanted() -> None:
    """Accuracy is wanted high; whatever is paid for it, time as well, is wanted low."""
    assert {name for name, axis in results.AXES.items() if axis.better == "high"} == {"metric_mean"}
    for name in set(results.AXES) - {"metric_mean"}:
        rows = [
            {"method": "dear", "metric_mean": 0.8, name: 9.0},
            {"method": "cheap", "metric_mean": 0.8, name: 4.0},
        ]
        assert results.pareto_front(rows, name, "metric_mean") == ["cheap"], name


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_every_point_is_on_the_front_or_beaten_by_one_that_is(points: list[tuple[int, int]]) -> None:
    rows = [row(str(number), x, float(y)) for number, (x, y) in enumerate(points)]
    kept = results.pareto_front(rows, "trainable", "metric_mean")
    assert kept
    for number, (x, y) in enumerate(points):
        beaten = any(a <= x and b >= y and (a, b) != (x, y) for a, b in (points[int(name)] for name in kept))
        assert (str(number) in kept) != beaten


@pytest.mark.parametrize(("task", "each"), [("digits", "images"), ("sentiment", "rows")])
def test_sentences_name_what_was_scored(task: str, each: str) -> None:
    scores = {"lora": [0.5, 0.6], "bitfit": [0.5, 0.6]}
    found = {
        "rows": [
            {
                "method": name,
                "title": name,
                "metric_values": known,
                "metric_mean": 0.55,
                "forgetting_change": None,
            }
            for name, known in scores.items()
        ],
        "plan": {"model": "m", "task": task, "seeds": [0, 1], "values": {}, "steps": 5, "batch": 32},
        "metric": {"rows": 40},
        "done": 4,
        "total": 4,
    }
    told = " ".join(results.comparison_sentences(found, results.seed_pairs(scores, 40)))
    assert (
        f"the same 40 held-out {each}. On other {each}, a score" in told
        and f"5 steps of 32 {each} on m" in told
    )
    assert "The two do not differ by that much" in told and "1 pairs" not in told
