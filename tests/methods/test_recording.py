"""What runs note of their method: snapshots, pictures of the correction, and that the model is left as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.methods import get_method, recording
from peft_lab.methods.adapters import recording as adapters
from peft_lab.methods.bitfit import recording as bitfit
from peft_lab.methods.counting.count import count
from peft_lab.methods.ia3 import recording as ia3
from peft_lab.methods.ia3 import spec as ia3_targets
from peft_lab.methods.lora import recording as lora
from peft_lab.methods.recording.recorder import STRONGEST, compare_singular_vectors, copied, restored
from peft_lab.methods.shared import bottleneck
from peft_lab.methods.shared.virtual_tokens import start_as_words
from peft_lab.models.catalogue import get_model
from tests.methods import tiny

pytestmark = pytest.mark.filterwarnings("ignore")


def test_an_earlier_state_is_left_again_whatever_happens() -> None:
    trained = {"a": torch.zeros(2), "b": torch.ones(2)}
    present = copied(trained)
    with pytest.raises(KeyError), restored(trained, {"a": torch.full((2,), 5.0)}):
        assert trained["a"].tolist() == [5.0, 5.0] and trained["b"].tolist() == [1.0, 1.0]
        raise KeyError
    assert all(torch.equal(trained[name], present[name]) for name in trained)


@pytest.mark.parametrize("slug", ["lora", "bitfit", "ia3", "adapters", "prompt", "full"])
def test_a_checkpoint_holds_the_snapshots_and_neither_model_nor_parts(slug: str) -> None:
    spec, shape = get_method(slug), tiny.shape_of("bert")
    values = spec.require(shape, {})
    model = tiny.apply(spec, "bert", values)
    recorder = recording.start(spec, model, shape, values)
    assert recorder.parts and sum(part.parameters for part in recorder.parts) > 0
    recorder.snapshot(0)
    saved = {
        name: value for name, value in vars(recorder).items() if name.startswith("_")
    }  # runs/checkpoints.py
    assert not {"model", "shape", "values", "parts"} & saved.keys()
    assert slug == "full" or any(isinstance(value, list) and len(value) == 1 for value in saved.values())


SIZE, VALUES = 24, [50.0, 40.0, 30.0, 20.0, 10.0, 5.0]


@pytest.fixture
def matrix() -> tuple[object, object, object]:
    """U and V with orthonormal columns, and W = U diag(VALUES) V^T, of rank 6."""
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(SIZE, SIZE)).Q for _ in range(2))
    values = torch.tensor(VALUES)
    return left, right, left[:, : len(VALUES)] @ torch.diag(values) @ right[:, : len(VALUES)].T


def test_what_only_grows_is_no_intruder(matrix) -> None:  # type: ignore[no-untyped-def]
    left, right, weight = matrix
    seen = compare_singular_vectors(weight, 25.0 * left[:, 2:3] @ right[:, 2:3].T, strongest=len(VALUES))
    assert seen.found == ()
    assert seen.tuned[0] == pytest.approx(55.0, abs=1e-3)
    assert seen.cosines[0][2] == pytest.approx(1.0, abs=1e-4), (
        "the third pretrained vector is the strongest now"
    )


def test_a_new_direction_on_top_is_an_intruder() -> None:
    """A diagonal W with distinct values, and a strong change along the sum of all axes: near none of them."""
    weight = torch.diag(torch.linspace(2.0, 1.0, SIZE))
    new = torch.full((SIZE, 1), SIZE**-0.5)
    seen = compare_singular_vectors(weight, 60.0 * new @ new.T)
    assert len(seen.nearest) == STRONGEST
    assert 1 in seen.found and seen.nearest[0] == pytest.approx(SIZE**-0.5, abs=0.02)


LORA = get_method("lora")


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 8), st.integers(0, 99))
def test_thin_factors_say_what_the_whole_matrix_says(outputs: int, inputs: int, rank: int, seed: int) -> None:
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


def recorded(values: dict[str, Any], name: str = "llama") -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A model after two steps, its base's matrices before the method was applied, and what the recorder noted."""
    before = {path: module.weight.detach().clone() for path, module in linear_maps(tiny.build(name))}
    model = tiny.apply(LORA, name, values)
    recorder = lora.RunRecorder(model, tiny.shape_of(name), values)
    rows = tiny.batch(name)
    recorder.snapshot(0)
    for step in (1, 2):
        tiny.train_step(model, rows)
        recorder.snapshot(step)
    inputs = {key: rows[key] for key in ("input_ids", "attention_mask")}
    return model, before, recorder.finish(inputs, lambda: tiny.build(name))


