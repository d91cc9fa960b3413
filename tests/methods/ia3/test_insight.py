"""What a run of IA³ notes, and the table of targets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peft_lab.methods import get_method
from peft_lab.methods.counting.count import count
from peft_lab.methods.ia3 import recording as ia3
from peft_lab.methods.ia3 import spec as ia3_targets
from peft_lab.models.catalogue import get_model
from tests.methods import tiny

SPEC = get_method("ia3")


def set_vectors(model: Any, spread: float) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ia3_l" in name:
                parameter.copy_(1 + spread * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_a_run_is_noted_from_ones_to_what_was_learnt(name: str) -> None:
    model = tiny.apply(SPEC, name, {}, head=name == "bert")
    recorder = ia3.RunRecorder(model, tiny.shape_of(name), {})
    recorder.snapshot(0)
    set_vectors(model, 0.2)
    recorder.snapshot(7)
    rows = {key: value for key, value in tiny.batch(name).items() if key != "labels"}
    found = recorder.finish(rows, lambda: model)
    start, end = found["snapshots"]
    trained = sum(row["size"] for row in end["vectors"])
    shape = tiny.shape_of(name)
    assert trained == SPEC.formula(shape, SPEC.require(shape, {})).trainable
    assert all(row["rms"] == 0 and row["low"] == row["high"] == 1 for row in start["vectors"])
    assert all(set(row["cells"]) == {0.0} for row in start["vectors"])
    for row in end["vectors"]:
        vector = {path: v for path, v, _ in ia3.vectors(model)}[row["module"]]
        assert row["amplified"] == int((vector > 1 + ia3.FELT).sum()) > 0
        assert row["inhibited"] == int((vector < 1 - ia3.FELT).sum()) > 0
        assert max(row["cells"], key=abs) == pytest.approx(
            float((vector - 1)[(vector - 1).abs().argmax()]), rel=1e-2
        )
    for shot in found["snapshots"]:
        assert sum(sum(counts) for counts in shot["spread"].values()) == trained
    strongest = found["strongest"]
    assert strongest["amplified"][0]["factor"] == max(row["high"] for row in end["vectors"])
    assert strongest["inhibited"][0]["factor"] == min(row["low"] for row in end["vectors"])
    exact, rounded = (row["max_difference"] / row["max_logit"] for row in found["merge"])
    assert exact < 1e-5 < rounded < 0.1
    assert found["on_input"] and all("ia3" not in path for path in found["on_input"])


def test_the_values_and_what_reads_them_are_twins() -> None:
    """The same factors on the value and on the input of the map behind the attention give the same outputs."""
    rows = tiny.batch("bert")
    factor = 1 + 0.3 * torch.randn(32, generator=torch.Generator().manual_seed(0))
    outputs = []
    for side in ("attention.self.value", "attention.output.dense"):
        model = tiny.apply(SPEC, "bert", {})
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "ia3_l" in name and f".{side}." in name:
                    parameter.copy_(factor.reshape(parameter.shape))
        outputs.append(tiny.outputs(model, rows))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=0)
    one, other = torch.randn(8), torch.randn(8)
    snapshot = {
        "x.0.attention.self.value": one,
        "x.0.attention.output.dense": one + 1e-4,
        "x.0.output.dense": other,
    }
    found = ia3.twins(snapshot, ["x.0.attention.output.dense", "x.0.output.dense"])
    assert found["size"] == 8 and found["correlation"] > 0.999
    assert ia3.twins({"x.0.output.dense": other}, ["x.0.output.dense"]) == {}


def test_pefts_defaults_in_the_table_are_counted_right() -> None:
    rows = {row["architecture"]: row for row in ia3_targets.target_table()}
    for model in ("bert-base", "gpt2", "qwen2.5-0.5b", "llama-3.2-1b"):
        shape = get_model(model).shape
        mine = ia3_targets.target_row(shape, *SPEC.defaults(shape).values())
        assert mine.peft_count == count(model, "ia3", {}).trainable
    assert rows["opt"]["peft"] == "q, k, ff" and rows["opt"]["paper"] == "k, v, ff"
    assert rows["qwen2"]["peft"] == "q, v, ff" and not rows["qwen2"]["same"]
    assert rows["bert"]["peft"] == "k, v, o, ff"
    assert rows["llama"]["same"] and rows["t5"]["same"]
    assert rows["gpt2"]["fused"] and not rows["bert"]["same"]
    bert = get_model("bert-base").shape
    assert ia3_targets.target_row(bert, (), ()).paper_count == 12 * (2 * 768 + 3072)
