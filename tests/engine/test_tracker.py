"""The tracker on real tensors: every storage once, from birth to end."""

from __future__ import annotations

from peft_lab.engine.account import parts_of, timeline
from peft_lab.engine.tracker import MemoryRecorder, recording


def test_storages_are_seen_once_and_their_end_is_noticed() -> None:
    import torch

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
    import torch

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


def test_stopping_ends_the_record() -> None:
    import torch

    recorder = MemoryRecorder()
    with recording(recorder):
        kept = torch.ones(10)
    trace = recorder.stop()
    del kept
    assert trace.events == [0]
