"""The sweep's grid, and that what stands in its file is not trained again."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tools import sweep


def test_the_grid_is_large_and_names_no_training_twice() -> None:
    keys = [training.key for grid in sweep.GRIDS for training in sweep.trainings(grid)]
    assert len(keys) == len(set(keys)) >= 400
    assert {grid.model for grid in sweep.GRIDS} == {"minilm-l6", "smollm2-135m"}


@pytest.mark.weights
@pytest.mark.parametrize("grid", sweep.GRIDS, ids=lambda grid: grid.model)
def test_a_training_sees_as_many_rows_whatever_its_batch(grid: sweep.Grid) -> None:
    for batch in grid.batches:
        training = next(
            each for each in sweep.trainings(grid) if each.method == "lora" and each.batch == batch
        )
        spec = sweep.spec_of(grid, training)
        assert spec.steps * spec.batch == grid.rows
        assert spec.values["target_modules"] == grid.targets[training.targets]
        assert (spec.values["r"], spec.learning_rate) == (training.rank, training.rate)


def test_what_was_made_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [(grid, training) for grid in sweep.GRIDS for training in sweep.trainings(grid)]
    left = everything.pop(7)
    file = tmp_path / "sweep.jsonl"
    file.write_text("".join(json.dumps(asdict(training)) + "\n" for _, training in everything), "utf-8")
    made: list[tuple[sweep.Grid, sweep.Training]] = []

    def outcome(grid: sweep.Grid, training: sweep.Training) -> dict[str, object]:
        made.append((grid, training))
        return asdict(training)

    monkeypatch.setattr(sweep, "outcome", outcome)
    monkeypatch.setattr(sys, "argv", ["sweep", str(file)])
    sweep.main()
    sweep.main()
    assert made == [left]
