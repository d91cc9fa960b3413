"""Optimizers as they run: a simulated step peaks where a real one does, to the byte."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peft_lab.engine import build, running, step
from peft_lab.engine.account import timeline
from peft_lab.engine.request import StepSetting
from peft_lab.engine.running import Stage
from peft_lab.engine.simulate import simulate_blueprint
from peft_lab.engine.tracker import MemoryRecorder, recording
from tests.engine import small


def _measured(plan: Any, setting: StepSetting) -> tuple[int, int]:
    """The peak of two real steps, and of the optimizer's part of them, in bytes."""
    torch.manual_seed(0)
    model = plan.build().to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.normal_(0, 0.02)
    recorder = MemoryRecorder()
    subject = build.make_subject(model, plan, recorder, plan.depth)
    del model
    optimizer = step.make_optimizer(setting.optimizer, subject.model, False)
    with recording(recorder), step.watching(subject, recorder):
        running.two_steps(Stage(subject, recorder, optimizer, setting))
    return _peaks(timeline(recorder.stop()))


def _peaks(points: Any) -> tuple[int, int]:
    return max(p.nbytes for p in points), max(p.nbytes for p in points if p.phase == "optimizer")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "adapted"),
    [
        *((name, adapted) for name in ("adamw", "adafactor", "muon", "sgd") for adapted in (False, True)),
        ("lorafa", True),
    ],
)
def test_a_step_peaks_where_a_real_one_does(name: str, adapted: bool) -> None:
    method = small.adapter("LORA", r=4) if adapted else None
    setting = StepSetting(2, 8, optimizer=name, device="cpu")
    plan = small.blueprint("llama", 7, method, dtype=torch.float32)
    peak, updating = _measured(plan, setting)
    found = simulate_blueprint(plan, setting, "small", "any", works=False)
    assert found.unrolled
    counters = _counters(name, plan)
    assert (found.peak_bytes + counters, _peaks(found.points)[1] + counters) == (
        peak,
        updating,
    )


def _counters(name: str, plan: Any) -> int:
    """Bytes of the counts of steps, one a parameter: a processor's lie where all is, a device's on its host."""
    trained = [(key, one) for key, one in plan.build().named_parameters() if one.requires_grad]
    matrices = [
        key for key, one in trained if one.ndim == 2 and "embed_tokens" not in key and "lm_head" not in key
    ]
    count = {"adamw": len(trained), "adafactor": len(trained), "muon": len(trained) - len(matrices)}
    return 512 * count.get(name, 0)
