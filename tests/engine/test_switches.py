"""What a step may do in another way than the usual loop: what that leaves in memory, and what it computes."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from peft_lab.engine.build import Blueprint
from peft_lab.engine.request import Simulation, StepSetting
from peft_lab.engine.simulate import simulate_blueprint
from tests.engine.small import adapter, blueprint, config

ROWS, LENGTH, WIDTH, VOCABULARY, LAYERS = 2, 256, 64, 12_800, 6
TOKENS = ROWS * LENGTH


@cache
def simulated(
    trained: str = "lora", checkpointing: bool = False, dtype: str = "bfloat16", **changes: Any
) -> Simulation:
    """A step of a small Llama with a large vocabulary."""
    shape = config("llama", LAYERS)
    shape.vocab_size = VOCABULARY
    method = adapter("LORA", target_modules=["q_proj", "up_proj"]) if trained == "lora" else None
    plan = Blueprint(
        shape,
        "causal-lm",
        method,
        getattr(torch, dtype),
        checkpointing=checkpointing,
        attention=changes.get("attention", ""),
        recompute=changes.get("recompute", ""),
    )
    return simulate_blueprint(plan, StepSetting(ROWS, LENGTH, **changes), "llama", trained)


def most(result: Simulation, part: str) -> int:
    return max(point.parts[part] for point in result.points)


def done(result: Simulation, what: str, *kinds: str) -> int:
    """``flops``, ``nbytes`` or the number of the last step's kernels, of some kinds or of all but views."""
    return sum(
        getattr(op, what, 1) * count * piece.times
        for piece in result.work[-1]
        for op, count in piece.ops
        if (op.kind in kinds if kinds else op.kind != "view")
    )


def flops(result: Simulation, *kinds: str) -> int:
    return done(result, "flops", *(kinds or ("matmul16", "matmul32", "attention")))


@pytest.mark.parametrize("trained", ["lora", "full"])
def test_the_less_of_the_logits_a_loss_makes_the_less_it_takes(trained: str) -> None:
    logits = {loss: most(simulated(trained, loss=loss), "logits") for loss in ("whole", "liger", "cut")}
    whole = TOKENS * VOCABULARY
    assert logits["whole"] >= 4 * whole  # in 32 bits
    assert logits["cut"] < logits["liger"] < 2 * whole


def test_liger_has_some_rows_of_logits_and_the_states_gradient() -> None:
    """512 tokens, 200 times as many words as states are wide: four rows at a time, by its formula. The last
    piece's logits live until the next ones have been multiplied; the states are copied without the last of each row.
    """
    rows = 4
    expected = 2 * (2 * TOKENS * WIDTH + 2 * rows * VOCABULARY)
    assert most(simulated(loss="liger"), "logits") == pytest.approx(expected, rel=0.05)
    trained = most(simulated("full", loss="liger"), "logits")
    assert trained - expected == pytest.approx(
        6 * VOCABULARY * WIDTH, rel=0.05
    )  # 16 bits for itself, 32 for a piece's


def test_cut_multiplies_again_instead_of_keeping_logits() -> None:
    head = 2 * TOKENS * WIDTH * VOCABULARY
    frozen, trained = (flops(simulated(which, loss="cut"), "matmul16") for which in ("lora", "full"))
    usual = {which: flops(simulated(which), "matmul16") for which in ("lora", "full")}
    found = (frozen - usual["lora"], trained - usual["full"])
    assert found == pytest.approx((head, head), rel=0.02)  # the last state of a row predicts nothing


def test_the_published_head_of_gemma_2() -> None:
    """Cut Cross-Entropy's README, Gemma 2 2B with 8,192 tokens: from 28 GB to 1 GB, the loss by itself to 1 MB."""
    from transformers import LlamaConfig

    shape = LlamaConfig(
        vocab_size=256_000, hidden_size=2304, intermediate_size=64, num_attention_heads=8, num_hidden_layers=1
    )
    plan, mib = Blueprint(shape, "causal-lm", None, torch.bfloat16), 2**20
    whole, cut = (
        simulate_blueprint(plan, StepSetting(1, 8193, loss=loss), "", "full", works=False)
        for loss in ("whole", "cut")
    )
    assert most(whole, "logits") == pytest.approx(28_000 * mib, rel=0.01)
    assert most(cut, "logits") <= 1.1 * mib
    of_head = 2 * 256_000 * 2304
    assert of_head + most(cut, "logits") < 1.2e9


