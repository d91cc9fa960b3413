"""Storing a base in fewer bits, and merging an adapter that was trained over it."""

from __future__ import annotations

from typing import Any

import pytest

from peft_lab.methods import get_method
from peft_lab.methods.qlora import recording as qlora
from peft_lab.methods.qlora import spec
from peft_lab.methods.qlora.spec import BLOCK
from peft_lab.models.catalogue import get_model
from tests.methods import tiny

SPEC = get_method("qlora")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("form", "error", "bits"),
    [("nf4", 0.092, 4.5), ("nf4 double", 0.092, 4.127), ("fp4", 0.122, 4.5), ("int8", 0.008, 8.03)],
)
def test_errors_and_bits_are_the_known_ones(form: str, error: float, bits: float) -> None:
    """On normal weights (FACTS: relative error; 64 weights share 32 bits, or 8 bits and 32/256)."""
    import torch

    torch.manual_seed(0)
    weight = torch.randn(1024, 1024) * 0.02
    restored, memory, disk = spec.stored(weight, form)
    assert float((restored - weight).norm() / weight.norm()) == pytest.approx(error, abs=0.002)
    assert 8 * memory / weight.numel() == pytest.approx(bits, abs=0.02)
    assert memory <= disk + 1024 and disk <= memory + 1024


def test_int8_is_what_bitsandbytes_computes() -> None:
    import torch
    from bitsandbytes import functional

    torch.manual_seed(0)
    weight = torch.randn(64, 128)
    packed, scales, _ = functional.int8_vectorwise_quant(weight)
    restored, _, _ = spec.stored(weight, "int8")
    torch.testing.assert_close(restored, functional.int8_vectorwise_dequant(packed, scales).float())


def test_the_histogram_counts_every_weight_once_and_every_block_reaches_one() -> None:
    import torch

    torch.manual_seed(0)
    for size in (BLOCK, 128):
        counts = spec.histogram(torch.randn(32, 128), size)
        assert len(counts) == spec.BINS and sum(counts) == 32 * 128
        assert counts[0] + counts[-1] >= 32 * 128 // size


@pytest.mark.weights
@pytest.mark.slow
def test_the_survey_of_a_real_model() -> None:
    found = spec.survey("minilm-l6")
    shape = get_model("minilm-l6").shape
    blocks = sum(group.count * group.in_features * group.out_features for group in shape.matrices)
    for histogram in ("histogram", "row_histogram"):
        assert found["weights"] == blocks == sum(sum(row[histogram]) for row in found["modules"])
    assert all(row["errors"]["nf4"] < row["errors"]["fp4"] for row in found["modules"])
    sizes = found["sizes"]
    assert (
        sizes["nf4 double"]["bits"]
        < sizes["nf4"]["bits"]
        < sizes["int8"]["bits"]
        < sizes[found["dtype"]]["bits"]
    )
    assert len(set(found["codes"]["nf4"])) == 16 and 0.0 in found["codes"]["nf4"]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_only_the_expanded_base_gives_the_model_that_was_trained(name: str) -> None:
    values: dict[str, Any] = {"r": 4, "bnb_4bit_compute_dtype": "float32", "lora_alpha": 8}
    model = tiny.apply(SPEC, name, values)
    rows = tiny.batch(name)
    for _ in range(3):
        tiny.train_step(model, rows)
    inputs = {key: rows[key] for key in ("input_ids", "attention_mask")}
    before = tiny.outputs(model, inputs)
    found = {row["way"]: row for row in qlora.merges(model.eval(), inputs, lambda: tiny.build(name))}
    assert found["expanded"]["outputs"] < 1e-3 and found["expanded"]["weights"] < 1e-3
    for way in ("fresh", "rounded again"):
        assert found[way]["outputs"] > 0.02 and found[way]["weights"] > 0.02
    repacked = found.get("repacked", {})
    assert "problem" in repacked or repacked.get("outputs", 1) > 0.02
    assert (tiny.outputs(model, inputs) == before).all(), "the trained model is left as it is"


@pytest.mark.parametrize(("values", "bits"), [({"load_in_8bit": True}, 8), ({}, 4)])
def test_what_rounding_does_to_the_outputs(values: dict[str, Any], bits: int) -> None:
    model = tiny.apply(SPEC, "llama", {"r": 4, **values})
    rows = tiny.batch("llama")
    inputs = {key: rows[key] for key in ("input_ids", "attention_mask")}
    untrained = qlora.rounding(model.eval(), inputs, lambda: tiny.build("llama"))
    assert untrained["bits"] == bits
    assert untrained["training"] == 0 < untrained["outputs"]
    for _ in range(3):
        tiny.train_step(model, rows)
    trained = qlora.rounding(model.eval(), inputs, lambda: tiny.build("llama"))
    assert trained["outputs"] == pytest.approx(untrained["outputs"]) and trained["training"] > 0


def test_eight_bits_round_less_than_four() -> None:
    rows = tiny.batch("llama")
    inputs = {key: rows[key] for key in ("input_ids", "attention_mask")}
    eight, four = (
        qlora.rounding(tiny.apply(SPEC, "llama", values).eval(), inputs, lambda: tiny.build("llama"))[
            "outputs"
        ]
        for values in ({"load_in_8bit": True}, {"bnb_4bit_compute_dtype": "float32"})
    )
    assert eight < four


def test_an_8_bit_base_can_be_merged_every_way() -> None:
    model = tiny.apply(SPEC, "llama", {"r": 4, "load_in_8bit": True})
    rows = tiny.batch("llama")
    for _ in range(3):
        tiny.train_step(model, rows)
    inputs = {key: rows[key] for key in ("input_ids", "attention_mask")}
    before = tiny.outputs(model, inputs)
    found = {row["way"]: row for row in qlora.merges(model.eval(), inputs, lambda: tiny.build("llama"))}
    assert set(found) == {"expanded", "fresh", "rounded again"}
    assert found["expanded"]["weights"] < 1e-3, "the same weights, up to float32"
    assert found["rounded again"]["weights"] > 0.02
    assert (tiny.outputs(model, inputs) == before).all()
