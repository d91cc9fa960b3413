"""LoRA's picture: what is computed from the thin factors equals what the full ΔW says; merging leaves its traces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.methods import get_method
from peft_lab.methods.lora import recording as lora
from tests.methods import tiny

SPEC = get_method("lora")
pytestmark = pytest.mark.filterwarnings("ignore")


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 8), st.integers(0, 99))
def test_thin_factors_say_what_the_whole_matrix_says(outputs: int, inputs: int, rank: int, seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    a, b, scale = torch.randn(rank, inputs), torch.randn(outputs, rank), 0.5
    delta = scale * b @ a
    values = lora.singular_values(a, b, scale)
    full = torch.linalg.svdvals(delta)
    np.testing.assert_allclose(values, full[: len(values)].numpy(), rtol=1e-3, atol=1e-3)
    cells = lora.grid(a, b, scale, size=16)
    assert cells.shape == (min(16, outputs), min(16, inputs))
    for row, part in enumerate(torch.tensor_split(delta, cells.shape[0])):
        for column, patch in enumerate(torch.tensor_split(part, cells.shape[1], dim=1)):
            assert float(cells[row, column]) == pytest.approx(float(patch.square().mean().sqrt()), abs=1e-3)


def test_effective_rank_counts_equal_directions() -> None:
    assert lora.effective_rank([2.0, 2.0, 2.0]) == pytest.approx(3)
    assert lora.effective_rank([5.0, 0.0]) == pytest.approx(1)
    assert lora.effective_rank([]) == lora.effective_rank([0.0]) == 0


def recorded(values: dict[str, Any], name: str = "llama") -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A model after two steps, its base's matrices before the method was applied, and what the recorder noted."""
    before = {path: module.weight.detach().clone() for path, module in linear(tiny.build(name))}
    model = tiny.apply(SPEC, name, values)
    recorder = lora.RunRecorder(model, tiny.shape_of(name), values)
    rows = tiny.batch(name)
    recorder.snapshot(0)
    for step in (1, 2):
        tiny.train_step(model, rows)
        recorder.snapshot(step)
    inputs = {key: rows[key] for key in ("input_ids", "attention_mask")}
    return model, before, recorder.finish(inputs, lambda: tiny.build(name))


def linear(model: Any) -> list[tuple[str, Any]]:
    return [
        (path, module)
        for path, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D")
    ]


@pytest.mark.parametrize(
    "values",
    [{"r": 3}, {"r": 3, "init_lora_weights": "pissa"}, {"r": 4, "rank_pattern": "0=2", "use_rslora": True}],
    ids=["plain", "pissa", "ranks"],
)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_correction_is_what_merging_adds_to_the_pretrained_matrix(
    name: str, values: dict[str, Any]
) -> None:
    model, before, found = recorded(values, name)
    merged = dict(linear(model.merge_and_unload()))
    for row in found["corrections"]:
        path = row["module"]
        moved = merged[path].weight.detach() - before[path]
        assert row["norm"] == pytest.approx(float(moved.norm()), rel=1e-2, abs=1e-6)
        assert row["base_norm"] == pytest.approx(float(before[path].norm()), rel=1e-4)
    last = found["growth"][-1]
    assert last["norms"] == pytest.approx(
        {row["module"]: row["norm"] for row in found["corrections"]}, rel=1e-2
    )
    first = found["growth"][0]
    assert max(first["norms"].values()) == pytest.approx(0, abs=1e-5)


def test_the_heat_maps_are_those_of_the_snapshots() -> None:
    model, _, found = recorded({"r": 2})
    stacked = found["grids"].astype(float) * found["largest_cell"]
    assert stacked.shape[:2] == (3, len(found["corrections"]))
    assert np.nanmax(stacked[0]) == 0 < np.nanmax(stacked[1]) < np.nanmax(stacked[2])
    for number, (_, module) in enumerate(lora.layers(model)):
        cells = lora.grid(*lora.change(module, None)).detach().numpy()
        rows, columns = cells.shape
        np.testing.assert_allclose(stacked[-1, number, :rows, :columns], cells, rtol=2e-3, atol=1e-6)


def test_unmerging_in_bfloat16_leaves_traces_in_the_weights_and_in_float32_hardly_any() -> None:
    model, _, found = recorded({"r": 3, "lora_alpha": 64})
    plain, half = found["merge"]
    assert (plain["dtype"], half["dtype"]) == ("float32", "bfloat16")
    assert plain["max_difference"] < 1e-5 < half["max_difference"]
    assert plain["unmerged_difference"] < 1e-5
    assert 0 < half["changed_share"] < 1
    assert all(not module.merged for _, module in lora.layers(model)), "the model itself is left as it is"


@pytest.mark.parametrize(("rank", "wide", "tall"), [(8, 64, 40), (2, 3, 1), (16, 10, 300)])
def test_before_training_there_is_nothing_to_decompose(
    rank: int, wide: int, tall: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B starts at zero: what is said of ΔW without working it out is what working it out says."""
    import torch

    a, b = torch.randn(rank, wide), torch.zeros(tall, rank)
    right, left = torch.linalg.qr(a.T).R, torch.linalg.qr(b).R
    values = (torch.linalg.svdvals(left @ right.T) * 2.0).tolist()
    monkeypatch.setattr(torch.linalg, "qr", lambda _: pytest.fail("the first loss waits for this"))
    assert lora.singular_values(a, b, 2.0) == values
    cells = lora.grid(a, b, 2.0)
    assert cells.shape == (min(lora.GRID, tall), min(lora.GRID, wide)) and cells.dtype == torch.float32
    assert not cells.any()