def test_a_trainer_frees_its_logits_before_the_backward_pass() -> None:
    """transformers 4.48 adds a float32 copy to the forward pass: as much as the logits that the usual loop keeps."""
    whole, trainer, shifted = (simulated(loss=loss) for loss in ("whole", "trainer", "shifted"))
    assert whole.peak_bytes - trainer.peak_bytes == pytest.approx(2 * TOKENS * VOCABULARY, rel=0.01)
    assert most(shifted, "logits") - most(trainer, "logits") == pytest.approx(
        2 * TOKENS * VOCABULARY, rel=0.05
    )


@pytest.mark.parametrize("trained", ["lora", "full"])
def test_litgpt_has_no_logits_in_32_bits(trained: str) -> None:
    assert most(simulated(trained, loss="litgpt"), "logits") < 0.8 * most(simulated(trained), "logits")


def test_a_fused_norm_keeps_its_input_instead_of_copies_in_32_bits() -> None:
    usual, fused = (most(simulated("full", norms=norms), "activations") for norms in ("", "fused"))
    assert usual - fused >= 2 * LAYERS * 4 * TOKENS * WIDTH  # two norms of a layer
    assert flops(simulated("full", norms="fused")) == flops(simulated("full"))


@pytest.mark.parametrize(("device", "mask"), [("cuda", 1), ("cpu", 4)])
def test_dropout_keeps_a_byte_of_each_number_on_a_gpu(device: str, mask: int) -> None:
    """The adapter's input is in 32 bits. At the peak, in the last layer, five layers count as activations."""
    kept = {}
    for rate in (0.0, 0.1):
        method = adapter("LORA", target_modules=["q_proj"], lora_dropout=rate)
        plan = blueprint("llama", LAYERS, method)
        setting = StepSetting(ROWS, LENGTH, device=device)
        kept[rate] = most(simulate_blueprint(plan, setting, "llama", "lora"), "activations")
    width = config("llama", LAYERS).hidden_size
    assert kept[0.1] - kept[0.0] == pytest.approx(mask * (LAYERS - 1) * TOKENS * width, rel=0.02)


def test_eager_attention_stores_the_scores() -> None:
    scores = ROWS * 4 * LENGTH * LENGTH * 2 * LAYERS
    assert most(simulated(attention="eager"), "activations") - most(simulated(), "activations") >= scores


def test_selective_checkpointing_lies_between_none_and_whole_layers() -> None:
    none, layers = simulated("full"), simulated("full", True)
    some = simulated("full", True, recompute="selective")
    assert most(layers, "activations") < most(some, "activations") < most(none, "activations")
    assert flops(none) < flops(some) < flops(layers)
    assert flops(some, "attention") == flops(none, "attention")


def test_an_update_in_the_backward_pass_leaves_one_gradient() -> None:
    usual, hooked = simulated("full"), simulated("full", updates="backward")
    weights = most(usual, "weights")
    assert most(usual, "gradients") == pytest.approx(weights, rel=0.01)
    assert most(hooked, "gradients") <= 2 * VOCABULARY * WIDTH
    assert most(hooked, "optimizer") == pytest.approx(2 * weights, rel=0.01)
    assert flops(hooked) == flops(usual)


def test_compiled_layers_save_and_move_less_and_multiply_as_much() -> None:
    usual, compiled = simulated("full"), simulated("full", compile=True)
    assert compiled.unrolled
    assert most(compiled, "activations") < 0.8 * most(usual, "activations")
    assert done(compiled, "nbytes", "stream") < 0.7 * done(usual, "nbytes", "stream")
    assert flops(compiled) == flops(usual)
    assert done(compiled, "kernels") < 0.7 * done(usual, "kernels")
    assert [most(compiled, part) for part in ("weights", "gradients", "optimizer")] == [
        most(usual, part) for part in ("weights", "gradients", "optimizer")
    ]


def test_a_compiled_loss_keeps_no_logits_in_32_bits() -> None:
    assert (
        most(simulated(compile=True), "logits") < 4.5 * TOKENS * VOCABULARY
    )  # themselves and their gradient
    assert most(simulated(), "logits") > 8 * TOKENS * VOCABULARY


def test_checkpointing_computes_compiled_layers_again() -> None:
    usual, compiled = flops(simulated("full", True)), flops(simulated("full", True, compile=True))
    assert usual <= compiled < 1.05 * usual  # a compiled layer does not stop where all is there
    assert most(simulated("full", True, compile=True), "activations") == pytest.approx(
        most(simulated("full", True), "activations"), rel=0.05
    )
