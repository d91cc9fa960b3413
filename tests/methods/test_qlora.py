"""QLoRA: real bases in fewer bits on the CPU, the same through both ways of quantising, merged every way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.methods import get_method
from peft_lab.methods.qlora import recording as qlora
from peft_lab.methods.qlora import spec as forms
from peft_lab.methods.qlora.spec import BLOCK, QLora
from peft_lab.models import quantise
from peft_lab.models.catalogue import get_model, readers_of_text
from peft_lab.models.quantise import Quantization
from tests.methods import tiny

pytestmark = pytest.mark.filterwarnings("ignore")

_found = get_method("qlora")
assert isinstance(_found, QLora)
SPEC = _found
NF4 = Quantization(4, "nf4", True, "float32")


def four_bit(model: Any) -> dict[str, Any]:
    from bitsandbytes.nn.modules import Linear4bit

    return {path: module for path, module in model.named_modules() if isinstance(module, Linear4bit)}


def dequantised(module: Any) -> Any:
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(module.weight.data, module.weight.quant_state)


@pytest.mark.parametrize("name", tiny.MODELS)
def test_every_linear_map_but_the_output_is_4_bit(name: str) -> None:
    model = tiny.build(name)
    quantise.quantise(model, Quantization(4, "fp4", False, "float32"))
    found = four_bit(model)
    assert set(found) == {path for group in quantise.quantised(tiny.shape_of(name)) for path in group.paths}
    assert {module.weight.quant_state.quant_type for module in found.values()} == {"fp4"}
    assert not any(module.weight.quant_state.nested for module in found.values())
    assert torch.isfinite(tiny.outputs(model, tiny.batch(name))).all()


@pytest.mark.parametrize(("kind", "expected"), [("nf4", 0.092), ("fp4", 0.122)])
@pytest.mark.parametrize("double", [False, True])
def test_error_on_normal_weights_is_the_known_one(kind: Any, expected: float, double: bool) -> None:
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    for old in (torch.nn.Linear(256, 512), Conv1D(512, 256)):
        torch.nn.init.normal_(old.weight)
        new = quantise._stored(old, Quantization(4, kind, double, "float32"))
        weight = old.weight.T if isinstance(old, Conv1D) else old.weight
        error = (dequantised(new) - weight).norm() / weight.norm()
        assert error.item() == pytest.approx(expected, abs=0.002)
        x = torch.randn(3, 256)
        torch.testing.assert_close(new(x), x @ dequantised(new).T + old.bias, rtol=0, atol=1e-4)


def test_widths_that_bitsandbytes_gets_wrong_on_the_cpu_are_warned_about() -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    (warning,) = SPEC.problems(tiny.shape_of("llama"), {"r": 1})
    assert warning.level == "warning" and "64" in warning.message
    assert not any(SPEC.problems(entry.shape, {}) for entry in readers_of_text().values())
    torch.manual_seed(0)
    weight = torch.randn(64, 96)
    error = (dequantize_4bit(*quantize_4bit(weight, quant_type="nf4")) - weight).norm() / weight.norm()
    assert error > 0.2, "bitsandbytes is right now: take the warning out"


def test_the_maps_kept_whole_are_those_that_transformers_keeps() -> None:
    """T5's output map of the feed-forward part; no other architecture here has one."""
    for name in tiny.MODELS:
        model = tiny.build(name)
        declared = set(getattr(model, "_keep_in_fp32_modules", None) or ())
        assert set(quantise._KEPT.get(model.config.model_type, ())) == declared & {"wo"}
        assert declared <= {"wo"}


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_equals_quantising_while_loading(name: str, tmp_path: Path) -> None:
    """transformers' own way, from files, and ours in memory give the same weights and outputs."""
    tiny.build(name).save_pretrained(tmp_path)
    loaded = type(tiny.build(name)).from_pretrained(tmp_path, quantization_config=quantise.settings(NF4))
    ours = tiny.build(name)
    quantise.quantise(ours, NF4)
    theirs, mine = four_bit(loaded), four_bit(ours)
    assert set(theirs) == set(mine)
    for path, module in theirs.items():
        assert torch.equal(module.weight.data, mine[path].weight.data), path
    quantise.settle(loaded)
    quantise.settle(ours)
    rows = tiny.batch(name)
    torch.testing.assert_close(tiny.outputs(ours, rows), tiny.outputs(loaded.eval(), rows), rtol=0, atol=1e-5)
    assert not quantise.needs_quantising(loaded)
    assert not quantise.needs_quantising(ours)


