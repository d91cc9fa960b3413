"""A copied model is stepped as one that was built, and is not built twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from peft_lab.engine import build as prototypes
from peft_lab.engine.build import Blueprint, tensors_of
from peft_lab.engine.lab import LabBatch, simulate_lab
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.running import run
from peft_lab.engine.simulate import blueprint_of, simulate

SETTING = StepSetting(2, 32, device="cuda", capability=(8, 9))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["full", "lora", "qlora", "adapters"])
@pytest.mark.parametrize("model", ["smollm2-135m", "gpt2"])  # both tie their embeddings
def test_a_copy_leaves_the_trace_of_a_built_model(
    model: str, method: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    blueprint = blueprint_of(StepRequest(model, method, {}, SETTING, "bfloat16", checkpointing))
    assert blueprint.source
    expected = run(replace(blueprint, source=""), SETTING)[0]
    prototypes._prototypes.clear()
    built: list[int | None] = []
    build = Blueprint.build

    def counted(self: Blueprint, depth: int | None = None) -> Any:
        built.append(depth)
        return build(self, depth)

    monkeypatch.setattr(Blueprint, "build", counted)
    traces = [run(blueprint, SETTING)[0] for _ in range(2)]
    assert len(built) == 1
    for trace in traces:
        assert trace.events == expected.events and trace.storages == expected.storages


def test_other_settings_are_other_models() -> None:
    asked = StepRequest("smollm2-135m", "lora", {"r": 4}, SETTING)
    sources = {
        blueprint_of(one).source
        for one in (asked, replace(asked, values={"r": 8}), replace(asked, method="ia3", values={}))
    }
    assert len(sources) == 3
    assert blueprint_of(asked.at(batch=7)).source in sources


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_runs_step_and_a_step_of_memory_do_not_share_a_model(attention: str) -> None:
    """The first that was simulated in a process had decided the attention of the other, 0.7% of this peak."""
    memory = StepRequest("minilm-l6", "lora", {}, SETTING, "bfloat16")
    lab = replace(memory, setting=LabBatch(2, 32, device="cuda", capability=(8, 9), implementation=attention))
    peaks = []
    for order in ((memory, lab), (lab, memory)):
        prototypes._prototypes.clear()
        first, second = ((simulate_lab if one is lab else simulate)(one).peak_bytes for one in order)
        peaks.append((first, second) if order[0] is memory else (second, first))
    assert peaks[0] == peaks[1]


def test_a_model_whose_copy_shares_less_is_built_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class Sharing(torch.nn.Module):
        """A view of its weight beside it, which a copy has of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(4, 4, device="meta"))
            self.register_buffer("part", self.weight.detach()[:2])

    blueprint = replace(blueprint_of(StepRequest("gpt2", "full", {}, SETTING)), source="sharing")
    monkeypatch.setattr(Blueprint, "build", lambda self, depth=None: Sharing())
    prototypes._prototypes.clear()
    found = [prototypes.fresh_copy(blueprint, 3) for _ in range(2)]
    prototypes._prototypes.clear()
    assert [len(tensors_of(model)) for model in found] == [1, 1]
