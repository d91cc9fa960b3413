"""A simulation asked for one figure alone says what the whole one says."""

from __future__ import annotations

import pytest

from peft_lab.engine import simulate
from peft_lab.engine.request import StepRequest, StepSetting
from peft_lab.engine.simulate import bytes_needed, work_of
from peft_lab.engine.simulate import simulate as simulate_step

pytestmark = pytest.mark.filterwarnings("ignore")

ASKED = {
    "one GPU": StepRequest("smollm2-135m", "lora", {}, StepSetting(2, 40)),
    "checkpointed, packed into 4 bits": StepRequest(
        "smollm2-135m", "qlora", {}, StepSetting(1, 24), checkpointing=True
    ),
    "full, in 8 bits, a loss in chunks": StepRequest(
        "smollm2-135m", "full", {}, StepSetting(2, 24, optimizer="paged_adamw8bit", loss="chunked"), "float32"
    ),
    "rows that share one": StepRequest("smollm2-135m", "ia3", {}, StepSetting(1, 64, packed=True, optimizer="sgd")),
    "activations in main memory": StepRequest(
        "smollm2-135m", "lora", {}, StepSetting(2, 24, offload=True), checkpointing=True
    ),
    "a processor": StepRequest("minilm-l6", "bitfit", {}, StepSetting(3, 16, padded=True, device="cpu")),
    "two stacks, not unrolled": StepRequest("flan-t5-small", "lora", {}, StepSetting(2, 16, optimizer="adafactor")),
    "a prefix, not unrolled": StepRequest("gpt2", "prefix", {}, StepSetting(2, 16)),
    "a generation": StepRequest("gpt2", "lora", {}, StepSetting(1, 8, generate=(2, 3))),
}  # fmt: skip


@pytest.mark.sampled(7)
@pytest.mark.parametrize("named", list(ASKED))
def test_one_figure_alone_is_that_of_the_whole(named: str) -> None:
    whole = simulate_step(ASKED[named])
    assert bytes_needed(ASKED[named]) == simulate.needed_bytes(whole)
    assert work_of(ASKED[named]) == whole.work[-1]
