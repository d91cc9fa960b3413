"""Weights out of ONNX exports: the file format, FLAN-T5 and DINOv2 as rebuilt beside the graphs they came from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.models.assets import onnx_vision, onnx_weights, store
from peft_lab.models.loading import load_base

GRAPH = json.loads((Path(__file__).parent / "flan_t5_graph.json").read_text("utf-8"))
CLOSE = 1e-3  # logits of the graph have standard deviations of 6 to 8


def varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made += bytes([number & 127 | 128])
        number >>= 7
    return made + bytes([number])


def message(*parts: tuple[int, int | bytes]) -> bytes:
    made = b""
    for field, value in parts:
        if isinstance(value, int):
            made += varint(field << 3) + varint(value)
        else:
            made += varint(field << 3 | 2) + varint(len(value)) + value
    return made


def tensor(name: str, kind: int, sizes: tuple[int, ...], *value: tuple[int, bytes]) -> tuple[int, bytes]:
    return 5, message(*((1, size) for size in sizes), (2, kind), (8, name.encode()), *value)


def test_matrices_are_read_back_under_the_name_of_their_module(tmp_path: Path) -> None:
    import numpy

    whole = numpy.array([[130, 140, 150], [160, 170, 180]], numpy.uint8)
    scale = numpy.array([0.5], numpy.float32)
    reader = message(
        *((1, name.encode()) for name in ("x", "m_7_quantized", "x_zero", "m_7_zero_point")),
        (3, b"/enc/block.0/q/MatMul_quant"),
        (4, b"MatMulInteger"),
    )
    graph = message(
        (1, reader),
        tensor("m_7_quantized", 2, (2, 3), (9, whole.tobytes())),
        tensor("m_7_scale", 1, (), (4, scale.tobytes())),
        tensor("m_7_zero_point", 2, (), (5, varint(138))),
        tensor("enc.final_layer_norm.weight", 1, (2,), (9, numpy.array([1, 2], numpy.float32).tobytes())),
        tensor("some_constant", 1, (1,), (9, scale.tobytes())),
        tensor("a_shape", 7, (1,), (9, bytes(8))),
    )
    file = tmp_path / "small.onnx"
    file.write_bytes(message((1, 8), (7, graph)))
    found = onnx_weights.stored(file)
    assert set(found) == {"enc.block.0.q.weight", "enc.final_layer_norm.weight"}
    expected = (torch.from_numpy(whole).float() - 138) / 2
    torch.testing.assert_close(found["enc.block.0.q.weight"], expected.T.contiguous())


def test_what_is_no_onnx_file_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 3"):
        list(onnx_weights.fields(memoryview(bytes([11, 0]))))


def rounded(values: Any) -> Any:
    """Activations as the graph's DynamicQuantizeLinear has them: 8 bits over the range of the whole tensor."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    scale = (high - low) / 255
    zero = max(0, min(255, round(-low / scale)))
    return ((values / scale).round() + zero).clamp(0, 255).sub(zero).mul(scale)


@pytest.mark.sampled(3)
@pytest.mark.weights
@pytest.mark.parametrize("case", GRAPH["cases"], ids=lambda case: case["text"][:20])
def test_with_the_graphs_rounding_the_logits_are_the_graphs(case: dict[str, Any]) -> None:
    """The fixture has some columns of the logits and the best, as onnxruntime gave them for the pinned files.

    In float64: sums of the graph's whole numbers are exact, and in float32 their order, which the processor and the
    number of threads decide, moves a value over a half, after which all that follows is rounded otherwise.
    """
    model = load_base("flan-t5-small", dtype=torch.float32, attention="eager").model.eval().double()
    ids, before = torch.tensor([case["ids"]]), torch.tensor([case["decoder"]])
    wanted = torch.tensor(case["logits"], dtype=torch.float64)

    def logits() -> Any:
        with torch.no_grad():
            found = model(input_ids=ids, decoder_input_ids=before).logits[0]
        best = torch.tensor(case["best"])[:, None]
        return torch.cat([found[:, GRAPH["columns"]], found.gather(1, best)], dim=1), found.argmax(-1)

    plain, _ = logits()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))
    found, best = logits()
    torch.testing.assert_close(found, wanted, rtol=0, atol=CLOSE)
    assert best.tolist() == case["best"]
    # without it they differ by what 8 bits of every activation cost
    apart = torch.corrcoef(torch.stack([plain.flatten(), wanted.flatten()]))[0, 1]
    assert 0.85 < float(apart) < 0.999


