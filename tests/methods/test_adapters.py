"""Our bottleneck adapters against the papers: a reference forward pass, switching, caching, several heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.shared import bottleneck, peft_backed
from tests.methods import tiny
from tests.prose import facts

_found = get_method("adapters")
assert isinstance(_found, Adapters)
SPEC = _found
PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
# A start that is felt, so that a misplaced adapter shows.
LOUD = {"bottleneck": 8, "init_std": 0.5}


def apply(name: str, head: bool = False, **values: Any) -> Any:
    return tiny.apply(SPEC, name, {**LOUD, **values}, head)


# -- counts published with the adapters library ---------------------------------------------------------------------


def test_a_parallel_adapter_reads_the_first_map_of_its_own_feed_forward_part() -> None:
    """The nearest one of the same layers, whatever else stands between; its width is its own."""
    shape = tiny.shape_of("llama")
    by_name = {group.path.rpartition(".")[2]: group for group in shape.groups}
    up, down = by_name["up_proj"], by_name["down_proj"]
    wide = replace(up, parameters={"weight": (48, 40)})
    groups = (wide, replace(up, layers=(7,)), by_name["input_layernorm"], down)
    odd = replace(shape, groups=groups)
    values = SPEC.complete(shape, {"placement": "parallel", "bottleneck": 8})
    assert SPEC.hosts(odd, values) == [(down, wide)]
    (term,) = SPEC.formula(odd, values).terms
    assert (term.each, term.expression) == (8 * (40 + 32) + 32 + 8, r"8 \cdot (40 + 32) + 32 + 8")
    (plain,) = SPEC.formula(shape, values).terms
    assert (plain.each, plain.expression) == (2 * 8 * 32 + 32 + 8, r"2 \cdot 8 \cdot 32 + 32 + 8")


@pytest.mark.parametrize("role", ["o", "down"])
@pytest.mark.parametrize("without", [0, 1, 2])
def test_layers_without_a_place_are_told(role: str, without: int) -> None:
    shape = tiny.shape_of("llama")
    groups = tuple(
        replace(group, layers=group.layers[without:]) if group.role == role else group
        for group in shape.groups
    )
    place = {"o": "attention", "down": "feed-forward part"}[role]
    told = f"{without} of the 2 layers of Llama have no {place} that PEFT Lab recognises, and get "
    for placement, got in (("houlsby", "one adapter, not two."), ("pfeiffer", "no adapter.")):
        values = {"placement": placement, "bottleneck": 8}
        found = [problem.message for problem in SPEC.problems(replace(shape, groups=groups), values)]
        counts = without and (placement == "houlsby" or role == "down")
        if counts and len(found) == 1 and found[0].endswith("adapters have no place."):
            assert without == 2 and placement == "pfeiffer", "nothing is left to adapt"
            continue
        assert found == ([told + got] if counts else [])


# -- forward pass, by hand ------------------------------------------------------------------------------------------


class Reference:
    """A BERT layer computed step by step, with adapters where the papers put them."""

    def __init__(self, model: Any, placement: str, nonlinearity: str, scale: float) -> None:
        self.weights = dict(model.named_parameters())
        self.placement, self.scale = placement, scale
        functions: dict[str, Callable[[Any], Any]] = {
            "relu": lambda x: x.clamp(min=0),
            "gelu": lambda x: 0.5 * x * (1 + (x / math.sqrt(2)).erf()),
            "silu": lambda x: x * x.sigmoid(),
            "tanh": lambda x: x.tanh(),
        }
        self.f = functions[nonlinearity]

    def linear(self, path: str, x: Any) -> Any:
        bias = self.weights.get(f"{path}.bias")
        return x @ self.weights[f"{path}.weight"].T + (0 if bias is None else bias)

    def bottleneck(self, host: str, x: Any) -> Any:
        inside = f"{host}.bottleneck.adapters.default"
        return self.linear(f"{inside}.up", self.f(self.linear(f"{inside}.down", x)))

    def after_attention(self, host: str, x: Any) -> Any:
        return x + self.bottleneck(host, x) if self.placement == "houlsby" else x

    def after_ffn(self, host: str, x: Any, ffn_input: Any) -> Any:
        """Houlsby and Pfeiffer read the feed-forward part's output, the parallel adapter its input (He et al.)."""
        if self.placement == "parallel":
            return x + self.scale * self.bottleneck(host, ffn_input)
        return x + self.bottleneck(host, x)

    def attention(self, q: Any, k: Any, v: Any, heads: int, mask: Any) -> Any:
        batch, length, _ = q.shape
        q, k, v = (
            t.view(batch, length, -1, t.shape[-1] // n).transpose(1, 2)
            for t, n in ((q, heads), *((t, heads) for t in (k, v)))
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1)

    def layer_norm(self, path: str, x: Any, eps: float) -> Any:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * self.weights[f"{path}.weight"] + self.weights[f"{path}.bias"]

    def bert_layer(self, path: str, x: Any, heads: int, mask: Any, eps: float) -> Any:
        q, k, v = (self.linear(f"{path}.attention.self.{name}", x) for name in ("query", "key", "value"))
        host = f"{path}.attention.output.dense"
        mixed = self.after_attention(host, self.linear(host, self.attention(q, k, v, heads, mask)))
        x = self.layer_norm(f"{path}.attention.output.LayerNorm", x + mixed, eps)
        wide = self.linear(f"{path}.intermediate.dense", x)
        wide = 0.5 * wide * (1 + (wide / math.sqrt(2)).erf())
        host = f"{path}.output.dense"
        out = self.after_ffn(host, self.linear(host, wide), x)
        return self.layer_norm(f"{path}.output.LayerNorm", x + out, eps)


@pytest.mark.parametrize("nonlinearity", bottleneck.NONLINEARITIES)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_bert_equals_the_reference(placement: str, nonlinearity: str) -> None:
    model = apply("bert", placement=placement, nonlinearity=nonlinearity, scale=3.0)
    rows = tiny.batch("bert")
    with torch.no_grad():
        got = model(**rows, output_hidden_states=True).hidden_states
        reference = Reference(model, placement, nonlinearity, 3.0)
        x = got[0]
        mask = torch.where(rows["attention_mask"][:, None, None, :] == 0, -torch.inf, 0.0)
        for layer in range(2):
            x = reference.bert_layer(f"encoder.layer.{layer}", x, 4, mask, model.config.layer_norm_eps)
    torch.testing.assert_close(got[-1], x, rtol=0, atol=1e-5)
    base = tiny.outputs(tiny.build("bert"), rows)
    assert (got[-1] - base).abs().max() > 1e-2, "the adapters do nothing"


# -- several on one model -------------------------------------------------------------------------------------------


def three(name: str = "llama") -> tuple[Any, dict[str, Any]]:
    """A model with three adapters of different shapes, and what each gives alone."""
    model = apply(name, placement="houlsby")
    shape, task = tiny.shape_of(name), tiny.task_of(name)
    for label, values in (
        ("second", {"placement": "parallel"}),
        ("third", {"bottleneck": 3, "placement": "pfeiffer"}),
    ):
        torch.manual_seed(len(label))
        SPEC.add(model, shape, SPEC.require(shape, {**LOUD, **values}), task, label)
    alone = {}
    for label in SPEC.names(model):
        SPEC.set_active(model, label)
        alone[label] = tiny.outputs(model, tiny.batch(name))
    return model, alone


def test_switching_gives_each_ones_outputs() -> None:
    model, alone = three()
    assert SPEC.names(model) == ("default", "second", "third")
    differences = [(alone[a] - alone[b]).abs().max() for a, b in (("default", "second"), ("second", "third"))]
    assert min(differences) > 1e-2
    SPEC.set_active(model, None)
    torch.testing.assert_close(
        tiny.outputs(model, tiny.batch("llama")), tiny.outputs(tiny.build("llama"), tiny.batch("llama"))
    )


def test_a_mixed_batch_gives_every_row_its_adapter() -> None:
    model, alone = three()
    base = tiny.outputs(tiny.build("llama"), tiny.batch("llama"))
    SPEC.set_active(model, ["third", None, "second"])
    mixed = tiny.outputs(model, tiny.batch("llama"))
    torch.testing.assert_close(
        mixed, torch.stack([alone["third"][0], base[1], alone["second"][2]]), rtol=0, atol=1e-5
    )


def test_three_saved_and_loaded_side_by_side(tmp_path: Path) -> None:
    model, alone = three("bert")
    for label in alone:
        SPEC.save(model, tmp_path / label, label)
    served = tiny.build("bert")
    for label in alone:
        SPEC.load(served, tmp_path / label, label)
    for label, expected in alone.items():
        SPEC.set_active(served, label)
        torch.testing.assert_close(tiny.outputs(served, tiny.batch("bert")), expected, rtol=0, atol=1e-6)


def test_removed_leaves_the_base() -> None:
    model, _ = three()
    SPEC.remove(model)
    base = tiny.build("llama")
    assert [n for n, _ in model.named_modules()] == [n for n, _ in base.named_modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    torch.testing.assert_close(
        tiny.outputs(model, tiny.batch("llama")), tiny.outputs(base, tiny.batch("llama"))
    )


def test_inputs_are_noted_for_parallel_adapters_alone_and_once() -> None:
    model, shape = apply("llama", placement="houlsby"), tiny.shape_of("llama")
    noted: list[int] = []
    for label in ("second", "third"):
        noted.append(sum(len(module._forward_pre_hooks) for module in model.modules()))
        SPEC.add(model, shape, SPEC.require(shape, {**LOUD, "placement": "parallel"}), "CAUSAL_LM", label)
    noted.append(sum(len(module._forward_pre_hooks) for module in model.modules()))
    assert noted == [0, 2, 2], "one for each of the two layers"


def test_names_that_are_taken_or_unknown() -> None:
    model = apply("llama")
    shape = tiny.shape_of("llama")
    with pytest.raises(BadInput, match="taken"):
        SPEC.add(model, shape, SPEC.require(shape, {}), "CAUSAL_LM", "default")
    with pytest.raises(BadInput, match=r"no adapter 'movies'.*default"):
        SPEC.set_active(model, "movies")


def test_another_methods_folder_is_refused(tmp_path: Path) -> None:
    bitfit = get_method("bitfit")
    bitfit.save(tiny.apply(bitfit, "bert", {}), tmp_path)
    with pytest.raises(BadInput, match="BITFIT"):
        SPEC.load(tiny.build("bert"), tmp_path)
    with pytest.raises(BadInput, match=r"no adapter_config\.json"):
        SPEC.load(tiny.build("bert"), tmp_path / "nothing")


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    SPEC.save(apply("llama"), tmp_path)
    first = r"is for another model: this model has no 'model\.layers\.0\.self_attn\.o_proj'"
    with pytest.raises(BadInput, match=first):
        SPEC.load(tiny.build("bert"), tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace('"bottleneck": 8', '"bottleneck": 9'))
    with pytest.raises(BadInput, match=facts(8, 9)):
        SPEC.load(tiny.build("llama"), tmp_path)


# -- the model stays a transformers model -----------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", tiny.DECODERS)
def test_generating_with_a_cache_equals_without(name: str, placement: str) -> None:
    model = apply(name, placement=placement, init_std=0.1)
    ids = tiny.batch(name)["input_ids"]
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": 49}
    with_cache = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    without = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **options)
    assert torch.equal(with_cache, without)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("first", ["adapters", "checkpointing"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_checkpointing_gives_the_same_gradients(placement: str, first: str, reentrant: bool) -> None:
    def gradients(checkpointing: bool) -> list[Any]:
        model = tiny.build("llama")
        kwargs = {"gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}
        if checkpointing and first == "checkpointing":
            model.gradient_checkpointing_enable(**kwargs)
        torch.manual_seed(3)
        shape = tiny.shape_of("llama")
        SPEC.apply(model, shape, SPEC.require(shape, {**LOUD, "placement": placement}), "CAUSAL_LM")
        if checkpointing and first == "adapters":
            model.gradient_checkpointing_enable(**kwargs)
            model.enable_input_require_grads()
        model.train()
        tiny.loss(model, tiny.batch("llama")).backward()
        return [p.grad for p in model.parameters() if p.requires_grad]

    torch.testing.assert_close(gradients(True), gradients(False))


NAMES = ("movies", "products")


def trained(name: str, seed: int) -> Any:
    """A classifier whose adapter and head have values of their own."""
    model = tiny.apply(SPEC, name, {"bottleneck": 4, "init_std": 0.5}, head=True)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture(params=["bert", "roberta"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any, dict[str, Any]]:
    """The architecture, a base with two adapters loaded, and what each gave on the model it was trained on."""
    architecture, alone = request.param, {}
    base = tiny.build(architecture, head=True)
    for seed, name in enumerate(NAMES):
        model = trained(architecture, seed)
        alone[name] = tiny.outputs(model, tiny.batch(architecture, head=True))
        SPEC.save(model, tmp_path / name)
        SPEC.load(base, tmp_path / name, name)
    return architecture, base, alone


def test_each_answers_as_where_it_was_trained(served: tuple[str, Any, dict[str, Any]]) -> None:
    architecture, base, alone = served
    assert (alone["movies"] - alone["products"]).abs().max() > 1e-2
    for name in (*NAMES, *NAMES):
        SPEC.set_active(base, name)
        torch.testing.assert_close(
            tiny.outputs(base, tiny.batch(architecture, head=True)), alone[name], rtol=0, atol=1e-6
        )


def test_a_mixed_batch_goes_through_both_heads(served: tuple[str, Any, dict[str, Any]]) -> None:
    architecture, base, alone = served
    rows = tiny.batch(architecture, head=True)
    SPEC.set_active(base, ["products", None, "movies"])
    mixed = tiny.outputs(base, rows)
    bare = tiny.outputs(tiny.build(architecture, head=True), rows)
    wanted = torch.stack([alone["products"][0], bare[1], alone["movies"][2]])
    torch.testing.assert_close(mixed, wanted, rtol=0, atol=1e-6)
    SPEC.set_active(base, None)
    torch.testing.assert_close(tiny.outputs(base, rows), bare, rtol=0, atol=1e-6)


def test_a_loaded_head_is_saved_again(served: tuple[str, Any, dict[str, Any]], tmp_path: Path) -> None:
    architecture, base, alone = served
    for name in NAMES:
        SPEC.save(base, tmp_path / "again" / name, name)
        fresh = SPEC.load(tiny.build(architecture, head=True), tmp_path / "again" / name)
        got = tiny.outputs(fresh, tiny.batch(architecture, head=True))
        torch.testing.assert_close(got, alone[name], rtol=0, atol=1e-6)


def test_removed_heads_leave_the_base(served: tuple[str, Any, dict[str, Any]]) -> None:
    architecture, base, _ = served
    SPEC.remove(base)
    plain = tiny.build(architecture, head=True)
    assert [name for name, _ in base.named_modules()] == [name for name, _ in plain.named_modules()]
    assert not any(module._forward_hooks for module in base.modules())
    rows = tiny.batch(architecture, head=True)
    torch.testing.assert_close(tiny.outputs(base, rows), tiny.outputs(plain, rows))


def test_a_head_of_another_size_is_refused() -> None:
    base = tiny.build("bert", head=True)
    with pytest.raises(BadInput, match=r"classifier\.weight"):
        peft_backed.add_head(base, "movies", {"classifier.weight": torch.zeros(5, 32)})
