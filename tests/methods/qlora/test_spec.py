"""QLoRA: real 4-bit bases on the CPU, the same through both ways of quantising, and honest about what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peft_lab.methods import get_method
from peft_lab.methods.qlora.spec import QLora
from peft_lab.models import quantise
from peft_lab.models.catalogue import catalogue, get_model, readers_of_text
from peft_lab.models.quantise import Quantization
from tests.methods import tiny

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
    import torch

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
    import torch
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
    import torch
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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_equals_quantising_while_loading(name: str, tmp_path: Path) -> None:
    """transformers' own way, from files, and ours in memory give the same weights and outputs."""
    import torch

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


@pytest.mark.filterwarnings("ignore")
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


@pytest.mark.filterwarnings("ignore")
def test_evaluating_in_between_changes_nothing() -> None:
    """bitsandbytes repacks 4-bit weights in an evaluation on some CPUs; training on and merging then go wrong."""
    import torch

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


@pytest.mark.filterwarnings("ignore")
def test_gradients_reach_the_first_layer_through_4_bit_maps() -> None:
    model = tiny.apply(SPEC, "llama", {})
    tiny.outputs(model, tiny.batch("llama"))
    tiny.train_step(model, tiny.batch("llama"))
    tiny.loss(model.train(), tiny.batch("llama")).backward()
    missing = [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert not missing


@pytest.mark.filterwarnings("ignore")
def test_an_eight_bit_or_plain_base_says_nothing_about_4_bit() -> None:
    assert quantise.read_back(tiny.build("llama")) is None


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", list(catalogue()))
def test_all_linear_counts_of_the_catalogue(name: str) -> None:
    from peft_lab.methods.counting.count import count

    report = count(name, "qlora", {"r": 4})
    assert report.trainable == report.formula == report.stored_parameters
    small = sum(group.parameters for group in report.tree if group.quantised)
    shape = get_model(name).shape
    assert small == sum(
        group.count * group.in_features * group.out_features for group in quantise.quantised(shape)
    )
    assert report.total == shape.total + report.trainable


def test_counts_of_the_3b_model() -> None:
    shape = get_model("llama-3.2-3b").shape
    assert SPEC.formula(shape, SPEC.require(shape, {"r": 16})).trainable == 24_313_856
    assert SPEC.scale(SPEC.require(shape, {"r": 64, "lora_alpha": 16})) == 0.25


def eight_bit(model: Any) -> dict[str, Any]:
    from bitsandbytes.nn.modules import Linear8bitLt

    return {path: module for path, module in model.named_modules() if isinstance(module, Linear8bitLt)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", tiny.MODELS)
def test_in_8_bits_every_linear_map_but_the_output_has_a_scale_for_each_row(name: str) -> None:
    import torch

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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_8_bits_equal_quantising_while_loading(name: str, tmp_path: Path) -> None:
    import torch

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


@pytest.mark.filterwarnings("ignore")
def test_reading_an_8_bit_matrix_in_between_changes_nothing() -> None:
    """PEFT's own way to read one loses its scales on a CPU, and the next forward pass fails."""
    import torch

    model = tiny.apply(SPEC, "llama", {"load_in_8bit": True})
    rows = tiny.batch("llama")
    before = tiny.outputs(model, rows)
    for module in eight_bit(model).values():
        quantise.expanded(module)
    torch.testing.assert_close(tiny.outputs(model, rows), before, rtol=0, atol=0)
    tiny.train_step(model, rows)
    assert not torch.equal(tiny.outputs(model, rows), before)