def linear_maps(model: Any) -> list[tuple[str, Any]]:
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
    merged = dict(linear_maps(model.merge_and_unload()))
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


IA3 = get_method("ia3")


def set_vectors(model: Any, spread: float) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ia3_l" in name:
                parameter.copy_(1 + spread * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
def test_a_run_is_noted_from_ones_to_what_was_learnt(name: str) -> None:
    model = tiny.apply(IA3, name, {}, head=name == "bert")
    recorder = ia3.RunRecorder(model, tiny.shape_of(name), {})
    recorder.snapshot(0)
    set_vectors(model, 0.2)
    recorder.snapshot(7)
    rows = {key: value for key, value in tiny.batch(name).items() if key != "labels"}
    found = recorder.finish(rows, lambda: model)
    start, end = found["snapshots"]
    trained = sum(row["size"] for row in end["vectors"])
    shape = tiny.shape_of(name)
    assert trained == IA3.formula(shape, IA3.require(shape, {})).trainable
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
        model = tiny.apply(IA3, "bert", {})
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
        mine = ia3_targets.target_row(shape, *IA3.defaults(shape).values())
        assert mine["peft_count"] == count(model, "ia3", {}).trainable
    assert rows["opt"]["peft"] == "q, k, ff" and rows["opt"]["paper"] == "k, v, ff"
    assert rows["qwen2"]["peft"] == "q, v, ff" and not rows["qwen2"]["same"]
    assert rows["bert"]["peft"] == "k, v, o, ff"
    assert rows["llama"]["same"] and rows["t5"]["same"]
    assert rows["gpt2"]["fused"] and not rows["bert"]["same"]
    bert = get_model("bert-base").shape
    assert ia3_targets.target_row(bert, (), ())["paper_count"] == 12 * (2 * 768 + 3072)


BITFIT = get_method("bitfit")


def inputs_of(name: str) -> dict[str, Any]:
    return {key: value for key, value in tiny.batch(name).items() if key != "labels"}


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_moves_are_from_the_start_and_the_model_is_left_as_it_was(name: str) -> None:
    model = tiny.apply(BITFIT, name, {}, head=name == "bert")
    recorder = bitfit.RunRecorder(model, tiny.shape_of(name), {})
    recorder.snapshot(0)
    with torch.no_grad():
        for number, bias in enumerate(bitfit.trained(model).values()):
            bias.add_(0.1 * (number + 1))
    recorder.snapshot(3)
    before = adapters.answers(model, inputs_of(name))
    found = recorder.finish(inputs_of(name), lambda: model)
    torch.testing.assert_close(adapters.answers(model, inputs_of(name)), before, atol=0, rtol=0)
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
        == BITFIT.formula(tiny.shape_of(name), BITFIT.require(tiny.shape_of(name), {})).trainable
    )
    kinds = {bitfit.kind_of(row["bias"])[0] for row in end["moves"]}
    assert {row["kind"] for row in found["put_back"]} == kinds


