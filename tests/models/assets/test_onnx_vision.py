"""DINOv2 out of an ONNX export: as rebuilt beside the graph it was rebuilt from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.models.assets import onnx_vision, store
from peft_lab.models.loading import load_base
from tests.models.assets.test_onnx_weights import message, tensor

GRAPH = json.loads((Path(__file__).parent / "dinov2_graph.json").read_text("utf-8"))
CLOSE = 1e-4  # the graph's values have a standard deviation of 2.3


def test_matrices_are_read_back_under_the_name_of_their_module(tmp_path: Path) -> None:
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
    for case in GRAPH["cases"]:
        k = case["k"]
        image = 2 * torch.sin(k * (x + 3 * c) / 9) * torch.cos((k + c) * y / 11)
        with torch.no_grad():
            found = model(pixel_values=image[None]).last_hidden_state[0]
        wanted = torch.tensor(case["hidden"])
        torch.testing.assert_close(found[case["tokens"]][:, case["columns"]], wanted, rtol=0, atol=CLOSE)
        assert float(found.abs().mean()) == pytest.approx(case["mean_abs"], abs=CLOSE)


@pytest.mark.weights
def test_what_it_is_made_of_is_not_kept_and_how_it_sees_is_told() -> None:
    names = set(store.verified("dinov2-small"))
    assert {"model.safetensors", "preprocessor_config.json"} <= names
    assert not any(name.endswith(".onnx") for name in names)
    eye: Any = load_base("dinov2-small").tokenizer
    assert (eye.height, eye.width, eye.mean) == (84, 84, (0.485, 0.456, 0.406))
