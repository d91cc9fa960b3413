"""The precision of a step and of its adapters: what is simulated is what the processor takes, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import transfer
from peft_lab.core.errors import PeftLabError
from peft_lab.engine.autocast import CASTS, cast_operations
from peft_lab.engine.build import Blueprint
from peft_lab.engine.request import COMPUTING, PRECISIONS, WIDTHS, StepRequest, StepSetting
from peft_lab.engine.sharding.simulate import simulate_sharded
from peft_lab.engine.sharding.wrap import Sharding
from peft_lab.engine.simulate import simulate, work_of
from peft_lab.engine.timing import estimate
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model
from tests.engine import small
from tests.engine.real import built, profiled, simulated

pytestmark = pytest.mark.filterwarnings("ignore")

ROWS, LENGTH = 2, 128
SMALL = "smollm2-135m"


def step(
    method: str, values: Any = None, dtype: str = "bfloat16", checkpointing: bool = False, **how: Any
) -> StepRequest:
    return StepRequest(SMALL, method, values or {}, StepSetting(1, 32, **how), dtype, checkpointing)


def blueprint(stored: torch.dtype, trained: str, checkpointing: bool) -> Blueprint:
    adapter = (
        small.adapter("LORA", r=4, target_modules=["q_proj", "down_proj"]) if trained == "lora" else None
    )
    return small.blueprint("llama", 3, adapter, dtype=stored, checkpointing=checkpointing)


def measured(plan: Blueprint, passes: int = 1) -> int:
    """Most bytes alive in a trainer's step under autocast on this processor, by torch's own profiler.

    As in transformers' ``Trainer.training_step`` only the loss outlives the forward pass.
    """
    model = built(plan).train()
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
    ids = torch.randint(0, 640, (ROWS, LENGTH))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, foreach=False)

    def once() -> None:
        optimizer.zero_grad()
        for _ in range(passes):
            model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0, foreach=False)
        optimizer.step()

    return profiled(model, once)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("trained", ["lora", "full"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_what_autocast_takes_is_simulated(stored: torch.dtype, trained: str, checkpointing: bool) -> None:
    plan = blueprint(stored, trained, checkpointing)
    peaks = {}
    for precision in ("", "autocast-bf16"):
        peaks[precision] = simulated(plan, StepSetting(ROWS, LENGTH, device="cpu", precision=precision))
    real = measured(plan)
    assert peaks["autocast-bf16"] == pytest.approx(real, rel=0.005)
    if stored == torch.float32:
        assert abs(peaks[""] / real - 1) > 0.05, "without autocast it is another"


def test_gradients_of_earlier_passes_stay_until_the_update() -> None:
    plan = blueprint(torch.float32, "full", False)
    peaks = {}
    for passes in (1, 3):
        setting = StepSetting(ROWS, LENGTH, device="cpu", precision="autocast-bf16", accumulate=passes)
        peaks[passes] = simulated(plan, setting)
    assert peaks[3] == pytest.approx(measured(plan, 3), rel=0.005)
    assert peaks[3] > 1.05 * peaks[1]


def test_the_casts_are_those_of_torchs_header() -> None:
    """Every operation that has an autocast kernel on a GPU is cast as the installed torch casts it there."""
    header = (Path(torch.__file__).parent / "include/ATen/autocast_mode.h").read_text("utf-8")

    def listed(name: str) -> set[str]:
        text = re.search(rf"#define AT_FORALL_{name}\(_\)((?:.*\\\n)*.*)", header)
        assert text is not None
        return {".".join(filter(None, found)) for found in re.findall(r"_\((\w+)(?:, (\w+))?\)", text[1])}

    convolutions = {"cudnn_convolution", "cudnn_convolution_transpose"}
    assert set(CASTS["lower"]["cuda"]) == (listed("LOWER_PRECISION_FP") | convolutions) & cast_operations(
        "cuda"
    )
    assert set(CASTS["widest"]["cuda"]) == listed("PROMOTE") & cast_operations("cuda")
    assert set(CASTS["result"]["cuda"]) == listed("FP32_SET_OPT_DTYPE") & cast_operations("cuda")
    single = cast_operations("cuda") - set().union(*(CASTS[kind]["cuda"] for kind in CASTS))
    assert single - {"binary_cross_entropy", "norm.Scalar", "norm.ScalarOpt_dim"} == listed("FP32") & single
    for kind in CASTS:
        assert set(CASTS[kind]["cpu"]) <= cast_operations("cpu")


@pytest.mark.sampled(23)
@pytest.mark.parametrize("precision", list(COMPUTING))
@pytest.mark.parametrize("method", list(all_methods()))
def test_every_precision_has_a_peak_or_a_reason(method: str, precision: str) -> None:
    model = "minilm-l6" if method == "bitfit" else SMALL
    for adapters in ("", "bfloat16"):
        setting = StepSetting(1, 32, precision=precision, adapter_dtype=adapters)
        try:
            found = simulate(StepRequest(model, method, {}, setting))
        except PeftLabError as error:
            assert str(error).endswith("."), error
            continue
        assert found.peak_bytes == sum(found.parts.values()) > 0
        if method != "qlora":
            total = get_model(model).shape.total * WIDTHS[COMPUTING[precision].stored or "bfloat16"]
            assert found.parts["weights"] == pytest.approx(total, rel=0.02)


def products(request: StepRequest) -> dict[str, int]:
    """Arithmetic of a step's products, by their width."""
    found = {"matmul16": 0, "matmul32": 0}
    for piece in work_of(request):
        for op, count in piece.ops:
            if op.kind in found:
                found[op.kind] += op.flops * count * piece.times
    return found