@pytest.mark.weights
def test_the_tokenizer_cuts_nothing_and_the_model_answers() -> None:
    base = load_base("flan-t5-small")
    assert len(base.tokenizer(" ".join(["word"] * 100))["input_ids"]) == 101
    asked = base.tokenizer("translate English to German: The house is wonderful.", return_tensors="pt")
    said = base.model.generate(**asked, max_new_tokens=12)  # type: ignore[operator]
    assert base.tokenizer.decode(said[0], skip_special_tokens=True) == "Das Haus ist wunderbar."
    model: Any = base.model
    assert model.lm_head.weight.data_ptr() != model.shared.weight.data_ptr(), "a head of its own"
    assert model.encoder.embed_tokens.weight.data_ptr() == model.shared.weight.data_ptr()


@pytest.mark.weights
def test_what_it_is_made_of_is_not_kept() -> None:
    names = set(store.verified("flan-t5-small"))
    assert "model.safetensors" in names and not any(name.endswith(".onnx") for name in names)


def test_reading_onnx_imports_no_torch() -> None:
    code = "import sys, peft_lab.models.assets.onnx_weights; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- DINOv2 out of an ONNX export: as rebuilt beside the graph it was rebuilt from --

SEEN = json.loads((Path(__file__).parent / "dinov2_graph.json").read_text("utf-8"))
CLOSE_SEEN = 1e-4  # the graph's values have a standard deviation of 2.3


def test_matrices_of_images_are_read_back_too(tmp_path: Path) -> None:
    import numpy

    matrix, bias = numpy.array([[1, 2, 3], [4, 5, 6]], numpy.float32), numpy.array([7, 8, 9], numpy.float32)
    reader = message(
        *((1, name.encode()) for name in ("x", "onnx::MatMul_7")),
        (3, b"/backbone/encoder/layer.0/mlp/fc1/MatMul"),
        (4, b"MatMul"),
    )
    graph = message(
        (1, reader),
        tensor("onnx::MatMul_7", 1, (2, 3), (9, matrix.tobytes())),
        tensor("backbone.encoder.layer.0.mlp.fc1.bias", 1, (3,), (9, bias.tobytes())),
        tensor("a_shape", 7, (1,), (9, bytes(8))),
    )
    file = tmp_path / "small.onnx"
    file.write_bytes(message((1, 8), (7, graph)))
    found = onnx_vision.floats(file)
    assert set(found) == {"backbone.encoder.layer.0.mlp.fc1.weight", "backbone.encoder.layer.0.mlp.fc1.bias"}
    torch.testing.assert_close(
        found["backbone.encoder.layer.0.mlp.fc1.weight"], torch.from_numpy(matrix.T.copy())
    )


@pytest.mark.weights
def test_its_values_are_the_graphs() -> None:
    """The fixture: some of the graph's last values, by onnxruntime, its input's size set to 84 × 84 pixels."""
    model: Any = load_base("dinov2-small", dtype=torch.float32, attention="eager").model.eval()
    c, y, x = torch.meshgrid(torch.arange(3), torch.arange(84), torch.arange(84), indexing="ij")
    for case in SEEN["cases"]:
        k = case["k"]
        image = 2 * torch.sin(k * (x + 3 * c) / 9) * torch.cos((k + c) * y / 11)
        with torch.no_grad():
            found = model(pixel_values=image[None]).last_hidden_state[0]
        wanted = torch.tensor(case["hidden"])
        torch.testing.assert_close(found[case["tokens"]][:, case["columns"]], wanted, rtol=0, atol=CLOSE_SEEN)
        assert float(found.abs().mean()) == pytest.approx(case["mean_abs"], abs=CLOSE_SEEN)


@pytest.mark.weights
def test_what_it_is_made_of_is_not_kept_and_how_it_sees_is_told() -> None:
    names = set(store.verified("dinov2-small"))
    assert {"model.safetensors", "preprocessor_config.json"} <= names
    assert not any(name.endswith(".onnx") for name in names)
    eye: Any = load_base("dinov2-small").tokenizer
    assert (eye.height, eye.width, eye.mean) == (84, 84, (0.485, 0.456, 0.406))