def test_a_base_loaded_in_4_bit_is_taken_as_it_is(tmp_path: Path) -> None:
    tiny.build("llama").save_pretrained(tmp_path)
    loaded = type(tiny.build("llama")).from_pretrained(tmp_path, quantization_config=quantise.settings(NF4))
    before = {path: module.weight.data.clone() for path, module in four_bit(loaded).items()}
    shape = tiny.shape_of("llama")
    model = SPEC.apply(loaded, shape, SPEC.require(shape, {}), "CAUSAL_LM")
    after = {
        path.split("base_model.model.")[-1].removesuffix(".base_layer"): m
        for path, m in four_bit(model).items()
    }
    assert set(after) == set(before)
    assert all((after[path].weight.data == before[path]).all() for path in before)
    tiny.train_step(model, tiny.batch("llama"))
    SPEC.save(model, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "base_quantization.json").is_file()


def test_evaluating_in_between_changes_nothing() -> None:
    """bitsandbytes repacks 4-bit weights in an evaluation on some CPUs; training on and merging then go wrong."""

    def train(evaluate: bool) -> Any:
        model = tiny.apply(SPEC, "llama", {"bnb_4bit_compute_dtype": "float32"})
        weights = {path: module.weight.data.clone() for path, module in four_bit(model).items()}
        rows = tiny.batch("llama")
        for _ in range(3):
            tiny.train_step(model, rows)
            if evaluate:
                tiny.outputs(model, rows)
        for path, module in four_bit(model).items():
            assert torch.equal(module.weight.data, weights[path])
            assert not getattr(module.weight.quant_state, "packing_format_for_cpu", False)
        return tiny.outputs(model, rows)

    torch.testing.assert_close(train(True), train(False), rtol=0, atol=0)


def eight_bit(model: Any) -> dict[str, Any]:
    from bitsandbytes.nn.modules import Linear8bitLt

    return {path: module for path, module in model.named_modules() if isinstance(module, Linear8bitLt)}


@pytest.mark.parametrize("name", tiny.MODELS)
def test_in_8_bits_every_linear_map_but_the_output_has_a_scale_for_each_row(name: str) -> None:
    plain, model = tiny.build(name), tiny.build(name)
    quantise.quantise(model, quantise.INT8)
    found = eight_bit(model)
    assert set(found) == {path for group in quantise.quantised(tiny.shape_of(name)) for path in group.paths}
    assert not four_bit(model)
    assert not quantise.needs_quantising(model)
    assert quantise.read_back(model) == quantise.INT8
    for path, module in found.items():
        assert module.weight.dtype == torch.int8
        assert module.weight.SCB.shape == (module.out_features,)
        original: Any = plain.get_submodule(path)
        weight = original.weight if isinstance(original, torch.nn.Linear) else original.weight.T
        rebuilt = quantise.expanded(module)
        # Half a step of a row's 255 and rounding to float16 on the way.
        step = weight.abs().amax(dim=1, keepdim=True) / 127
        assert ((rebuilt - weight).abs() <= 0.51 * step + 1e-3 * weight.abs()).all()
    assert torch.isfinite(tiny.outputs(model, tiny.batch(name))).all()


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_8_bits_equal_quantising_while_loading(name: str, tmp_path: Path) -> None:
    tiny.build(name).save_pretrained(tmp_path)
    loaded = type(tiny.build(name)).from_pretrained(
        tmp_path, quantization_config=quantise.settings(quantise.INT8), device_map={"": "cpu"}
    )
    ours = tiny.build(name)
    quantise.quantise(ours, quantise.INT8)
    theirs, mine = eight_bit(loaded), eight_bit(ours)
    assert set(theirs) == set(mine)
    for path, module in theirs.items():
        assert torch.equal(module.weight.data, mine[path].weight.data), path
        assert module.state.threshold == mine[path].state.threshold == quantise.OUTLIERS


