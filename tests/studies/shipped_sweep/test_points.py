"""The reader refuses what cannot be; what ships is whole, on the grid, and counts as its shapes do."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.studies import shipped_sweep
from peft_lab.studies.shipped_sweep import LORA, Sweep, shipped_points
from peft_lab.training.tasks import get_task
from tests.studies.shipped_sweep import made
from tools import ship_sweep
from tools import sweep as maker

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


def test_maps_that_a_name_hits_without_being_meant_are_known() -> None:
    sweep = shipped_points()
    assert sweep.shared("minilm-l6", "mlp-and-more") == ("attention.output.dense",)
    assert "mlp" not in sweep.values("minilm-l6", "targets"), "what was trained is named by what it is"


@pytest.mark.parametrize("grid", maker.GRIDS[:2], ids=lambda grid: grid.model)
def test_a_new_training_of_the_feed_forward_maps_trains_no_others(grid: maker.Grid) -> None:
    assert shipped_points().shared(grid.model, "mlp") == ()
    rank = grid.ranks[-1]
    training = maker.Training(grid.model, LORA, grid.lora_rates[0], rank, "mlp", grid.batches[0], 0)
    asked = dict(maker.spec_of(grid, training).values)["target_modules"]
    shape = get_model(grid.model).shape
    groups = shape.match(asked).groups
    assert {group.role for group in groups} <= {"gate", "up", "down"}
    counted = get_method(LORA).formula(
        shape, {**get_method(LORA).defaults(shape), "r": rank, "target_modules": asked}
    )
    assert counted.trainable == rank * sum((g.in_features + g.out_features) * g.count for g in groups)


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


def test_the_command_says_every_setting() -> None:
    sweep = shipped_points()
    point = next(point for point in sweep.points if point.method == LORA)
    words = shipped_sweep.command_of(sweep, point).split()
    assert words[:5] == ["python", "-m", "peft_lab", "train", "--model"]
    for option, value in (
        ("--lr", f"{point.rate:g}"),
        ("--batch", str(point.batch)),
        ("--seed", str(point.seed)),
    ):
        assert words[words.index(option) + 1] == value
    assert f"r={point.rank}" in words


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


def test_files_that_overlap_are_put_together_once(tmp_path: Any) -> None:
    point = next(iter(maker.trainings(maker.GRIDS[0])))
    row = {**ROW, **vars(point), "task": "sentiment", "curve": [0.7, float("nan")]}
    found = ship_sweep.union([json.dumps(row), json.dumps({**row, "seconds": 9.0})])
    assert len(found) == 1 and found[0]["curve"] == [0.7]
    with pytest.raises(ValueError, match="other figures"):
        ship_sweep.union([json.dumps(row), json.dumps({**row, "loss": 0.1})])
    with pytest.raises(ValueError, match="on no grid"):
        ship_sweep.union([json.dumps({**row, "rate": 3.0})])


@pytest.mark.weights
def test_what_is_shipped_again_is_what_stood_there(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    old = (resources.files("peft_lab.studies") / "shipped_sweep" / shipped_sweep.ROWS_FILE).read_text("utf-8")
    (tmp_path / "old.jsonl").write_text(old, "utf-8")
    assert ship_sweep.main([str(tmp_path / "old.jsonl"), "--again", "0", "--note", "a note"], tmp_path) == 0
    assert (tmp_path / shipped_sweep.ROWS_FILE).read_text("utf-8") == old
    again_read = shipped_sweep.read_points(old, (tmp_path / shipped_sweep.ABOUT_FILE).read_text("utf-8"))
    assert again_read.points == shipped_points().points and again_read.note == "a note"


@pytest.mark.weights
def test_nothing_ships_that_does_not_come_out_again(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = json.loads(
        (resources.files("peft_lab.studies") / "shipped_sweep" / shipped_sweep.ROWS_FILE)
        .read_text("utf-8")
        .splitlines()[0]
    )
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps(row), "utf-8")
    monkeypatch.setattr(maker, "outcome", lambda grid, training: {**row, "seconds": 2.0})
    assert ship_sweep.main([str(file)], tmp_path) == 0
    assert "1 made again with equal figures" in capsys.readouterr().out
    (tmp_path / shipped_sweep.ABOUT_FILE).unlink()
    monkeypatch.setattr(maker, "outcome", lambda grid, training: {**row, "loss": row["loss"] + 1e-5})
    assert ship_sweep.main([str(file)], tmp_path) == 1
    assert (
        "came out otherwise" in capsys.readouterr().err and not (tmp_path / shipped_sweep.ABOUT_FILE).exists()
    )