def test_the_keys_biases_mean_nothing_and_the_others_do() -> None:
    model = tiny.apply(BITFIT, "bert", {}, head=True)
    biases = bitfit.trained(model)
    start = {name: bias.detach().clone() for name, bias in biases.items()}
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for bias in biases.values():
            bias.add_(torch.randn(bias.shape, generator=generator))
    found = {
        row["kind"]: row["mean_change"] for row in bitfit.without(model, biases, start, inputs_of("bert"))
    }
    assert found.pop("attention.self.key") < 1e-6 < 1e-5 < min(found.values())


def test_a_model_that_labels_tokens_is_measured_at_all_of_them() -> None:
    model = tiny.apply(BITFIT, "bert", {}, head=tiny.PER_TOKEN)
    kind = "attention.self.value"
    biases = {name: bias for name, bias in bitfit.trained(model).items() if kind in name}
    start = {name: bias.detach().clone() for name, bias in biases.items()}
    inputs = inputs_of("bert")
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


ADAPTERS = get_method("adapters")


def model(name: str = "bert", **values: Any) -> Any:
    return tiny.apply(ADAPTERS, name, {"bottleneck": 8, "init_std": 0.3, **values}, head=name == "bert")


def rows(amount: int = 24) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, tiny.VOCAB, (amount, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[::3, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_the_fit_finds_a_line_and_misses_a_curve() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    matrix, offset = torch.randn(6, 3, generator=generator), torch.randn(3, generator=generator)
    line = adapters.fit(x, x @ matrix + offset)
    torch.testing.assert_close(line.matrix, matrix.double(), atol=1e-5, rtol=0)
    assert adapters.missed(line, x, x @ matrix + offset) < 1e-6
    bent = (x @ matrix).square()
    assert adapters.missed(adapters.fit(x[:300], bent[:300]), x[300:], bent[300:]) > 0.9


@pytest.mark.parametrize("placement", ["houlsby", "parallel"])
def test_what_is_added_is_the_difference_at_the_host(placement: str) -> None:
    """Against the host's own output with the adapters on and off, in the first layer, whose input is the same."""
    adapted, inputs = model(placement=placement, scale=3.0), rows(4)
    path = next(
        path for path in bottleneck.modules_of(adapted, "default") if ".0." in path and "output" in path
    )
    outputs: list[Any] = []
    adapted.get_submodule(path).register_forward_hook(lambda _m, _i, output: outputs.append(output))
    adapters.answers(adapted, inputs)
    heard = adapters.activations(adapted, inputs)
    bottleneck.set_active(adapted, None)
    adapters.answers(adapted, inputs)
    reads, gives, told = heard[path]
    order = inputs["attention_mask"].sum(1).argsort(stable=True)
    real = inputs["attention_mask"][order].bool()
    assert told.tolist() == order.repeat_interleave(real.sum(1)).tolist()
    torch.testing.assert_close(gives, (outputs[0] - outputs[-1])[real], atol=1e-5, rtol=0)
    assert reads.shape == gives.shape == (int(real.sum()), 32)


def test_straight_adapters_are_missed_by_nothing_and_bent_ones_are() -> None:
    """tanh of tiny values is a line; of large ones it is not. Without the function it always is."""
    faint = adapters.fits(model(nonlinearity="tanh", init_std=1e-3), rows())
    loud = adapters.fits(model(nonlinearity="tanh", init_std=1.0), rows())
    assert len(faint) == len(loud) == 4
    for path, (_, missed, without) in faint.items():
        assert missed < 1e-2 < loud[path][1]
        assert without < 1e-6 and loud[path][2] < 1e-6


def test_too_few_tokens_give_no_fit() -> None:
    assert adapters.fits(model(), rows(3)) == {}


def test_a_line_in_every_place_gives_what_the_lines_say() -> None:
    """Lines that equal straight adapters leave the answers as they are, scale included."""
    adapted, inputs = model(nonlinearity="tanh", init_std=1e-3, placement="parallel", scale=4.0), rows()
    lines = {path: line for path, (line, *_) in adapters.fits(adapted, inputs).items()}
    before = adapters.answers(adapted, inputs)
    with adapters.straightened(adapted, lines):
        torch.testing.assert_close(adapters.answers(adapted, inputs), before, atol=1e-5, rtol=0)
    zero = {path: adapters.Affine(0 * line.matrix, 0 * line.offset) for path, line in lines.items()}
    with adapters.straightened(adapted, zero):
        none = adapters.answers(adapted, inputs)
    bottleneck.set_active(adapted, None)
    torch.testing.assert_close(none, adapters.answers(adapted, inputs), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_run_is_played_from_its_start_and_the_model_is_left_as_it_was(name: str) -> None:
    adapted = model(name, init_std=1e-3, nonlinearity="silu")
    values = {"nonlinearity": "silu"}
    recorder = adapters.RunRecorder(adapted, tiny.shape_of(name), values)
    recorder.snapshot(0)
    with torch.no_grad():
        for parameter in bottleneck.parameters_of(adapted, "default").values():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    recorder.snapshot(5)
    inputs = rows()
    before = adapters.answers(adapted, inputs)
    found = recorder.finish(inputs, lambda: adapted)
    torch.testing.assert_close(adapters.answers(adapted, inputs), before, atol=0, rtol=0)
    start, end = found["snapshots"]
    assert (start["step"], end["step"]) == (0, 5)
    assert max(start["added"].values()) < 1e-3 < min(end["added"].values())
    assert start["logit_change"] < 1e-3 < end["logit_change"]
    assert all(row["start"] < row["trained"] for row in found["missed"].values())
    assert found["straightened"]["rows"] == 6 and found["fitted"]["judged"] > 0


def test_many_large_snapshots_keep_the_first_and_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "KEPT_BYTES", 1.0)
    recorder = adapters.RunRecorder(model(), tiny.shape_of("bert"), {"nonlinearity": "gelu"})
    for step in range(5):
        recorder.snapshot(step)
    assert [step for step, _ in recorder._kept] == [0, 4]


@pytest.fixture
def without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor behaves as if on a GPU without float64 until it has been moved by ``cpu()``."""
    moved: list[torch.Tensor] = []  # kept alive, so that no later tensor takes the place of one
    cpu, double = torch.Tensor.cpu, torch.Tensor.double

    def to_processor(tensor: torch.Tensor) -> torch.Tensor:
        moved.append(cpu(tensor).clone())
        return moved[-1]

    def as_float64(tensor: torch.Tensor) -> torch.Tensor:
        if not any(tensor is one for one in moved):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return double(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", to_processor)
    monkeypatch.setattr(torch.Tensor, "double", as_float64)


@pytest.mark.usefixtures("without_float64")
def test_a_prompt_encoder_starts_as_words() -> None:
    encoder = torch.nn.Module()
    encoder.embedding = torch.nn.Embedding(4, 8)
    encoder.mlp_head = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 6))
    words = torch.nn.Embedding(20, 6)
    base = SimpleNamespace(get_input_embeddings=lambda: words)
    model = SimpleNamespace(prompt_encoder={"default": encoder}, get_base_model=lambda: base)
    start_as_words(model, [1, 2, 3, 4])
    made = encoder.mlp_head(encoder.embedding.weight)
    assert torch.allclose(made, words.weight[1:5], atol=1e-4)


@pytest.mark.usefixtures("without_float64")
def test_linear_maps_are_fitted_and_put_in_an_adapters_place() -> None:
    x, y = torch.randn(30, 5), torch.randn(30, 3)
    line = adapters.fit(x, y)
    assert line(x).shape == y.shape
    assert 0 < adapters.missed(line, x, y) <= 1
    module = SimpleNamespace(down=torch.nn.Linear(5, 2), up=torch.nn.Linear(2, 3))
    straight = adapters._without_function(module, x)
    assert torch.allclose(straight.float(), module.up(module.down(x)), atol=1e-5)
