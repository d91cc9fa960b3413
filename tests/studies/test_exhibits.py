"""Exhibits and the same rows in several ways: changes and precisions against their definitions, what is recorded."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from peft_lab.studies import exhibits, same_rows, tiny
from peft_lab.studies.exhibits import MIXTURE, OUTCOMES, Parts, all_exhibits, outcome, spoil
from peft_lab.studies.same_rows import ROWS, WAYS, Answered, recorded, right
from peft_lab.training.tasks.base import Row

NAMES = list(all_exhibits())


@cache
def folder_of_tiny(place: Path) -> Path:
    model = tiny.lora(tiny.tiny())
    tiny.fill(model, "lora_B")
    model.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_tiny(tmp_path_factory.mktemp("adapter"))


@cache
def trained_mixture() -> Parts:
    return exhibits.mixture()


def parts_of(name: str, folder: Path) -> Parts:
    """Return new parts: of the mixture, or of a tiny Llama with stand-ins for its tokenizer."""
    if all_exhibits()[name].mixture:
        return copy.deepcopy(trained_mixture())
    return exhibits.read(
        tiny.tiny(), SimpleNamespace(chat_template="{{ messages }}", eos_token="<|im_end|>"), folder
    )


def loaded(parts: Parts) -> Any:
    """Return the model that answers; the base of the parts stays as it is."""
    return replace(parts, base=copy.deepcopy(parts.base)).load()[0]


def logits(parts: Parts) -> Any:
    import torch

    with torch.no_grad():
        return loaded(parts)(torch.arange(48).reshape(2, 24) % parts.base.config.vocab_size).logits


def noticed(name: str, healthy: Parts, spoilt: Parts) -> bool:
    """Return whether an exhibit's check, as it is shown, is false of the spoilt parts."""
    published = {key: one.clone() for key, one in healthy.base.state_dict().items()}
    names = {
        "trained": healthy.tensors, "shipped": spoilt.tensors,
        "trained_config": healthy.config, "config": spoilt.config,
        "published": published, "base": {key: one.clone() for key, one in spoilt.base.state_dict().items()},
        "tokenizer": spoilt.tokenizer, "trained_tokenizer": healthy.tokenizer, "model": loaded(spoilt),
    }  # fmt: skip
    return not eval(all_exhibits()[name].check, names)


@pytest.mark.parametrize("name", NAMES)
def test_a_change_changes_what_comes_out_and_its_check_notices(name: str, tiny_adapter: Path) -> None:
    import torch

    healthy, spoilt = parts_of(name, tiny_adapter), parts_of(name, tiny_adapter)
    assert not noticed(name, healthy, parts_of(name, tiny_adapter))
    spoil(spoilt, all_exhibits()[name].change)
    assert noticed(name, parts_of(name, tiny_adapter), spoilt)
    same = torch.equal(logits(parts_of(name, tiny_adapter)), logits(spoilt))
    assert same == (
        all_exhibits()[name].change in ("no template", "other end")
    )  # spoil the text, not the model


def test_only_square_matrices_are_exchanged(tiny_adapter: Path) -> None:
    healthy, spoilt = (parts_of("transposed", tiny_adapter) for _ in range(2))
    spoil(spoilt, "transposed")
    moved = {name for name, tensor in healthy.tensors.items() if not tensor.equal(spoilt.tensors[name])}
    assert moved and all("q_proj" in name for name in moved)  # v's matrices have other sides
    assert all(tensor.shape == spoilt.tensors[name].shape for name, tensor in healthy.tensors.items())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_recorded_shows_the_fault(name: str) -> None:
    one, found = all_exhibits()[name], recorded()
    rows, before, after = one.rows(found["spec"]), found["answers"][one.healthy], found["answers"][name]
    assert len(rows) == len(after.answers) == len(after.ended)
    came = outcome(rows, before, after)
    assert came in OUTCOMES and came != "same"
    assert right(rows, before) > len(rows) / 2 and all(before.ended)
    assert came == "endless" or right(rows, after) < right(rows, before)


RIGHT = ('{"item": "tea", "size": "small"}',) * 4
WRONG = '{"item": "tea", "size": "large"}'


@pytest.mark.parametrize(
    ("after", "ended", "came"),
    [
        (RIGHT, True, "same"),
        ((*RIGHT[:3], WRONG), True, "few"),
        ((RIGHT[0], *[WRONG] * 3), True, "most"),
        (('{"item": "te',) * 4, True, "broken"),
        (tuple(f"{one} and more" for one in RIGHT), False, "endless"),
    ],
)
def test_the_outcome_follows_from_the_answers(after: tuple[str, ...], ended: bool, came: str) -> None:
    rows = [Row("", text) for text in RIGHT]
    assert outcome(rows, Answered(RIGHT, (True,) * 4, 1), Answered(after, (ended,) * 4, 1)) == came


@pytest.mark.slow
@pytest.mark.weights
def test_the_shipped_adapter_loses_what_was_recorded_in_16_bits_and_answers_otherwise_without_its_template(
    assets_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(same_rows, "ROWS", 3)
    spec, folder = same_rows.adapter_of(same_rows.SHIPPED)
    unmerged, merged, bare = (
        exhibits.answered(name, spec, folder) for name in ("unmerged", "bf16", "no-template")
    )
    assert len(unmerged.answers) == 3 and all(unmerged.ended)
    assert same_rows.right(same_rows.rows_of(spec), unmerged) > 0
    assert merged.lost == pytest.approx(recorded()["answers"]["bf16"].lost, abs=2e-3)
    assert bare.answers != unmerged.answers


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
