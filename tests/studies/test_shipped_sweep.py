"""Sweeps: best rates and intervals where the truth is known, pictures, what ships and how it gets there."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.models.catalogue import get_model
from peft_lab.studies import landscape, shipped_sweep
from peft_lab.studies.shipped_sweep import LORA, Sweep, curves, interval, shipped_points
from peft_lab.training.tasks import get_task
from tests.studies import made_points as made
from tests.studies.made_points import Truth
from tools import sweep as maker

UNEVEN = {"lora": [1e-4, 4e-4, 5e-4, 2e-3, 3e-3, 1e-2], "full": [1e-5, 4e-5, 5e-5, 2e-4, 3e-4, 1e-3]}


@pytest.mark.slow
@given(times=st.floats(2, 60), full=st.floats(3e-5, 3e-4), uneven=st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_best_rate_of_a_parabola_is_found_between_the_rates_that_were_tried(
    times: float, full: float, uneven: bool
) -> None:
    rates = UNEVEN if uneven else made.RATES
    for curve in curves(made.sweep(Truth(full=full, times=times, rates=rates))):
        true = full * (times if curve.at.method == "lora" else 1)
        tried = rates[curve.at.method]
        assert curve.best is not None
        if curve.best.rate in (tried[0], tried[-1]):
            assert curve.rate is None
        else:
            assert curve.rate == pytest.approx(true, rel=1e-6)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_best_rate_lies_within_half_a_step_of_the_best_that_was_tried(data: st.DataObject) -> None:
    rows = [
        row for row in made.rows(Truth(seeds=(0,), batches=(8,), ranks=(2, 4))) if row["method"] == "full"
    ]
    losses = data.draw(st.lists(st.floats(0.1, 2.0), min_size=len(rows), max_size=len(rows)))
    (curve,) = curves(Sweep.of([{**row, "loss": loss} for row, loss in zip(rows, losses, strict=True)]))
    assert curve.best is not None
    if curve.rate is not None:
        assert abs(math.log2(curve.rate / curve.best.rate)) <= 0.5 + 1e-9


def test_beside_a_diverged_training_the_best_rate_is_the_one_that_was_tried() -> None:
    truth = Truth(full=1e-4, rates=made.RATES, diverging=1.5e-4)
    (curve,) = [each for each in curves(made.sweep(truth)) if each.at.method == "full"][:1]
    assert curve.best is not None and curve.rate == curve.best.rate == made.RATES["full"][3]
    lost = [curve for curve in curves(made.sweep(replace(truth, diverging=1e-9))) if curve.best is None]
    assert len(lost) == len(curves(made.sweep(truth))) and all(curve.rate is None for curve in lost)


@pytest.mark.parametrize("groups", [2, 4, 6])
def test_an_interval_holds_the_truth_as_often_as_it_says(groups: int) -> None:
    """Groups that vary unequally, with many correlated differences in each; taken as independent they would promise
    far too much."""
    draw, held, naive, tries = random.Random(7), 0, 0, 1500
    for _ in range(tries):
        differences = [
            (group, 2.0 + shared + draw.gauss(0, 0.1))
            for group in range(groups)
            for shared in [draw.gauss(0, 0.3 * (1 + group % 3))]
            for _ in range(12)
        ]
        found, loose = interval(differences), interval(enumerate(value for _, value in differences))
        assert found and loose and found.low is not None and loose.low is not None
        assert found.high is not None and loose.high is not None
        held += found.low <= 2.0 <= found.high
        naive += loose.low <= 2.0 <= loose.high
    assert held / tries >= 0.94
    assert naive / tries < 0.75


def test_a_single_group_has_no_interval_and_none_no_mean() -> None:
    found = interval([("a", 1.0), ("a", 3.0)])
    assert found is not None and (found.value, found.low, found.high) == (2.0, None, None)
    assert interval([]) is None
    both = interval([("a", 1.0), ("a", 1.0), ("a", 1.0), ("b", 3.0)])
    assert both is not None and both.value == 2.0 and (both.groups, both.pairs) == (2, 4)


HELD = {"rank": 2, "targets": "all", "batch": 8}


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        ("rank", ["rank 2", "rank 16", "Full fine-tuning"]),
        ("targets", ["attention", "feed-forward", "attention and feed-forward", "Full fine-tuning"]),
        (
            "batch",
            [
                *("batch size 8", "batch size 32"),
                *("Full fine-tuning, batch size 8", "Full fine-tuning, batch size 32"),
            ],
        ),
        ("method", ["LoRA", "Full fine-tuning"]),
    ],
)  # fmt: skip
def test_lines_differ_in_one_thing(by: str, labels: list[str]) -> None:
    sweep = made.sweep(Truth())
    found = landscape.lines(sweep, "smollm2-135m", by, "loss", HELD)
    assert [line.label for line in found] == labels
    for line in found:
        assert [spot.rate for spot in line.spots] == made.RATES[line.method]
        assert all(spot.seeds == 2 for spot in line.spots) and line.diverged == 0
        kept = {name: {getattr(point, name) for point in line.points} for name in HELD}
        assert all(len(values) == 1 for values in kept.values())
        if line.method == "lora":
            assert all(kept[name] == {value} for name, value in HELD.items() if name != by)


def test_diverged_trainings_are_counted_and_not_drawn() -> None:
    sweep = made.sweep(Truth(diverging=1e-3))
    line = landscape.lines(sweep, "smollm2-135m", "method", "loss", HELD)[0]
    lost = [rate for rate in made.RATES["lora"] if rate >= 1e-3]
    assert line.diverged == 2 * len(lost) and max(spot.rate for spot in line.spots) < 1e-3
    nothing = made.sweep(Truth(diverging=0))
    assert landscape.best_of(landscape.lines(nothing, "smollm2-135m", "rank", "loss", HELD), "loss") is None


LARGEST = 10_000_000  # bytes
LEAST = 200  # trainings


def test_what_ships_is_small_and_says_where_it_is_from() -> None:
    files = resources.files("peft_lab.studies") / "shipped_sweep"
    assert (
        sum(len((files / name).read_bytes()) for name in (shipped_sweep.ROWS_FILE, shipped_sweep.ABOUT_FILE))
        < LARGEST
    )
    sweep = shipped_points()
    assert sweep.machine["processor"] and sweep.machine["cores"] and sweep.machine["python"]
    assert {"torch", "transformers", "peft"} <= set(sweep.packages) and sweep.device and sweep.dtype
    assert len(sweep.created) == len("2026-01-01") and sweep.command.startswith("python -m tools.sweep")


def test_what_ships_lies_on_the_grid() -> None:
    sweep = shipped_points()
    names = maker.Training.__dataclass_fields__
    known = {each.key for grid in maker.GRIDS for each in maker.trainings(grid)}
    keys = [maker.Training(**{name: getattr(point, name) for name in names}).key for point in sweep.points]
    assert len(keys) == len(set(keys)) >= LEAST and set(keys) <= known
    assert sweep.total == len(known)
    for grid in maker.GRIDS:
        setting = sweep.settings[grid.model]
        assert (setting.task, setting.rows, setting.eval_rows) == (grid.task, grid.rows, grid.eval_rows)
        assert dict(setting.targets) | grid.targets == setting.targets
        assert setting.metric == get_task(grid.task).metric
        for point in sweep.on(grid.model):
            assert point.steps * point.batch == grid.rows
            assert len(point.curve) <= maker.CURVE and (point.diverged or point.curve)


def test_each_training_trained_as_many_parameters_as_its_shapes_say() -> None:
    """LoRA's closed form over the maps that its targets hit, and the head. A target that hits more would be seen."""
    sweep = shipped_points()
    for point in sweep.points:
        shape = get_model(point.model).shape
        head = (shape.hidden + 1) * 2 if point.task == "sentiment" else 0
        if point.method == LORA:
            asked = sweep.settings[point.model].targets[point.targets]
            groups = shape.match(asked).groups
            weights = point.rank * sum((g.in_features + g.out_features) * g.count for g in groups)
            assert point.trainable == weights + head, point.name
        else:
            assert point.trainable == shape.total + head, point.name


