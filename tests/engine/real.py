"""A real step of a small model on this processor, its storages noted as a simulation's are, or by torch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from peft_lab.engine import account, running, step
from peft_lab.engine.account import MemoryPoint
from peft_lab.engine.build import Blueprint, make_subject
from peft_lab.engine.request import StepSetting
from peft_lab.engine.tracker import MemoryRecorder, recording


def built(blueprint: Blueprint) -> Any:
    """The blueprint's model with random weights, its PEFT config applied."""
    import peft
    import transformers

    model = transformers.AutoModelForCausalLM.from_config(blueprint.config, dtype=blueprint.dtype)
    if blueprint.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    method: Any = blueprint.method
    return model if method is None else peft.get_peft_model(model, method)


def points(
    blueprint: Blueprint,
    batch: dict[str, Any],
    prepare: Callable[[Any], None],
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> list[MemoryPoint]:
    """Two AdamW steps, stretch by stretch. ``prepare`` is told the model, ``around`` every step."""
    model = built(blueprint)
    prepare(model)
    recorder = MemoryRecorder()
    subject = make_subject(model, blueprint, recorder, blueprint.depth)
    optimizer = step.make_optimizer("adamw", model, False)
    model.train()
    with recording(recorder), step.watching(subject, recorder):
        for _ in range(2):
            with around():
                step.train(subject, recorder, optimizer, batch, False)
    return account.timeline(recorder.stop())


def peak(points: list[MemoryPoint]) -> int:
    return max(point.nbytes for point in points)


def simulated(blueprint: Blueprint, setting: StepSetting) -> int:
    """The peak of the same step as it is simulated."""
    return peak(account.timeline(running.run(blueprint, setting)[0]))


def profiled(model: Any, once: Callable[[], object]) -> int:
    """Most bytes alive in two steps, by torch's own profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        once()
        once()
    alive = most = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most + sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
