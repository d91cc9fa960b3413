"""The adapters library's own placements answer as that library does: its answers are stored, with their script."""

from __future__ import annotations

import json
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.shared import bottleneck
from peft_lab.models import meta
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelShape
from tests.models.assets import adapters_library as made
from tests.prose import facts

METHOD = get_method("adapters")
assert isinstance(METHOD, Adapters)
SPEC: Adapters = METHOD
STORED: dict[str, Any] = json.loads(made.FILE.read_text("utf-8"))
FOUND: dict[str, dict[str, Any]] = STORED["found"]
#: The last digits of float64. T5 takes its softmax in float32, so that two releases differ by more without adapters.
CLOSE = dict.fromkeys(made.MODELS, 1e-12) | {"t5": 1e-7}
CASES = [(model, placement) for model in made.MODELS for placement in made.PLACEMENTS]


def built(model_type: str) -> tuple[Any, ModelShape, Any]:
    """The model with the numbers of the script, its shape, and the kind of task."""
    kind, config = made.MODELS[model_type]
    model = made.build(model_type, kind, config)
    made.fill(model, keep="nothing")
    shape = meta.read_shape(model, model.config, kind, model_type, model_type)  # type: ignore[arg-type]
    return model, shape, {"encoder": None, "causal-lm": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}[kind]


def sites(shape: ModelShape, placement: str) -> dict[str, str]:
    """What the script calls each place, by the host's path."""
    found = {}
    for host, _ in bottleneck.host_places(shape, placement):
        place = "attention" if host.role == "o" else "output"
        for layer, path in zip(host.layers, host.paths, strict=True):
            stack = path.partition(".")[0] if shape.kind == "seq2seq" else ""
            found[path] = f"{stack}.{layer}.{place}"
    return found


def adapted(model_type: str, placement: str) -> Any:
    import torch

    model, shape, task = built(model_type)
    values = {
        "placement": placement,
        "bottleneck": made.WIDTH,
        "nonlinearity": made.NONLINEARITY,
        "scale": made.SCALE,
    }
    SPEC.apply(model, shape, SPEC.require(shape, values), task)
    model.double()
    where = sites(shape, placement)
    with torch.no_grad():
        for name, value in bottleneck.parameters_of(model, "default").items():
            path, _, rest = name.partition(f".{bottleneck.CHILD}.")
            value.copy_(made.numbers(f"{where[path]}.{rest}", tuple(value.shape)))
    return model


@pytest.mark.parametrize("model_type", made.MODELS)
def test_the_models_are_the_same(model_type: str) -> None:
    model, _, _ = built(model_type)
    answer = made.answer(model, made.MODELS[model_type][0]).flatten().tolist()
    assert answer == pytest.approx(FOUND[model_type]["base"], rel=0, abs=CLOSE[model_type])


@pytest.mark.parametrize(("model_type", "placement"), CASES)
def test_a_placement_answers_as_the_library_does(model_type: str, placement: str) -> None:
    stored = FOUND[model_type][placement]
    model = adapted(model_type, placement)
    answer = made.answer(model, made.MODELS[model_type][0]).flatten().tolist()
    assert answer == pytest.approx(stored["answer"], rel=0, abs=CLOSE[model_type])
    far = max(abs(a - b) for a, b in zip(stored["answer"], FOUND[model_type]["base"], strict=True))
    assert far > 0.05, "the adapters do nothing"


@pytest.mark.parametrize(("model_type", "placement"), CASES)
def test_places_and_count_are_the_librarys(model_type: str, placement: str) -> None:
    _, shape, _ = built(model_type)
    stored = FOUND[model_type][placement]
    assert sorted(sites(shape, placement).values()) == stored["sites"]
    values = SPEC.require(shape, {"placement": placement, "bottleneck": made.WIDTH})
    assert SPEC.formula(shape, values).trainable == stored["trained"]


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("houlsby", "double_seq_bn", {"bert", "roberta", "llama", "mistral", "gpt2"}),
        ("pfeiffer", "seq_bn", set()),
        ("parallel", "par_bn", {"bert", "roberta"}),
    ],
)
def test_how_they_differ_from_the_papers(ours: str, theirs: str, same: set[str]) -> None:
    """Only T5 has cross-attention; after a norm on the stream, stream and input of the feed-forward part are one."""
    import torch

    for model_type in made.MODELS:
        kind = made.MODELS[model_type][0]
        first, second = (made.answer(adapted(model_type, each), kind) for each in (ours, theirs))
        assert torch.allclose(first, second, atol=1e-9) == (model_type in same), model_type


def test_elsewhere_they_are_refused_with_the_reason() -> None:
    for shape in (get_model("qwen2.5-0.5b").shape, get_model("gemma-2-2b").shape):
        for placement in bottleneck.LIBRARY:
            with pytest.raises(BadInput, match=facts(placement, "compared")):
                SPEC.require(shape, {"placement": placement})


def test_rows_of_a_batch_keep_apart_and_all_come_off() -> None:
    """Adapters that read three different things at one host."""
    import torch

    model, shape, task = built("llama")
    alone: dict[str | None, Any] = {None: model(**rows()).logits}
    for name, placement in (("one", "parallel"), ("two", "par_bn"), ("three", "seq_bn")):
        torch.manual_seed(len(name))
        values = SPEC.require(shape, {"placement": placement, "init_std": 0.3, "bottleneck": 4})
        SPEC.add(model, shape, values, task, name)
        model.double()
        alone[name] = model(**rows()).logits
    SPEC.set_active(model, ["two", None, "three", "one"])
    mixed = model(**rows()).logits
    for row, active in enumerate(("two", None, "three", "one")):
        torch.testing.assert_close(mixed[row], alone[active][row])
    SPEC.remove(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    torch.testing.assert_close(model(**rows()).logits, alone[None])


def rows() -> dict[str, Any]:
    import torch

    return {"input_ids": torch.tensor([[5, 9, 12], [1, 2, 3], [7, 7, 4], [2, 8, 6]])}


def test_each_placement_has_words_of_its_own() -> None:
    knob = SPEC.knob("placement")
    said = [knob.brief(choice) for choice in knob.choices]
    assert [each.partition(":")[0] for each in said] == list(knob.choices)
    told = [bottleneck.place_words(choice) for choice in knob.choices]
    assert len(set(said)) == len(set(told)) == len(knob.choices)
    assert all("adapters library's" in bottleneck.place_words(choice) for choice in bottleneck.LIBRARY)
