"""What a run of BitFit notes: moves, what each kind is worth, and that nothing stays changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peft_lab.methods import get_method
from peft_lab.methods.adapters.recording import answers
from peft_lab.methods.bitfit import recording as bitfit
from tests.methods import tiny

SPEC = get_method("bitfit")


def rows(name: str) -> dict[str, Any]:
    return {key: value for key, value in tiny.batch(name).items() if key != "labels"}


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_moves_are_from_the_start_and_the_model_is_left_as_it_was(name: str) -> None:
    model = tiny.apply(SPEC, name, {}, head=name == "bert")
    recorder = bitfit.RunRecorder(model, tiny.shape_of(name), {})
    recorder.snapshot(0)
    with torch.no_grad():
        for number, bias in enumerate(bitfit.trained(model).values()):
            bias.add_(0.1 * (number + 1))
    recorder.snapshot(3)
    before = answers(model, rows(name))
    found = recorder.finish(rows(name), lambda: model)
    torch.testing.assert_close(answers(model, rows(name)), before, atol=0, rtol=0)
    start, end = found["snapshots"]
    assert {row["moved"] for row in start["moves"]} == {0.0}
    for number, row in enumerate(end["moves"]):
        assert (
            row["moved"]
            == pytest.approx(0.1 * (number + 1), rel=1e-4)
            == pytest.approx(row["most"], rel=1e-3)
        )
    assert (
        sum(row["size"] for row in end["moves"])
        == SPEC.formula(tiny.shape_of(name), SPEC.require(tiny.shape_of(name), {})).trainable
    )
    kinds = {bitfit.kind_of(row["bias"])[0] for row in end["moves"]}
    assert {row["kind"] for row in found["put_back"]} == kinds


def test_the_keys_biases_mean_nothing_and_the_others_do() -> None:
    model = tiny.apply(SPEC, "bert", {}, head=True)
    biases = bitfit.trained(model)
    start = {name: bias.detach().clone() for name, bias in biases.items()}
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for bias in biases.values():
            bias.add_(torch.randn(bias.shape, generator=generator))
    found = {row["kind"]: row["mean_change"] for row in bitfit.without(model, biases, start, rows("bert"))}
    assert found.pop("attention.self.key") < 1e-6 < 1e-5 < min(found.values())


def test_a_model_that_labels_tokens_is_measured_at_all_of_them() -> None:
    model = tiny.apply(SPEC, "bert", {}, head=tiny.PER_TOKEN)
    kind = "attention.self.value"
    biases = {name: bias for name, bias in bitfit.trained(model).items() if kind in name}
    start = {name: bias.detach().clone() for name, bias in biases.items()}
    inputs = rows("bert")
    with torch.no_grad():
        before = model(**inputs).logits
        for bias in biases.values():
            bias.add_(torch.linspace(-3, 3, len(bias)))
        after = model(**inputs).logits
    real = inputs["attention_mask"].bool()
    (found,) = bitfit.without(model, biases, start, inputs)
    assert found["mean_change"] == pytest.approx(float((after - before)[real].abs().mean()), rel=1e-4)
    other = (after.argmax(-1) != before.argmax(-1)) & real
    assert found["changed"] == int(other.any(1).sum())


def test_kinds_and_layers() -> None:
    assert bitfit.kind_of("bert.encoder.layer.3.output.dense.bias") == ("output.dense", 3)
    assert bitfit.kind_of("bert.pooler.dense.bias") == ("bert.pooler.dense", None)
    assert bitfit.kind_of("transformer.h.11.ln_1.bias") == ("ln_1", 11)
