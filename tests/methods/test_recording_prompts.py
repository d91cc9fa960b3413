"""What runs of prompt methods note: attention on trained keys, virtual tokens beside the vocabulary."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from peft_lab.methods import get_method, recording
from peft_lab.methods.recording import trained_tokens as attention
from peft_lab.methods.recording.trained_tokens import prefix_of
from tests.methods import tiny

FOUR = {"num_virtual_tokens": 4}
DEEP = [("llama", "prefix", {}), ("gpt2", "prefix", {"prefix_projection": True, "encoder_hidden_size": 12}),
        ("llama", "ptuning", {"version": "v2"}), ("bert", "ptuning", {"version": "v2"}),
        ("roberta", "ptuning", {"version": "v2"})]  # fmt: skip


def adapted(slug: str, name: str, **values: Any) -> Any:
    """A model whose virtual tokens differ from one another."""
    full = {**FOUR, "init_weights": "random"} if slug != "prompt" else FOUR
    model = tiny.apply(get_method(slug), name, {**full, **values}, head=tiny.kind_of(name) == "encoder")
    torch.manual_seed(5)
    return model.eval()


def inputs_of(name: str) -> dict[str, Any]:
    rows = tiny.batch(name)
    return {key: rows[key] for key in ("input_ids", "attention_mask")}


def recorder_of(slug: str, name: str, model: Any, **values: Any) -> recording.Recorder:
    spec, shape = get_method(slug), tiny.shape_of(name)
    return recording.start(spec, model, shape, spec.require(shape, {**FOUR, **values}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "slug", "values"), DEEP, ids=lambda part: str(part)[:20])
def test_shares_are_of_real_tokens_and_change_nothing(name: str, slug: str, values: dict[str, Any]) -> None:
    model, inputs = adapted(slug, name, **values), inputs_of(name)
    before = tiny.outputs(model, inputs)
    found = attention.shares(model, inputs, 4)
    assert len(found) == 2 and all(len(layer) == 4 for layer in found)
    assert all(0 < share < 1 for layer in found for share in layer)
    # What stands in the padding does not count.
    other = {**inputs, "input_ids": inputs["input_ids"].clone()}
    other["input_ids"][inputs["attention_mask"] == 0] = 7
    torch.testing.assert_close(
        torch.tensor(attention.shares(model, other, 4)), torch.tensor(found), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(tiny.outputs(model, inputs), before, atol=0, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_deep_prompts_of_zeros_get_an_even_share_of_flat_attention() -> None:
    """With queries of zero every key gets the same: the share is then that of spreading evenly."""
    model, inputs = adapted("ptuning", "bert", version="v2"), inputs_of("bert")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".query." in name:
                parameter.zero_()
    even = attention.even_share(inputs["attention_mask"], 4, causal=False)
    found = torch.tensor(attention.shares(model, inputs, 4))
    torch.testing.assert_close(found, torch.full_like(found, even), atol=1e-6, rtol=0)
    mask = torch.tensor([[1, 1, 0]])
    assert attention.even_share(mask, 4, causal=False) == pytest.approx(4 / 6)
    assert attention.even_share(mask, 4, causal=True) == pytest.approx((4 / 5 + 4 / 6) / 2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "slug", "values"), DEEP, ids=lambda part: str(part)[:20])
def test_each_snapshot_is_measured_and_the_trained_prefix_stays(
    name: str, slug: str, values: dict[str, Any]
) -> None:
    model, inputs = adapted(slug, name, **values), inputs_of(name)
    recorder = recorder_of(slug, name, model, **values)
    recorder.snapshot(0)
    at_start = attention.shares(model, inputs, 4)
    for _ in range(3):
        tiny.train_step(model, tiny.batch(name, head=tiny.kind_of(name) == "encoder"), lr=1.0)
    recorder.snapshot(3)
    trained, at_end = prefix_of(model), attention.shares(model, inputs, 4)
    found = recorder.finish(inputs, lambda: tiny.build(name))
    assert [shot["step"] for shot in found["attention"]] == [0, 3]
    torch.testing.assert_close(
        torch.tensor(found["attention"][0]["share"]), torch.tensor(at_start), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        torch.tensor(found["attention"][1]["share"]), torch.tensor(at_end), atol=1e-6, rtol=0
    )
    assert at_start != at_end
    assert all(torch.equal(now, trained[key]) for key, now in prefix_of(model).items())
    assert found["attention"][1]["apart"] > 0.1
    assert found["latency"]["unit"] == ("pass" if tiny.kind_of(name) == "encoder" else "token")
    for which, rounds in found["latency"]["rounds"].items():
        assert rounds == sorted(rounds) and rounds[0] <= found["latency"][which] <= rounds[-1]
        assert found["latency"][which] > 0


@pytest.mark.filterwarnings("ignore")
def test_a_prefix_of_zeros_stays_as_one_token() -> None:
    """All virtual tokens start alike and get the same gradient: twenty are no more than one."""
    model = adapted("prefix", "llama", init_weights="zero")
    recorder = recorder_of("prefix", "llama", model)
    for _ in range(3):
        tiny.train_step(model, tiny.batch("llama"), lr=1.0)
    recorder.snapshot(3)
    (shot,) = recorder.finish(inputs_of("llama"), lambda: tiny.build("llama"))["attention"]
    assert shot["size"] > 1e-3
    assert shot["apart"] == pytest.approx(0, abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_reading_the_encoder_draws_no_random_number() -> None:
    """A snapshot that drew one would change the training that follows."""
    model = adapted(
        "ptuning", "bert", encoder_reparameterization_type="LSTM", encoder_dropout=0.5, encoder_hidden_size=8
    )
    model.train()
    torch.manual_seed(1)
    attention.made_tokens(model)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert model.prompt_encoder["default"].training


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slug", ["prompt", "ptuning"])
def test_virtual_tokens_that_start_as_words_are_nearest_to_them(slug: str, assets_home: Any) -> None:
    from peft_lab.models.loading import load_base

    base = load_base("minilm-l6", dtype=torch.float32)
    spec, shape = get_method(slug), base.entry.shape
    values = {"num_virtual_tokens": 6}
    if slug == "prompt":
        values |= {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "a good film"}  # type: ignore[dict-item]
    full = spec.require(shape, values)
    model = spec.apply(base.model, shape, full, "FEATURE_EXTRACTION")
    recorder = recording.start(spec, model, shape, full)
    recorder.snapshot(0)
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.mul_(2)  # type: ignore[index, union-attr]
    recorder.snapshot(1)
    first, second = recorder.finish({}, lambda: base.model)["soft_tokens"]
    assert first["moved"] == [0.0] * 6
    assert all(moved > 0 for moved in second["moved"])
    if slug == "prompt":
        assert [row[0][0] for row in first["nearest"]] == ["[CLS]", "a", "good", "film", "[SEP]", "[CLS]"]
        assert second["moved"] == pytest.approx(first["norm"], rel=1e-4)
