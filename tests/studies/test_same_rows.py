"""The same rows in several ways: the step of each precision, what is counted of the answers, what is recorded."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from bench import engines as bench
from peft_lab.models.loading import load_tokenizer
from peft_lab.runs.spec import RunRequest
from peft_lab.studies import same_rows, tiny
from peft_lab.studies.exhibits import MIXTURE, all_exhibits
from peft_lab.studies.same_rows import ROWS, WAYS, Answered
from tests.conftest import missing

SPEC = same_rows.recorded()["spec"]


def grid(form: str, block: Any) -> list[float]:
    """Return every value that a block can store, from the definition of its form."""
    import torch
    from bitsandbytes.functional import get_4bit_type

    largest = max(map(float, block), key=abs)
    if form == "bf16":
        bits = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16).float()
        return sorted(set(bits[bits.isfinite()].tolist()))
    if form == "nf4":
        return sorted(float(code) * abs(largest) for code in get_4bit_type("nf4", device="cpu"))
    steps, part = {"int8": (range(-127, 128), 127), "q4_0": (range(-8, 8), -8)}[form]
    return sorted(largest / part * step for step in steps)


def nearest(value: Any, allowed: list[float]) -> float:
    return min(allowed, key=lambda one: abs(one - float(value)))


@pytest.mark.parametrize("form", ["bf16", "int8", "nf4", "q4_0"])
def test_an_entry_below_half_a_step_is_one_that_rounding_takes_back(form: str) -> None:
    import torch

    torch.manual_seed(1)
    size = {"bf16": 8, "int8": 96, "nf4": 64, "q4_0": 32}[form]
    weight = torch.randn(3, size).bfloat16().float()
    values = [grid(form, row) for row in weight]
    if form != "bf16":
        weight = torch.tensor(
            [
                [min(row, key=lambda one: abs(one - float(w))) for w in block]
                for row, block in zip(values, weight, strict=True)
            ]
        )
    change = torch.randn(3, size) * {"bf16": 3e-3, "int8": 1e-2}.get(form, 0.1)
    below = change.abs() < same_rows.half_steps(weight, change, form)
    for row, allowed in enumerate(values):
        for at in range(size):
            stored, moved = float(weight[row, at]), float(weight[row, at] + change[row, at])
            if not allowed[0] < moved < allowed[-1]:  # beyond the largest, whose scale follows it
                continue
            assert bool(below[row, at]) == (nearest(moved, allowed) == nearest(stored, allowed)), (row, at)
    assert 0 < int(below.sum()) < below.numel()


def test_the_share_of_a_layer_is_that_of_all_its_entries() -> None:
    import torch

    model = tiny.lora(tiny.tiny())
    tiny.fill(model, "lora_B")
    counted = []
    for layer in model.base_model.model.model.layers:
        parts = []
        for module in (layer.self_attn.q_proj, layer.self_attn.v_proj):
            weight, change = module.weight.detach(), module.get_delta_weight("default").detach()
            step = weight.abs().amax(1, keepdim=True) / 127
            parts.append((change.abs() < step / 2).flatten())
        counted.append(round(float(torch.cat(parts).float().mean()), 4))
    with torch.no_grad():
        assert same_rows.lost_shares(model, "int8") == counted


def test_answers_are_compared_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_rows, "split_text", lambda _, text: list(text))
    rows = same_rows.rows_of(SPEC)
    texts = tuple(row.target for row in rows)
    whole = Answered(texts, (True,) * ROWS, 1)
    assert len(rows) == ROWS == same_rows.right(rows, whole)
    assert same_rows.differences("", whole, whole) == []
    cut = replace(
        whole, answers=(texts[0][:-3], *texts[1:4], texts[4].replace('{"item"', '{"Item"'), *texts[5:])
    )
    assert same_rows.right(rows, cut) == ROWS - 2
    first, second = same_rows.differences("", cut, whole)
    assert first == (2, 4, "i", "I")
    assert second == (len(texts[0]) - 3, 0, texts[0][-3], "")


def test_what_is_recorded_answers_every_row_in_every_way() -> None:
    found = same_rows.recorded()
    assert set(found["answers"]) == {*WAYS, MIXTURE, *all_exhibits()}
    assert found["spec"].method == "lora" and found["recorded"] and found["machine"]["processor"]
    for way in WAYS:
        one = found["answers"][way]
        assert len(one.answers) == len(one.ended) == ROWS and one.seconds > 0
        assert bool(one.lost) == WAYS[way].merged
        unequal = sum(
            mine != its
            for mine, its in zip(one.answers, found["answers"][same_rows.reference(way)].answers, strict=True)
        )
        assert len(found["apart"][way]) == unequal
    for name, one_way in WAYS.items():
        if one_way.engine:  # unquantised, beside the base
            assert found["apart"][name] == [] and found["engines"][name].keys() == {
                "package",
                "load",
                "recorded",
            }
    mean = {way: fmean(found["answers"][way].lost) for way in WAYS if WAYS[way].merged}
    assert mean["bf16"] < mean["int8"] < min(mean["nf4"], mean["q4_0"])


@pytest.mark.slow
@pytest.mark.weights
def test_llama_cpp_answers_the_rows_as_peft_does(
    assets_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Path(__file__).parents[2] / ".venv-engine"
    if not (engine / "xllamacpp").is_dir():
        missing(f"no llama.cpp for {Path(sys.executable).name}: make engine")
    monkeypatch.setenv("PYTHONPATH", str(engine))
    monkeypatch.setattr(same_rows, "ROWS", 2)
    base = tmp_path / "base"
    tuned = bench.adapt(bench.tiny("llama", base), bench.KINDS["q and v"], tmp_path / "adapter")
    spec = RunRequest(str(base), "lora", "json").complete()
    made = same_rows.in_engine("llama.cpp", spec, tmp_path / "adapter")
    texts, ended = same_rows.write(tuned, load_tokenizer(str(base)), spec, same_rows.rows_of(spec))
    assert (made.answers, made.ended) == (tuple(texts), tuple(ended)) and len(texts) == 2
