"""What is recorded of real small trainings: it changes nothing, and its numbers are what they are said to be."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from peft_lab.drawing.trajectory import recorder as passing
from peft_lab.drawing.trajectory.format import SLOTS, TENSORS, Budget, Trajectory, from_dict
from peft_lab.drawing.trajectory.recorder import TrajectoryRecorder
from peft_lab.runs import course, training
from peft_lab.runs.spec import RunRequest
from peft_lab.training.step import Masters, Phase, unfollowed

pytestmark = pytest.mark.weights
STEPS = 4


def trained(slug: str, folder: Path | None, **values: Any) -> tuple[list[float], TrajectoryRecorder | None]:
    """The losses of a small training, recorded into ``folder`` or not at all."""
    request = RunRequest("minilm-l6", slug, "sentiment", values, steps=STEPS, batch=4, eval_rows=1)
    ready = course.prepare(request.complete())
    recorder = (
        None if folder is None else training.start_recording(ready, "a-run", folder, Budget(share=None))
    )
    masters = Masters(ready.model)
    follow = unfollowed
    if recorder is not None:
        from contextlib import contextmanager

        held = recorder

        @contextmanager
        def follow(step: int, batch: Any) -> Any:
            with held.following(step):
                phase: Phase = lambda name: held.after_backward(step) if name == "optimizer" else None  # noqa: E731
                yield phase

        recorder.state(0)
    losses = []
    for made in course.steps(ready, masters, course.optimizer_of(ready, masters), follow):
        losses.append(made.loss)
        if recorder is not None:
            recorder.made(made)
    if recorder is not None:
        recorder.close()
    return losses, recorder


def read(folder: Path) -> Trajectory:
    import json

    return from_dict(json.loads((folder / "trajectory.json").read_text("utf-8")))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("slug", ("lora", "qlora", "prompt", "ptuning", "adapters", "ia3", "bitfit", "full"))
def test_a_method_records_and_its_training_is_the_same(slug: str, tmp_path: Path, assets_home: Path) -> None:
    plain, _ = trained(slug, None)
    losses, _ = trained(slug, tmp_path)
    assert losses == plain
    found = read(tmp_path)
    assert found.steps == list(range(STEPS + 1)) and found.ended and len(found.curve.loss) == STEPS
    assert sum(part.parameters for part in found.parts) == found.model.trainable
    assert [answer.step for answer in found.answers] == found.steps
    assert {answer.text for answer in found.answers} <= {"positive", "negative"}
    for part in found.parts:
        assert part.slot in SLOTS and set(part.tensors) <= set(TENSORS[part.kind])  # type: ignore[index]
        assert part.gradient[0] is not None and part.gradient[-1] is None
        assert part.change[0] in (0.0, None) and (part.change[-1] is None or part.change[-1] > 0)
    assert found.stream.moved[0] == [0.0] * (found.model.layers + 1)
    first = found.stream.gradient[0]
    assert first is not None and all(value for value in first[1:])


def test_the_share_of_a_low_rank_correction_is_its_part_of_the_output(
    tmp_path: Path, assets_home: Path
) -> None:
    _, recorder = trained("lora", tmp_path)
    assert recorder is not None and recorder.asked is not None
    part = recorder.own.parts[0]
    module: Any = recorder.model.get_submodule(f"base_model.model.{part.path}")
    seen: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _, args, output: seen.append(args[0]))
    with passing.evaluating(recorder.model):
        passing.example(recorder.model, recorder.asked.inputs, recorder.own.parts, recorder.layers)
    handle.remove()
    scale = module.scaling["default"]
    delta = scale * module.lora_B["default"].weight.float() @ module.lora_A["default"].weight.float()
    weight = module.base_layer.weight.float()
    x = seen[0][0].float()
    with torch.no_grad():
        expected = float((x @ delta.T).norm() / (x @ weight.T + module.base_layer.bias.float()).norm())
    assert part.share == pytest.approx(expected, rel=0.02)
    values = torch.linalg.svdvals(delta)[: part.rank].tolist()
    assert part.spectrum() == pytest.approx(values, rel=1e-3)
    assert part.change() == pytest.approx(math.hypot(*values) / float(weight.norm()), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("probes", "states"), [(("A film.",), [0, 5, 10, 12]), ((), [0, 12])])
def test_a_run_that_may_cost_nothing_records_what_is_asked_in_any_case(
    probes: tuple[str, ...], states: list[int], tmp_path: Path, assets_home: Path
) -> None:
    request = RunRequest("minilm-l6", "bitfit", "sentiment", steps=12, batch=1, eval_rows=1, probes=probes)
    ready = course.prepare(request.complete())
    recorder = training.start_recording(
        ready, "a-run", tmp_path, Budget(share=0.0, spent=10.0, measured=10.0)
    )
    masters = Masters(ready.model)
    recorder.state(0)
    for made in course.steps(ready, masters, course.optimizer_of(ready, masters)):
        recorder.made(made)
    recorder.close()
    found = read(tmp_path)
    assert found.steps == states and len(found.curve.loss) == 12
    assert [answer.step for answer in found.answers] == states


def test_a_drafted_answer_says_nothing_of_the_next_ones_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 4.0, 4.1])  # the first answer took 4 s, the second was drafted well
    monkeypatch.setattr(passing, "time", SimpleNamespace(process_time=lambda: next(clock)))
    offered: list[float] = []
    budget: Any = SimpleNamespace(allows=offered.append, counted=nullcontext)  # allows nothing
    asked: Any = SimpleNamespace(answer=lambda *_: "", score=lambda _: 0.0, writes=True)
    answering = passing.Answering(torch.nn.Linear(1, 1), asked, budget, {1, 2})
    for step in (1, 2, 3):
        answering.wants(step)
        answering.catch_up()
    assert [answer.step for answer in answering.answers()] == [1, 2]
    assert offered[-1] == 4.0
