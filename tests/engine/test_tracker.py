"""What is tracked of a step, and results whose shapes are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peft_lab.engine import kernels, running, tracker
from peft_lab.engine.account import parts_of, timeline
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import blueprint_of
from peft_lab.engine.tracker import MemoryRecorder, Trace, recording
from peft_lab.methods import all_methods
from peft_lab.methods.base import Problem
from peft_lab.models.catalogue import get_model

pytestmark = pytest.mark.filterwarnings("ignore")

# -- The tracker on real tensors: every storage once, from birth to end.


def test_storages_are_seen_once_and_their_end_is_noticed() -> None:
    recorder = MemoryRecorder()
    base = torch.ones(1000)
    recorder.see(base, "weights")
    with recording(recorder):
        recorder.enter("forward")
        view = base.view(10, 100)
        made = view + 1
        inside = made[2:5]
        del made
        twice = inside * 2
        del inside
        del twice
    trace = recorder.stop()
    assert [storage.nbytes for storage in trace.storages] == [4000, 4000, 1200]
    assert trace.events == [0, 1, 2, ~1, ~2]


def test_parts_follow_from_a_life() -> None:
    recorder = MemoryRecorder()
    weight = torch.randn(64, 64, requires_grad=True)
    recorder.see(weight, "weights")
    with recording(recorder):
        recorder.enter("forward")
        hidden = torch.ones(8, 64) @ weight
        loss = hidden.exp().sum()
        recorder.enter("backward")
        loss.backward()
        recorder.enter("optimizer")
        number = recorder.number(weight.grad)  # type: ignore[arg-type]
        assert number is not None
        recorder.trace.storages[number].part = "gradients"
        moment = torch.zeros_like(weight)
        recorder.enter("idle")
    trace = recorder.stop()
    parts = parts_of(trace)
    assert parts[0] == "weights"
    assert parts.count("gradients") == 1
    assert parts.count("optimizer") == 1
    assert "activations" in parts
    points = timeline(trace)
    assert [point.phase for point in points] == ["load", "forward", "backward", "optimizer"]
    assert all(sum(point.parts.values()) == point.nbytes for point in points)
    del moment


# -- Operations that are known by their inputs' shapes: the same results, and the same trace, as when they are run.


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_known_shapes", {})


def traced(model: str, method: str, setting: StepSetting) -> Trace:
    blueprint = blueprint_of(StepRequest(model, method, {}, setting))
    trace, _ = running._run_at(blueprint, setting, running.two_steps, 2)
    return trace


def events(trace: Trace) -> list[tuple[bool, int, str, int | None]]:
    numbers = [(event >= 0, event if event >= 0 else ~event) for event in trace.events]
    storages = trace.storages
    return [(born, storages[n].nbytes, storages[n].part, storages[n].layer) for born, n in numbers]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("method", list(all_methods()))
@pytest.mark.parametrize(
    ("model", "setting"),
    [
        ("smollm2-135m", StepSetting(2, 24)),
        ("minilm-l6", StepSetting(3, 16, device="cpu")),
        ("gpt2", StepSetting(2, 8, generate=(3, 4))),
    ],
)
def test_a_step_leaves_the_same_trace(
    model: str, method: str, setting: StepSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems: list[Problem] = list(all_methods()[method].problems(get_model(model).shape, {}))
    if any(problem.level == "error" for problem in problems):
        pytest.skip(problems[0].message)
    first, again = traced(model, method, setting), traced(model, method, setting)
    assert kernels._known_shapes, "something is known"
    monkeypatch.setattr(tracker, "carry_out_known", lambda func, args, kwargs: (func(*args, **kwargs), None))
    plain = traced(model, method, setting)
    assert events(first) == events(again) == events(plain)
    assert again.work == plain.work  # the first asks this processor which attention kernel it takes


def called(func: Any, *args: Any, **kwargs: Any) -> Any:
    return kernels.carry_out_known(func, args, kwargs)[0]


def test_a_result_is_made_anew_and_alike() -> None:
    aten = torch.ops.aten
    rows, weight = torch.empty(3, 4, device="meta"), torch.empty(4, 5, device="meta", dtype=torch.float32)
    one, two = called(aten.mm.default, rows, weight), called(aten.mm.default, rows, weight)
    assert one.shape == two.shape == (3, 5) and two.dtype == torch.float32 and two.is_meta
    assert one.untyped_storage()._cdata != two.untyped_storage()._cdata
    assert len(kernels._known_shapes) == 1
    # Two outputs, one of them of another type.
    kept, indices = called(aten.topk.default, rows, 2)
    again = called(aten.topk.default, rows, 2)
    assert type(again) is type((kept, indices)) or isinstance(again, tuple)
    assert [each.dtype for each in again] == [kept.dtype, indices.dtype]


def test_a_list_that_is_changed_is_not_worked_out_again() -> None:
    add = torch.ops.aten._foreach_add_.List
    ones = [torch.empty(3, 4, device="meta"), torch.empty(5, device="meta")]
    called(add, ones, [torch.empty(3, 4, device="meta"), torch.empty(5, device="meta")], alpha=2)
    called(add, ones, [torch.empty(3, 4, device="meta"), torch.empty(5, device="meta")], alpha=3)
    assert len(kernels._known_shapes) == 1, "of another number it does the same"
    with pytest.raises(RuntimeError):
        called(add, ones, [torch.empty(7, 4, device="meta"), torch.empty(5, device="meta")], alpha=2)
    valued = [torch.ones(2)]
    called(add, valued, [torch.ones(2)])
    called(add, valued, [torch.ones(2)])
    assert valued[0].tolist() == [3.0, 3.0], "what has values is always changed"


def test_what_differs_is_not_taken_for_the_same() -> None:
    aten = torch.ops.aten
    whole = torch.empty(4, 4, device="meta", dtype=torch.int64)
    assert called(aten.add.Tensor, whole, 1).dtype == torch.int64
    assert called(aten.add.Tensor, whole, 1.0).dtype == torch.float32
    assert called(aten.add.Tensor, whole, True).dtype == torch.int64
    assert called(aten.clone.default, whole.t()).stride() == (1, 4)
    assert called(aten.clone.default, whole).stride() == (4, 1)
    assert called(aten.sum.dim_IntList, whole, [0], True).shape == (1, 4)
    assert called(aten.sum.dim_IntList, whole, [0], False).shape == (4,)


def test_what_changes_or_returns_an_input_is_run() -> None:
    aten = torch.ops.aten
    tensor = torch.empty(4, 4, device="meta")
    for func, args in (
        (aten.view.default, (tensor, [16])),
        (aten._unsafe_view.default, (tensor, [16])),
        (aten.add_.Tensor, (tensor, 1)),
        (aten.t.default, (tensor,)),
    ):
        result = called(func, *args)
        assert result.untyped_storage()._cdata == tensor.untyped_storage()._cdata
    assert not kernels._known_shapes


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_KEPT", 3)
    for size in range(1, 9):
        called(torch.ops.aten.relu.default, torch.empty(size, device="meta"))
        assert len(kernels._known_shapes) <= 3
