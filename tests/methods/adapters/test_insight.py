"""What a run of adapters notes, on tiny models whose adapters are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peft_lab.methods import get_method
from peft_lab.methods.adapters import recording as adapters
from peft_lab.methods.shared import bottleneck
from tests.methods import tiny

SPEC = get_method("adapters")


def model(name: str = "bert", **values: Any) -> Any:
    return tiny.apply(SPEC, name, {"bottleneck": 8, "init_std": 0.3, **values}, head=name == "bert")


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


def test_inputs_that_depend_on_each_other_are_fitted_too() -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    x = torch.cat([x, x.sum(1, keepdim=True)], 1)
    y = x @ torch.ones(5, 2)
    assert adapters.missed(adapters.fit(x, y), x, y) < 1e-6


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