def test_reading_an_8_bit_matrix_in_between_changes_nothing() -> None:
    """PEFT's own way to read one loses its scales on a CPU, and the next forward pass fails."""
    model = tiny.apply(SPEC, "llama", {"load_in_8bit": True})
    rows = tiny.batch("llama")
    before = tiny.outputs(model, rows)
    for module in eight_bit(model).values():
        quantise.expanded(module)
    torch.testing.assert_close(tiny.outputs(model, rows), before, rtol=0, atol=0)
    tiny.train_step(model, rows)
    assert not torch.equal(tiny.outputs(model, rows), before)


@pytest.mark.parametrize(
    ("form", "error", "bits"),
    [("nf4", 0.092, 4.5), ("nf4 double", 0.092, 4.127), ("fp4", 0.122, 4.5), ("int8", 0.008, 8.03)],
)
def test_errors_and_bits_are_the_known_ones(form: str, error: float, bits: float) -> None:
    """On normal weights (FACTS: relative error; 64 weights share 32 bits, or 8 bits and 32/256)."""
    torch.manual_seed(0)
    weight = torch.randn(1024, 1024) * 0.02
    restored, memory, disk = forms.stored(weight, form)
    assert float((restored - weight).norm() / weight.norm()) == pytest.approx(error, abs=0.002)
    assert 8 * memory / weight.numel() == pytest.approx(bits, abs=0.02)
    assert memory <= disk + 1024 and disk <= memory + 1024


def test_int8_is_what_bitsandbytes_computes() -> None:
    from bitsandbytes import functional

    torch.manual_seed(0)
    weight = torch.randn(64, 128)
    packed, scales, _ = functional.int8_vectorwise_quant(weight)
    restored, _, _ = forms.stored(weight, "int8")
    torch.testing.assert_close(restored, functional.int8_vectorwise_dequant(packed, scales).float())


def test_the_histogram_counts_every_weight_once_and_every_block_reaches_one() -> None:
    torch.manual_seed(0)
    for size in (BLOCK, 128):
        counts = forms.histogram(torch.randn(32, 128), size)
        assert len(counts) == forms.BINS and sum(counts) == 32 * 128
        assert counts[0] + counts[-1] >= 32 * 128 // size


@pytest.mark.weights
@pytest.mark.slow
def test_the_survey_of_a_real_model() -> None:
    found = forms.survey("minilm-l6")
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


@pytest.mark.parametrize(("name", "more"), [("llama", {}), ("gpt2", {}), ("llama", {"load_in_8bit": True})])
def test_only_the_expanded_base_gives_the_model_that_was_trained(name: str, more: dict[str, Any]) -> None:
    values: dict[str, Any] = {"r": 4, "bnb_4bit_compute_dtype": "float32", "lora_alpha": 8}
    model = tiny.apply(SPEC, name, values | more)
    rows = tiny.batch(name)
    for _ in range(3):
        tiny.train_step(model, rows)
    inputs = {key: rows[key] for key in ("input_ids", "attention_mask")}
    before = tiny.outputs(model, inputs)
    found = {row["way"]: row for row in qlora.merges(model.eval(), inputs, lambda: tiny.build(name))}
    assert found["expanded"]["weights"] < 1e-3
    assert found["rounded again"]["weights"] > 0.02
    if not more:  # in 8 bits the trained model's forward pass rounds its inputs too
        assert found["expanded"]["outputs"] < 1e-3
        assert found["rounded again"]["outputs"] > 0.02
        assert found["fresh"]["outputs"] > 0.02 and found["fresh"]["weights"] > 0.02
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
