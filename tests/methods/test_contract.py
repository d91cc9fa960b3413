"""The contract of every method on every kind of model: it works and is counted right, or refuses with its own reason.

New methods are covered by being registered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import Formula, Knob, MethodSpec
from peft_lab.methods.shared import peft_backed
from peft_lab.models.meta import clean_path
from peft_lab.models.shapes import in_head
from tests.methods import tiny

pytestmark = pytest.mark.filterwarnings("ignore")

METHODS = tuple(all_methods())
# What gives the base's outputs before the first step (method, knobs), and how far off it may be. PiSSA takes its start
# out of W and puts it back by way of a product, which rounds.
STARTS_AS_BASE: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("full", {}, 0.0),
    ("lora", {}, 0.0),
    ("lora", {"init_lora_weights": "gaussian"}, 0.0),
    ("lora", {"use_rslora": True, "bias": "all"}, 0.0),
    ("lora", {"use_dora": True}, 1e-5),
    ("lora", {"init_lora_weights": "pissa", "r": 4}, 1e-5),
    ("ia3", {}, 0.0),
    ("bitfit", {}, 0.0),
    ("adapters", {}, 1e-3),
    ("adapters", {"placement": "pfeiffer"}, 1e-3),
    ("adapters", {"placement": "parallel"}, 4e-3),  # scaled by 4
)
SMALL = {"num_virtual_tokens": 4, "encoder_hidden_size": 12, "bottleneck": 8}


def small(spec: MethodSpec) -> dict[str, Any]:
    """Settings that fit a model of width 32; everything else at its default."""
    return {knob.name: SMALL[knob.name] for knob in spec.knobs if knob.name in SMALL}


def refusal(spec: MethodSpec, name: str, values: dict[str, Any]) -> str | None:
    errors = [problem for problem in spec.problems(tiny.shape_of(name), values) if problem.level == "error"]
    return errors[0].message if errors else None


def totals(formula: Formula) -> dict[str, int]:
    """The formula's parameters by module; modules of different ranks have a term each."""
    found: Counter[str] = Counter()
    for term in formula.terms:
        found[term.module] += term.total
    return dict(found)


def by_term(trained: Mapping[str, int], formula: Formula) -> dict[str, int]:
    """The sizes of trained parameters added up by the module of the term that is about them, the longest that fits."""
    patterns = {
        module: re.compile(rf"(^|\.){re.escape(module).replace(re.escape('{}'), '[0-9]+')}(\.|$)")
        for module in totals(formula)
    }
    found: Counter[str] = Counter()
    for name, size in trained.items():
        path = re.sub(r"lstm_head\.\w+_l(\d+)(_reverse)?$", r"lstm_head (layer \1)", clean_path(name))
        fitting = [module for module, pattern in patterns.items() if pattern.search(path)]
        found[max(fitting, key=len, default=path)] += size
    return dict(found)