@pytest.mark.slow
def test_adapters_multiply_in_their_own_precision() -> None:
    """PEFT keeps them in float32, which a step says by itself; autocast multiplies them in 16 bits all the same."""
    usual, wide = simulate(step("lora")), simulate(step("lora", adapter_dtype="float32"))
    assert (usual.peak_bytes, usual.parts) == (wide.peak_bytes, wide.parts)
    narrow = simulate(step("lora", adapter_dtype="bfloat16"))
    assert narrow.parts["adapter"] == pytest.approx(usual.parts["adapter"] / 2, rel=0.05)
    assert (
        products(step("lora"))["matmul32"] > 0 == products(step("lora", adapter_dtype="bfloat16"))["matmul32"]
    )
    assert products(step("lora", precision="autocast-bf16"))["matmul32"] == 0
    assert products(step("full", precision="fp32"))["matmul16"] == 0
    again = step("qlora", checkpointing=True, precision="autocast-bf16")
    assert products(again)["matmul32"] == 0, "what checkpointing computes again is cast too"


@pytest.mark.slow
def test_float32_masters_are_split_and_gathered_in_16_bits() -> None:
    """A share of weights, gradients and two moments in float32, and whole layers in 16 bits."""
    whole = simulate(step("full", precision="bf16")).parts["weights"]  # bytes in 16 bits
    for kind in ("fsdp2", "zero3"):
        found = simulate_sharded(step("full", precision="mixed-fp32"), Sharding(kind, 2))
        idle = next(point for point in found.points if point.phase == "zero_grad")
        assert idle.parts["weights"] + idle.parts["optimizer"] == pytest.approx(3 * whole, rel=0.02)
        narrow = simulate_sharded(step("full"), Sharding(kind, 2))
        assert found.parts["gathered"] <= narrow.parts["gathered"] * 1.02
        assert found.peak_bytes > narrow.peak_bytes + whole


def test_the_bench_validates_what_the_product_says(tmp_path: Path) -> None:
    row = next(one for one in estimate.others() if one["name"] == "Qwen 1.8B LoRA, 512 tokens, A100")
    request = transfer.request(row, transfer._model(row, tmp_path))
    assert request.setting.adapter_dtype == "bfloat16" in PRECISIONS
    said = next(one for one in transfer.predicted() if one["name"] == row["name"])
    found = estimate.seconds(work_of(request), row["gpu"])
    assert found.value * row["steps"] == pytest.approx(said["predicted_seconds"], rel=1e-9)
