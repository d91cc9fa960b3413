"""Experts, layers that differ and Falcon: every formula equals the count, or one sentence says why there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.counting.count import CountReport
from peft_lab.models import shapes
from tests.methods.mixtures import CONFIGS, EXPERTS, built, counted, entry_of

__all__ = ["counted"]
pytestmark = pytest.mark.filterwarnings("ignore")
Count = Callable[[str, str, dict[str, Any]], CountReport]
ALL = ("all-linear",)
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "lora": [{}, {"target_modules": ALL}, {"target_modules": ALL, "r": 3, "bias": "all"}],
    "qlora": [{}],
    "ia3": [{}, {"target_modules": ALL}],
    "adapters": [{"placement": placement} for placement in ("houlsby", "pfeiffer", "parallel")],
}
# Where PEFT or the architecture has no place for a method, and the word by which the sentence says so.
REFUSED = {
    ("deepseek_v3", "prefix"): "compressed vector",
    ("qwen3_next", "prefix"): "running state",
    ("falcon", "prefix"): "16 wide",
    ("mamba2", "prefix"): "carries a state",
    ("mamba2", "adapters"): "no feed-forward part",
    ("llama4_text", "lora"): "router",
    ("llama4_text", "ia3"): "router",
    **{(name, "bitfit"): "no biases" for name in ("mixtral", "qwen3_moe", "deepseek_v3", "llama4_text")},
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("slug", all_methods())
def test_formula_equals_count_or_says_why(name: str, slug: str, counted: Count) -> None:
    if name == "mamba2" and slug in ("lora", "qlora"):
        pytest.skip("PEFT refuses Mamba-2's output map; its refusals are tested where they are made")
    spec, shape = get_method(slug), entry_of(name).shape
    checked = 0
    for values in SETTINGS.get(slug, [{}]):
        errors = [problem for problem in spec.problems(shape, values) if problem.level == "error"]
        if errors:
            assert REFUSED[name, slug] in errors[0].message
            with pytest.raises(BadInput):
                counted(name, slug, values)
            continue
        checked += 1
        report, formula = counted(name, slug, values), spec.formula(shape, spec.require(shape, values))
        assert report.trainable == report.formula == formula.trainable, values
        assert report.total == shape.total + formula.added
        assert report.stored_parameters == formula.stored
        assert json.dumps(report.as_dict())
    assert checked or (name, slug) in REFUSED


@pytest.mark.parametrize("name", CONFIGS)
def test_the_stored_form_and_back(name: str) -> None:
    shape = entry_of(name).shape
    assert shapes.from_dict(json.loads(json.dumps(shapes.to_dict(shape)))) == shape


def test_what_is_read_off_a_mixture() -> None:
    (mixture,) = entry_of("deepseek_v3").shape.mixtures
    assert (mixture.experts, mixture.per_token, mixture.layers) == (4, 2, (1, 2))
    assert mixture.router == "model.layers.{}.mlp.gate" and len(mixture.shared) == 3
    assert [
        entry_of(name).shape.mixtures[0].transposed for name in ("mixtral", "gpt_oss", "llama4_text")
    ] == [
        False,
        True,
        True,
    ]
    by_name = {group.path.split(".")[-1]: group for group in entry_of("gpt_oss").shape.bare}
    assert (by_name["gate_up_proj"].in_features, by_name["gate_up_proj"].out_features) == (64, 96)
    assert (by_name["down_proj"].in_features, by_name["down_proj"].out_features) == (48, 64)


def test_old_names_mean_the_stacks_and_count_as_pefts_own_table_says(counted: Count) -> None:
    """``w1`` and ``w3`` of Mixtral are one stack today, whose rank PEFT doubles."""
    r = 4
    stack, down = 4 * (64 + 192), 4 * (96 + 64)
    values = {"r": r, "target_modules": ("w1", "w2", "w3")}
    assert counted("mixtral", "lora", values).trainable == 2 * (2 * r * stack + r * down)
    assert counted("mixtral", "lora", values).formula == 2 * (2 * r * stack + r * down)


@pytest.mark.parametrize("name", EXPERTS)
def test_target_parameters_count_and_learn(name: str, counted: Count) -> None:
    spec, shape = get_method("lora"), entry_of(name).shape
    offered = spec.options(spec.knob("target_parameters"), shape)
    assert [each.split(".")[-1] for each in offered] == ["gate_up_proj", "down_proj"]
    values = spec.require(shape, {"target_modules": (), "target_parameters": offered, "r": 2})
    report = counted(name, "lora", values)
    assert report.trainable == report.formula == sum(term.total for term in spec.formula(shape, values).terms)
    adapted = spec.apply(built(name), shape, values, "CAUSAL_LM")
    ids = torch.randint(0, 128, (2, 9), generator=torch.Generator().manual_seed(0))
    adapted(input_ids=ids, labels=ids).loss.backward()
    second = [p for n, p in adapted.named_parameters() if ".lora_B." in n]
    assert second and all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in second)


@pytest.mark.parametrize(
    ("name", "slug", "values", "field", "says"),
    [
        ("qwen3_moe", "lora", {"target_modules": ("up_proj",)}, "target_modules", "Add gate_proj"),
        ("mixtral", "lora", {"target_modules": ALL, "lora_dropout": 0.1}, "lora_dropout", "without dropout"),
        ("mixtral", "lora", {"target_modules": ALL, "use_dora": True}, "use_dora", "without DoRA"),
        ("deepseek_v3", "lora", {"target_modules": ALL, "init_lora_weights": "pissa"}, "init_lora_weights", "PiSSA"),
        ("mixtral", "lora", {"target_parameters": ("experts.up",)}, "target_parameters", "bare parameter"),
        ("llama4_text", "lora", {"target_modules": ALL}, "target_modules", "returns two things"),
    ],
)  # fmt: skip
def test_what_peft_could_not_build_is_refused_in_a_sentence(
    name: str, slug: str, values: dict[str, Any], field: str, says: str
) -> None:
    errors = [p for p in get_method(slug).problems(entry_of(name).shape, values) if p.level == "error"]
    assert any(problem.field == field and says in problem.message for problem in errors)


@pytest.mark.parametrize(
    ("name", "slug", "values", "says"),
    [
        ("gpt_oss", "lora", {"target_modules": ALL}, "reach the experts"),
        (
            "deepseek_v3",
            "lora",
            {"target_modules": ALL},
            "mlp.gate_proj",
        ),
        ("mixtral", "qlora", {}, "stay"),
        ("falcon", "qlora", {}, "Falcon"),
        ("mixtral", "ia3", {}, "feed-forward vector"),
        ("qwen3_next", "ia3", {}, "the shared expert"),
        ("mixtral", "adapters", {}, "after all"),
        ("mixtral", "adapters", {"placement": "parallel"}, "beside all"),
        ("mamba2", "adapters", {}, "no feed-forward part"),
    ],
)
def test_what_surprises_is_said(name: str, slug: str, values: dict[str, Any], says: str) -> None:
    problems = get_method(slug).problems(entry_of(name).shape, values)
    assert any(says in problem.message and problem.level == "warning" for problem in problems)


def test_q_lora_rounds_neither_experts_nor_falcons_maps() -> None:
    from peft_lab.models.quantise import quantise, quantised

    for name in ("mixtral", "falcon", "llama4_text"):
        model, how = (
            built(name),
            get_method("qlora").quantization(get_method("qlora").defaults(entry_of(name).shape)),
        )
        assert how is not None
        quantise(model, how)
        small = {path for path, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
        assert small == {path for group in quantised(entry_of(name).shape) for path in group.paths}


@pytest.mark.parametrize("name", [*EXPERTS, "falcon", "falcon-new", "falcon-sequential"])
@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer", "parallel"])
def test_adapters_stand_on_every_layer_and_learn(name: str, placement: str) -> None:
    """Two a layer with Houlsby, one else, on a mixture as a whole; named rows keep apart where experts flatten them."""
    spec, shape = get_method("adapters"), entry_of(name).shape
    values = spec.require(shape, {"placement": placement, "bottleneck": 8, "init_std": 0.1})
    places = sum(term.count for term in spec.formula(shape, values).terms)
    assert places == shape.num_layers * (2 if placement == "houlsby" else 1)
    ids = torch.randint(0, 128, (2, 9), generator=torch.Generator().manual_seed(0))
    model = built(name)
    with torch.no_grad():
        plain = model(input_ids=ids).logits
    adapted = spec.apply(model, shape, values, "CAUSAL_LM").eval()
    adapted(input_ids=ids, labels=ids).loss.backward()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == spec.formula(shape, values).trainable
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in trained)
    with torch.no_grad():
        all_rows = adapted(input_ids=ids).logits
        spec.set_active(adapted, ("default", None))  # type: ignore[attr-defined]
        mixed = adapted(input_ids=ids).logits
    assert float((all_rows - plain).abs().max()) > 1e-4
    torch.testing.assert_close(mixed[0], all_rows[0])
    torch.testing.assert_close(mixed[1], plain[1])


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "llama4_text"])
def test_memory_is_simulated_with_stacks_adapted_and_without(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real steps of such models have these peaks: tests/engine/test_real_steps.py."""
    from peft_lab.engine.request import StepRequest, StepSetting
    from peft_lab.engine.simulate import simulate
    from peft_lab.models import catalogue as models

    monkeypatch.setattr(models, "resolve", entry_of)
    attention = {"target_modules": ("q_proj",)}
    alone, stacks = (
        simulate(StepRequest(name, "lora", values, StepSetting(batch=2, seq=16)))
        for values in (attention, {**attention, "target_parameters": ("experts.down_proj",)})
    )
    assert stacks.parts["adapter"] > alone.parts["adapter"] > 0
    assert stacks.peak_bytes > alone.peak_bytes


def test_mixtral_8x7b_counts_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """46,702,792,704 parameters; A and B for each of 8 experts by the names of the paper's every linear map."""
    from dataclasses import replace

    from peft_lab.methods.counting import count as counting
    from peft_lab.models import meta

    values = CONFIGS["mixtral"] | {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
    }  # fmt: skip
    config = meta.make_config(values)
    shape = meta.read_shape(meta.build(config, "causal-lm"), config, "causal-lm", "mixtral", "Mixtral")
    assert shape.total == 46_702_792_704
    monkeypatch.setattr(
        counting, "resolve", lambda _: replace(entry_of("mixtral"), config=values, shape=shape)
    )
    attention = 32 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024))
    experts = 32 * 8 * (32 * (4096 + 28672) + 16 * (14336 + 4096))
    report = counting.count("mixtral", "qlora", {})
    assert report.trainable == report.formula == attention + experts + 32 * 16 * (4096 + 8) == 359_665_664
