"""A trajectory is read as it was written, and nothing that is none is taken for one."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.drawing.trajectory import format, recorder
from peft_lab.drawing.trajectory.format import (
    Example,
    LossCurve,
    Model,
    RecordedAnswer,
    RecordedPart,
    Stream,
    Trajectory,
)
from peft_lab.methods.recording import recorder as parts
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


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_other_json_is_refused(data: object) -> None:
    with pytest.raises(BadInput):
        format.from_dict(data)


def test_a_picture_keeps_the_furthest_entry_of_each_patch() -> None:
    matrix = torch.zeros(6, 4)
    matrix[0, 1], matrix[1, 0], matrix[5, 3] = -8.0, 2.0, 4.0
    found = parts.tensor_picture(matrix, 3, 2)
    cells = torch.frombuffer(bytearray(base64.b64decode(found["data"])), dtype=torch.int8).reshape(3, 2)
    assert found["shape"] == [3, 2] and found["scale"] == 8.0
    assert cells.tolist() == [[-127, 0], [0, 0], [0, 64]]


def test_a_product_is_that_of_its_factors() -> None:
    a, b = torch.randn(3, 40), torch.randn(30, 3)
    assert torch.allclose(parts.product_picture(a, b, 2.0), 2 * b @ a)


@pytest.mark.parametrize("steps", [1, 2, 24, 25, 26, 60, 300, 10_000])
def test_first_and_last_state_are_recorded_and_not_too_many(steps: int) -> None:
    found = format.recorded_states(steps)
    assert found[:2] == [0, 1] and found[-1] == steps and len(found) <= format.STATES


def test_a_run_of_25_steps_is_recorded_step_by_step() -> None:
    assert format.recorded_states(25) == list(range(26))


def test_a_stall_of_the_machine_takes_nothing_from_the_budget() -> None:
    budget = format.Budget()
    with budget.counted(measuring=True):
        time.sleep(0.3)
    assert budget.measured < 0.1 and budget.spent < 0.1


def test_recording_keeps_to_its_share() -> None:
    budget = format.Budget()
    assert budget.allows(format.FREE_STATES / 2) and not budget.allows(
        0.7 * format.FREE_STATES, measuring=True
    )
    budget.spent = format.FREE_STATES
    assert not budget.allows(1.0)
    assert format.Budget(share=None, spent=1e6).allows(1e6)


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
