"""A step whose loss is taken in chunks: what is simulated is what the processor takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from peft_lab.core.errors import BadInput, Unsupported
from peft_lab.engine import account
from peft_lab.engine.build import Blueprint
from peft_lab.engine.request import StepRequest, StepSetting, largest
from peft_lab.engine.running import run
from peft_lab.engine.simulate import simulate
from peft_lab.training.optimizers import without_logits
from tests.prose import facts

ROWS, LENGTH, VOCABULARY = 2, 512, 16_000


def config() -> Any:
    return AutoConfig.for_model(
        "llama",
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
    )


def adapter(trained: str) -> Any:
    return LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM") if trained == "lora" else None


def measured(trained: str, chunked: bool) -> int:
    """Most bytes alive in a step, by torch's own profiler."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config())
    if trained == "lora":
        model = get_peft_model(model, adapter(trained))
    if chunked:
        without_logits(model)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, fused=True)

    outputs: list[Any] = [None]

    def step() -> None:
        outputs[0] = model(input_ids=ids, labels=ids)  # what it returned lives on, as in the usual loop
        outputs[0].loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    before = sum(parameter.nbytes for parameter in model.parameters())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
        step()
    alive = most = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return before + most


@pytest.mark.sampled(2)
@pytest.mark.parametrize("trained", ["lora", "full"])
def test_simulated_is_measured(trained: str) -> None:
    peaks = {}
    for loss in ("whole", "chunked"):
        blueprint = Blueprint(config(), "causal-lm", adapter(trained), torch.float32)
        trace, _, _ = run(blueprint, StepSetting(ROWS, LENGTH, device="cpu", loss=loss))
        peaks[loss] = largest(account.timeline(trace)).nbytes
        assert peaks[loss] == pytest.approx(measured(trained, loss == "chunked"), rel=0.005)
    logits = ROWS * LENGTH * VOCABULARY * 4
    assert peaks["whole"] - peaks["chunked"] > 1.5 * logits


@pytest.mark.weights
def test_a_gpu_holds_no_more_logits_than_a_chunk() -> None:
    def peak(loss: str) -> int:
        setting = StepSetting(1, 4096, loss=loss)
        return simulate(StepRequest("smollm2-135m", "lora", {}, setting, checkpointing=True)).peak_bytes

    saved = peak("whole") - peak("chunked")
    assert saved > 4096 * 49_152 * 8  # its copy in float32, and that one's gradient


def test_what_cannot_be_is_one_sentence() -> None:
    with pytest.raises(BadInput, match=facts("none", "whole", "chunked")):
        StepSetting(1, 8, loss="none").check()
    with pytest.raises(BadInput, match="no logits"):
        StepSetting(1, 8, loss="chunked", generate=(1, 2)).check()
    with pytest.raises(Unsupported, match=facts("in chunks", "logits")):
        simulate(StepRequest("gemma-2-2b", "lora", {}, StepSetting(1, 64, loss="chunked")))