@pytest.mark.weights
@pytest.mark.parametrize("model", ["minilm-l6", "smollm2-135m"])
def test_the_run_that_repeats_a_training_is_the_one_that_was_made(model: str) -> None:
    """Defaults may move on: the command would then make another run than what ships, and this says so."""
    sweep = shipped_points()
    grid = next(each for each in maker.GRIDS if each.model == model)
    for method in ("full", "lora"):
        training = next(each for each in maker.trainings(grid) if each.method == method)
        found = next((point for point in sweep.on(model) if point.method == method), None)
        if found is not None:
            asked = shipped_sweep.request_again(sweep, found).complete()
            training = maker.Training(**{n: getattr(found, n) for n in maker.Training.__dataclass_fields__})
            assert asked == maker.spec_of(grid, training)
            kept = dict(sweep.settings[model].specs[method])
            now = json.loads(json.dumps(asked.to_dict()))
            assert {**now["values"], **kept.pop("values")} == now["values"]
            assert {**now, **kept} == now


ROW = made.rows(made.Truth())[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": -1.0}, "no run"),
        ({"rank": 4}, "no run"),
        ({"metric": 1.2}, "metric of 1.2"),
        ({"diverged": True}, "scores or have diverged"),
        ({"loss": None, "metric": None}, "scores or have diverged"),
        ({"seed": "one"}, "seed cannot be 'one'"),
        ({"loss": float("nan")}, "loss cannot be"),
        ({"colour": "red"}, "no field 'colour'"),
    ],
)
def test_a_row_that_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Sweep.of([{**ROW, **change}])


def test_rows_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(BadInput, match="occurs twice"):
        Sweep.of([ROW, {**ROW, "loss": 0.1}])
    setting = {
        "task": "sentiment",
        "rows": 1,
        "eval_rows": 1,
        "metric": "accuracy",
        "targets": {},
        "specs": {},
    }
    with pytest.raises(BadInput, match="There are no settings for json on smollm2-135m"):
        Sweep.of([ROW], {"settings": {"smollm2-135m": setting}})
    with pytest.raises(BadInput, match="needs a value for 'steps'"):
        Sweep.of([{name: value for name, value in ROW.items() if name != "steps"}])
