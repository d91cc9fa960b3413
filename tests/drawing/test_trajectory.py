"""Trajectories are read as they were written; what ships is whole, small, and counts as it says of itself."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.drawing.trajectory import format, recorder
from peft_lab.drawing.trajectory.format import (
    STATES,
    Example,
    LossCurve,
    Model,
    RecordedAnswer,
    RecordedPart,
    Stream,
    Trajectory,
)
from peft_lab.drawing.trajectory.sentence import (
    ASKED,
    FILE_BYTES,
    SHIPPED,
    STEPS,
    shipped,
)
from peft_lab.methods import get_method
from peft_lab.methods.recording import recorder as parts
from peft_lab.models.catalogue import get_model
from peft_lab.runs.spec import RunSpec
from peft_lab.training.marking import marked
from peft_lab.training.tasks import get_task
from peft_lab.training.tasks.orders import first_object
from tests.prose import says


def small(states: int = 3) -> Trajectory:
    picture = parts.tensor_picture(torch.randn(20, 20), 20, 20)
    part = RecordedPart(
        "layers.0.q", 0, "q", "low_rank", (8, 8), 32, 2,
        share=[0.5] * states, gradient=[None] * states, change=[0.1] * states,
        spectrum=[[float(n) for n in range(12)]] * states, tensors={"A": [picture] * states},
    )  # fmt: skip
    return Trajectory(
        "lora", "a-run", "2026-01-02T03:04:05+00:00", {"steps": 2}, {"processor": "P", "device": "cpu"},
        {"torch": "2"},
        Model("m", "M", "encoder", 1, 8, 16, 2, 2, 4, 10, 1000, 32, 0, "float32"),
        Example("text", ("te", "xt"), "yes", "accuracy"), list(range(states)),
        LossCurve([1.0, 0.5], [0.1, 0.2], [3.0, 2.0]),
        [part], Stream([[0.0, 0.1]] * states, [[None, 1.0]] * states), None, [RecordedAnswer(0, "no", 0.0)], ended=True,
    )  # fmt: skip


def test_what_is_written_is_read() -> None:
    found = small()
    assert format.from_dict(json.loads(recorder.compact_trajectory(found.to_dict()))) == found
    assert says(found.label, "2026-01-02", "P", "cpu")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.update(format=0),
        lambda data: data.pop("steps"),
        lambda data: data.update(steps=[0, 1]),
        lambda data: data.update(steps=[0, 2, 1]),
        lambda data: data.update(more=1),
        lambda data: data["parts"][0].update(share=[1.0]),
        lambda data: data["parts"][0].update(share=["x"] * 3),
        lambda data: data["parts"][0]["tensors"].update(A=[None]),
        lambda data: data["stream"].update(moved=[]),
        lambda data: data.update(attention=[]),
        lambda data: data.update(parts={}),
        lambda data: data["model"].pop("layers"),
    ],
)
def test_what_is_no_trajectory_is_refused(damage: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(recorder.compact_trajectory(small().to_dict()))
    damage(data)
    with pytest.raises(BadInput):
        format.from_dict(data)


def test_a_picture_keeps_the_furthest_entry_of_each_patch() -> None:
    matrix = torch.zeros(6, 4)
    matrix[0, 1], matrix[1, 0], matrix[5, 3] = -8.0, 2.0, 4.0
    found = parts.tensor_picture(matrix, 3, 2)
    cells = torch.frombuffer(bytearray(base64.b64decode(found["data"])), dtype=torch.int8).reshape(3, 2)
    assert found["shape"] == [3, 2] and found["scale"] == 8.0
    assert cells.tolist() == [[-127, 0], [0, 0], [0, 64]]


@pytest.mark.parametrize("steps", [1, 2, 24, 25, 26, 60, 300, 10_000])
def test_first_and_last_state_are_recorded_and_not_too_many(steps: int) -> None:
    found = format.recorded_states(steps)
    assert found[:2] == [0, 1] and found[-1] == steps and len(found) <= format.STATES


def test_an_answer_that_took_too_long_leaves_the_states_their_share() -> None:
    budget = format.Budget(spent=100.0, measured=0.1)
    assert not budget.allows(0.1)
    assert budget.allows(0.1, measuring=True)
    with budget.counted(measuring=True):
        pass
    assert budget.spent > 100.0 and budget.measured > 0.1
    budget.measured = format.MEASURING * format.FREE_STATES
    assert not budget.allows(0.1, measuring=True)


def test_too_large_a_file_loses_pictures_and_no_numbers() -> None:
    whole = recorder.fitted_trajectory(small(9))
    most = len(recorder.compact_trajectory(whole)) - 1000
    found = recorder.fitted_trajectory(small(9), most)
    assert len(recorder.compact_trajectory(found).encode()) <= most
    kept = [value is not None for value in found["parts"][0]["tensors"]["A"]]
    assert kept[0] and kept[-1] and not all(kept)
    assert found["parts"][0]["share"] == whole["parts"][0]["share"]
    assert len(found["parts"][0]["spectrum"][0]) == recorder.LEADING


ROOT = Path(__file__).parents[2]
ALL_BYTES = 3_000_000


def test_together_they_are_small() -> None:
    assert len(format.shipped_names()) > 8
    assert sum(file.stat().st_size for file in format.SHIPPED_DATA.glob("*.json")) <= ALL_BYTES


@pytest.mark.parametrize("name", format.shipped_names())
def test_a_shipped_trajectory_is_of_a_whole_run(name: str) -> None:
    found, (slug, _, model) = format.shipped(name), name.partition(".")
    assert (format.SHIPPED_DATA / f"{name}.json").stat().st_size <= format.FILE_BYTES
    assert (
        found.method == slug and found.ended and found.run and re.match(r"20\d\d-\d\d-\d\dT", found.recorded)
    )
    spec = RunSpec.from_dict(found.spec)
    assert found.steps[0] == 0 and found.steps[-1] == spec.steps == len(found.curve.loss)
    assert len(found.steps) <= STATES
    if get_model(spec.model).kind == "vision":
        assert not found.answers, "it is asked no sentence"
    else:
        assert found.answers[0].step == 0 and found.answers[-1].step == spec.steps
    assert {"torch", "transformers", "peft"} <= set(found.versions) and found.machine["processor"]
    page = (ROOT / "pages" / f"{slug}.py").read_text("utf-8")
    assert spec.model == model or f'first_model="{spec.model}"' in page
    assert format.shipped_on(slug, spec.model) is found
    assert found.model.total == get_model(spec.model).shape.total
    assert sum(part.parameters for part in found.parts) == found.model.trainable
    assert all(math.isfinite(loss) for loss in found.curve.loss)
    assert any(part.tensors for part in found.parts)


RUN = shipped()


def test_it_is_small_and_has_every_state_of_a_run_on_an_order_that_is_not_trained_on() -> None:
    assert SHIPPED.stat().st_size <= FILE_BYTES
    row = get_task(RUN.spec["task"]).load().test[0]
    assert (RUN.order, RUN.right) == (row.text, row.target)
    assert "".join(RUN.order_tokens) == RUN.order and "".join(RUN.right_tokens) == RUN.right
    assert len(RUN.loss) == RUN.spec["steps"] == STEPS
    assert tuple(answer.step for answer in RUN.answers) == ASKED
    layers = get_model(RUN.spec["model"]).shape.num_layers
    assert {name: {len(state) for state in states} for name, states in RUN.moved.items()} == {
        "q": {layers},
        "v": {layers},
    }


def test_its_counts_are_the_methods() -> None:
    entry, method = get_model(RUN.spec["model"]), get_method(RUN.spec["method"])
    assert RUN.spec["values"] == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in method.complete(entry.shape, {}).items()
    }
    assert RUN.trained == method.formula(entry.shape, method.complete(entry.shape, {})).trainable
    assert RUN.total == entry.shape.total


def test_it_learns_the_form_and_every_field() -> None:
    first, last = RUN.answers[0], RUN.answers[-1]
    assert first_object(first.text) is None
    assert first_object(last.text) == json.loads(RUN.right)
    right = [marked(answer.text, RUN.right).right for answer in RUN.answers]
    assert right[0] == 0 and right[-1] == 5 and right == sorted(right)
    score = get_task(RUN.spec["task"]).score
    row = get_task(RUN.spec["task"]).load().test[0]
    assert [score([answer.text], [row])["exact_match"] for answer in RUN.answers][-1] == 1
    assert sum(RUN.loss[-5:]) < sum(RUN.loss[:5]) / 10
