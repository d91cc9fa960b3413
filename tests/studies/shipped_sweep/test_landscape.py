"""What a picture of a sweep shows."""

from __future__ import annotations

import pytest

from peft_lab.studies import landscape
from peft_lab.studies.shipped_sweep import Sweep, shipped_points
from tests.studies.shipped_sweep import made
from tests.studies.shipped_sweep.made import Truth

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


def test_the_best_is_the_lowest_loss_and_the_highest_share_of_all_lines() -> None:
    sweep = made.sweep(Truth(times=16, attention=0.8))
    for figure in ("loss", "metric"):
        best = landscape.best_of(landscape.lines(sweep, "smollm2-135m", "targets", figure, HELD), figure)
        assert best is not None
        line, spot = best
        assert line.label == "attention" and spot.rate == pytest.approx(1.6e-3)
        assert line.first(spot.rate).seed == 0 and line.at(spot.rate, figure) == spot


def test_a_band_reaches_over_the_seeds_and_one_that_lacks_a_rate_is_left_out() -> None:
    rows = made.rows(Truth(noise=0.1))
    gone = next(row for row in rows if row["method"] == "full" and row["batch"] == 8 and row["seed"] == 1)
    for given, seeds in ((rows, (0, 1)), ([row for row in rows if row is not gone], (0,))):
        line = landscape.lines(Sweep.of(given), "smollm2-135m", "method", "loss", HELD)[-1]
        assert line.best == min(line.spots, key=lambda spot: spot.mean)
        assert [spot.rate for spot in line.spots] == made.RATES["full"]
        for spot in line.spots:
            values = [
                row["loss"] for row in given
                if (row["method"], row["batch"], row["rate"]) == ("full", 8, spot.rate) and row["seed"] in seeds
            ]  # fmt: skip
            assert (spot.low, spot.high, spot.seeds) == (min(values), max(values), len(seeds))
            assert spot.mean == pytest.approx(sum(values) / len(values))


def test_diverged_trainings_are_counted_and_not_drawn() -> None:
    sweep = made.sweep(Truth(diverging=1e-3))
    line = landscape.lines(sweep, "smollm2-135m", "method", "loss", HELD)[0]
    lost = [rate for rate in made.RATES["lora"] if rate >= 1e-3]
    assert line.diverged == 2 * len(lost) and max(spot.rate for spot in line.spots) < 1e-3
    nothing = made.sweep(Truth(diverging=0))
    assert landscape.best_of(landscape.lines(nothing, "smollm2-135m", "rank", "loss", HELD), "loss") is None


def test_what_ships_can_be_drawn_in_every_way() -> None:
    sweep = shipped_points()
    for model in landscape.models(sweep):
        for by in landscape.BY:
            found = landscape.lines(sweep, model, by, "loss", landscape.usual(sweep, model))
            assert landscape.best_of(found, "loss") is not None
    assert (
        landscape.named(sweep, "minilm-l6", "targets", "mlp-and-more")
        == "feed-forward and attention.output.dense"
    )