def check_contract(spec: MethodSpec, name: str, head: int, values: dict[str, Any]) -> None:
    shape = tiny.shape_of(name)
    reason = refusal(spec, name, values)
    if reason is not None:
        with pytest.raises(BadInput) as caught:
            spec.require(shape, values)
        assert str(caught.value) == reason
        assert reason.endswith((".", "?", ")")), reason
        return
    full = spec.require(shape, values)
    rows = tiny.batch(name, head)
    model = tiny.apply(spec, name, values, head)

    # Counts: the model's own, the formula's, and what is stored.
    formula = spec.formula(tiny.shape_under_head(name, head) if head else shape, full)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    own = {n: p.numel() for n, p in trained.items() if not (head and in_head(n))}
    assert sum(own.values()) == formula.trainable
    assert by_term(own, formula) == totals(formula), "every row of the formula is what is trained there"
    assert spec.low_rank == any(".lora_A." in n for n in own)
    stored = spec.state(model)
    assert sum(t.numel() for n, t in stored.items() if not (head and in_head(n))) == formula.stored
    assert any(in_head(n) for n in stored) == bool(head)

    # One step moves what is trained, and nothing else.
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    tiny.train_step(model, rows)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved, "nothing learned"
    assert moved <= set(trained)

    # Saved and loaded onto a fresh base, the outputs are the same.
    tuned = tiny.outputs(model, rows)
    with TemporaryDirectory() as folder:
        spec.save(model, Path(folder))
        files = {path.name for path in Path(folder).iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors"} <= files
        assert not any(path.suffix in (".bin", ".pt", ".pkl") for path in Path(folder).iterdir())
        loaded = spec.load(tiny.build(name, head), Path(folder)).eval()
    torch.testing.assert_close(tiny.outputs(loaded, rows), tuned, rtol=0, atol=1e-5)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("name", "head"), tiny.CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("slug", METHODS)
def test_defaults_work_or_are_refused(slug: str, name: str, head: int) -> None:
    spec = get_method(slug)
    check_contract(spec, name, head, small(spec))


CHOICES = [
    (slug, knob.name, choice)
    for slug, spec in all_methods().items()
    for knob in spec.knobs
    for choice in knob.choices or ((True, False) if knob.kind == "bool" else ())
    if choice not in ("TEXT", "text")  # these need a tokenizer: test_text_start.py
]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
@pytest.mark.parametrize(("slug", "knob", "choice"), CHOICES, ids=str)
def test_every_choice_works_or_is_refused(slug: str, knob: str, choice: Any, name: str) -> None:
    spec = get_method(slug)
    check_contract(spec, name, False, {**small(spec), knob: choice})


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("name", "head"), tiny.CASES, ids=lambda value: str(value))
@pytest.mark.parametrize(("slug", "values", "off"), STARTS_AS_BASE, ids=str)
def test_starts_as_the_base(slug: str, values: dict[str, Any], off: float, name: str, head: int) -> None:
    spec = get_method(slug)
    values = small(spec) | values
    if refusal(spec, name, values):
        pytest.skip("refused")
    rows = tiny.batch(name, head)
    start = tiny.outputs(tiny.apply(spec, name, values, head), rows)
    base = tiny.outputs(tiny.build(name, head), rows)
    torch.testing.assert_close(start, base, rtol=0, atol=off)


MERGED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lora", {}),
    ("lora", {"use_rslora": True, "r": 16}),
    ("lora", {"use_dora": True}),
    ("lora", {"target_modules": ("all-linear",)}),
    ("ia3", {}),
)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("slug", "values"), MERGED, ids=str)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_merged_is_unmerged_within_the_types_precision(
    name: str, slug: str, values: dict[str, Any], dtype: str
) -> None:
    """After some steps. A merge rounds every entry of W once and each output adds up a row of them."""
    spec = get_method(slug)
    rows = tiny.batch(name, False)
    model: Any = tiny.apply(spec, name, small(spec) | values, False)
    for _ in range(3):
        tiny.train_step(model, rows)
    model = model.to(getattr(torch, dtype)).eval()
    apart = tiny.outputs(model, rows).float()
    merged = tiny.outputs(model.merge_and_unload(), rows).float()
    base = tiny.outputs(tiny.build(name, False).to(getattr(torch, dtype)), rows).float()
    assert not torch.equal(apart, base), "the adapter does something"
    off = float((merged - apart).abs().max() / apart.abs().max())
    assert off < {"float32": 1e-6, "bfloat16": 2e-2}[dtype], "a few of the type's steps (1.2e-7, 7.8e-3)"


def values_of(knob: Knob, name: str) -> st.SearchStrategy[Any]:
    """Values in range, small enough for a tiny model; now and then one just outside."""
    if knob.kind == "bool":
        return st.booleans()
    if knob.kind == "choice":
        return st.sampled_from(knob.choices)
    if knob.kind == "int":
        assert knob.min is not None and knob.max is not None
        high = min(int(knob.max), 12)
        return st.integers(int(knob.min) - 1, high) | st.sampled_from([high, int(knob.max) + 1])
    if knob.kind == "float":
        assert knob.min is not None and knob.max is not None
        return st.floats(knob.min, min(knob.max, 4.0), allow_nan=False)
    if knob.kind == "modules":
        known = st.lists(
            st.sampled_from(tiny.shape_of(name).target_names), min_size=0, max_size=4, unique=True
        )
        return (
            known
            | st.just(["all-linear"])
            | st.just(["nonsense"])
            | known.map(lambda names: [*names, "q_prj"])
        )
    if knob.name == "rank_pattern":
        return rank_patterns(name)
    return st.text(max_size=20)


def rank_patterns(name: str) -> st.SearchStrategy[str]:
    """Rules that mostly fit: names of modules, layers and ranges of layers, each with a rank."""
    places = st.sampled_from([*tiny.shape_of(name).target_names, "0", "1", "0-1", "1-7", "9", "1-0", "q_prj"])
    rules = st.tuples(places, st.integers(0, 6)).map(lambda rule: f"{rule[0]}={rule[1]}")
    return st.lists(rules, max_size=3).map(", ".join) | st.text(max_size=20)


@st.composite
def choices(draw: st.DrawFn, slug: str) -> tuple[str, int, dict[str, Any]]:
    """A model and some of the method's knobs."""
    name, head = draw(st.sampled_from(tiny.CASES))
    spec = get_method(slug)
    values = small(spec)
    for knob in spec.knobs:
        # A text to start from needs a tokenizer, which these models lack; tested with the real weights.
        if draw(st.booleans()) and knob.name not in ("prompt_tuning_init_text", "init_text"):
            values[knob.name] = draw(
                values_of(knob, name).filter(lambda value: value not in ("TEXT", "text"))
            )
    return name, head, values


@pytest.mark.parametrize("slug", METHODS)
@given(data=st.data())
def test_any_knobs_work_or_are_refused(slug: str, data: st.DataObject) -> None:
    name, head, values = data.draw(choices(slug))
    check_contract(get_method(slug), name, head, values)


@pytest.mark.parametrize("slug", METHODS)
@given(data=st.data())
def test_checks_never_fail_themselves(slug: str, data: st.DataObject) -> None:
    """Whatever a control, an address or a file holds, the answer is a list of problems."""
    spec = get_method(slug)
    anything = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.lists(st.text(max_size=5))
    )
    values = {knob.name: data.draw(anything) for knob in spec.knobs if data.draw(st.booleans())}
    name = data.draw(st.sampled_from(tiny.MODELS))
    for problem in spec.problems(tiny.shape_of(name), values):
        assert problem.message
    if not any(problem.level == "error" for problem in spec.problems(tiny.shape_of(name), values)):
        full = spec.require(tiny.shape_of(name), values)
        assert spec.formula(tiny.shape_of(name), full).trainable > 0
        assert spec.parts(tiny.shape_of(name), full)


@pytest.mark.parametrize("slug", METHODS)
def test_every_method_explains_itself(slug: str) -> None:
    spec = get_method(slug)
    assert spec.title and spec.summary.endswith(".")
    assert spec.paper.url.startswith("https://arxiv.org/abs/")
    assert spec.paper.year == 2000 + int(spec.paper.arxiv[:2]), "the year of the preprint that is cited"
    for kind in ("causal-lm", "encoder", "seq2seq"):
        assert (kind in spec.learning_rates) != (kind in spec.refuses)
    shape = tiny.shape_of("gpt2")
    assert spec.adds == (spec.formula(shape, spec.require(shape, small(spec))).added > 0)
    assert spec.adds or not spec.mergeable
    for knob in spec.knobs:
        assert knob.help and knob.label and knob.usual and knob.paper
        assert not (knob.kind in ("int", "float") and (knob.min is None or knob.max is None))
        assert list(knob.stops) == sorted(set(knob.stops))
        assert not knob.choices or knob.default in knob.choices
        defaults = spec.defaults(tiny.shape_of("gpt2"))
        assert knob.check(defaults[knob.name]) == defaults[knob.name]


@pytest.mark.parametrize("slug", METHODS)
@pytest.mark.parametrize("name", tiny.MODELS)
def test_parts_sit_on_places_that_exist(slug: str, name: str) -> None:
    spec, shape = get_method(slug), tiny.shape_of(name)
    if refusal(spec, name, small(spec)):
        pytest.skip("refused")
    places = {group.path for group in shape.groups} | {"tokens", "attention", "ffn"}
    parts = spec.parts(shape, spec.require(shape, small(spec)))
    assert parts
    assert {part.at for part in parts} <= places


@pytest.mark.parametrize("slug", [each.slug for each in all_methods().values() if each.slug != "bitfit"])
def test_an_adapter_with_a_tensor_turned_round(slug: str, tmp_path: Path) -> None:
    method = get_method(slug)
    method.save(tiny.apply(method, "llama", {}), tmp_path)
    try:
        name, before, after = tiny.turned_round(tmp_path / peft_backed.WEIGHTS_FILE)
    except StopIteration:
        pytest.skip("all its tensors are vectors or square")
    with pytest.raises(BadInput) as caught:
        method.load(tiny.build("llama"), tmp_path)
    told = str(caught.value)
    assert f"'{name}'" in told.replace(".default", "")  # PEFT puts the adapter's name in
    for shape in (before, after):
        assert " × ".join(map(str, shape)) in told
    assert "\n" not in told and caught.value.field == "adapter"
