"""The settings as code: for every method and model it is Python that makes what the method makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from peft_lab import takeaway
from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods, get_method
from peft_lab.models import loading, quantise
from peft_lab.models.catalogue import catalogue, get_model, resolve
from peft_lab.models.heads import task_type
from peft_lab.models.shapes import CLASSIFIERS
from peft_lab.training.tasks import get_task
from tests.takeaway.conftest import KINDS, byte_tokenizer, runs_on
from tests.takeaway.test_script import assert_clean


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["minilm-l6", "smollm2-135m", "gpt2", "t5-base"])
@pytest.mark.parametrize("slug", all_methods())
def test_every_snippet_is_python_that_names_the_knobs(slug: str, name: str, tmp_path: Path) -> None:
    method, entry = get_method(slug), catalogue()[name]
    if any(problem.level == "error" for problem in method.problems(entry.shape, {})):
        with pytest.raises(BadInput):
            takeaway.config_code(method, entry, {})
        return
    code = takeaway.config_code(method, entry, {})
    (tmp_path / "snippet.py").write_text(code, "utf-8")
    assert_clean(tmp_path / "snippet.py")
    assert "from_pretrained(" in code and "peft_lab" not in code
    if "get_peft_model" in code:
        first, _, rest = code.partition("# Not part of the config.")
        assert "get_peft_model(model" in first and len(first.splitlines()) < 30, "what matters comes first"
        assert bool(rest) == (slug in VIRTUAL)
        for knob in method.knobs:
            if (
                not knob.advanced
                and knob.kind in ("int", "modules", "float")
                and knob.name != "encoder_hidden_size"
                # Target parameters are offered on models with experts alone.
                and (knob.kind != "modules" or method.options(knob, entry.shape))
            ):
                assert f"{knob.name}=" in code


@pytest.mark.parametrize(
    ("task", "model", "peft", "auto"),
    [
        ("tags", "minilm-l6", "TOKEN_CLS", "AutoModelForTokenClassification"),
        ("sentiment", "minilm-l6", "SEQ_CLS", "AutoModelForSequenceClassification"),
        ("json", "smollm2-135m", "CAUSAL_LM", "AutoModelForCausalLM"),
        ("digits", "dinov2-small", "", "AutoModelForImageClassification"),
    ],
)
def test_the_head_of_a_snippet_is_the_one_that_the_task_trains(
    task: str, model: str, peft: str, auto: str
) -> None:
    its, entry = get_task(task), get_model(model)
    for slug, method in all_methods().items():
        if method.refusal(entry.shape, {}) is None:
            code = takeaway.config_code(method, entry, {}, its)
            assert re.findall(r"AutoModel\w+", code) == [auto, auto], slug
            assert re.findall(r"num_labels=(\d+)", code) == ([str(len(its.labels))] if its.labels else [])
            if "get_peft_model" in code:
                assert re.findall(r'task_type="(\w+)"', code) == [peft] * bool(peft), slug


@pytest.fixture(scope="session")
def all_kinds(tiny: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tiny models; a T5, which no run takes but whose settings are shown; a decoder with biases and Conv1D."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    torch.manual_seed(7)
    folder, gpt2 = tmp_path_factory.mktemp("tiny-t5"), tmp_path_factory.mktemp("tiny-gpt2")
    size: dict[str, Any] = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    size |= {"vocab_size": 300, "decoder_start_token_id": 0}
    config = T5Config(**size)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=64, n_layer=2, n_head=4)).save_pretrained(gpt2)
    for made in (folder, gpt2):
        byte_tokenizer().save_pretrained(made)
    return {**tiny, "seq2seq": str(folder), "gpt2": str(gpt2)}


# Beside the defaults, which are tried for every method and kind.
SETTINGS: list[tuple[str, str, dict[str, Any]]] = [
    ("lora", "encoder", {"use_dora": True, "init_lora_weights": "pissa", "lora_dropout": 0.3}),
    ("qlora", "causal-lm", {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False}),
    ("qlora", "encoder", {"load_in_8bit": True}),
    ("qlora", "gpt2", {"load_in_8bit": True}),
    ("prefix", "causal-lm", {"init_weights": "text", "num_virtual_tokens": 9}),
    ("prefix", "causal-lm", {"init_weights": "random"}),
    ("prefix", "causal-lm", {"prefix_projection": True, "encoder_hidden_size": 24}),
    ("prompt", "encoder", {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": 'say "yes"'}),
    ("prompt", "causal-lm", {"prompt_tuning_init": "TEXT"}),
    ("ptuning", "encoder", {"init_weights": "text"}),
    ("ptuning", "causal-lm", {"init_weights": "text", "init_text": 'an "order"'}),
    ("ptuning", "causal-lm", {"init_weights": "text", "encoder_reparameterization_type": "LSTM"}),
    ("ptuning", "encoder", {"version": "v2", "init_weights": "text", "num_virtual_tokens": 5}),
    ("ptuning", "encoder", {"version": "v2", "init_weights": "random"}),
    ("ptuning", "encoder", {"version": "v2", "init_weights": "zero"}),
    ("ptuning", "causal-lm", {"version": "v2", "init_weights": "text"}),
    ("adapters", "encoder", {"placement": "parallel", "nonlinearity": "tanh", "bottleneck": 5}),
    ("adapters", "causal-lm", {"placement": "parallel", "scale": 2.0}),
    ("adapters", "encoder", {"placement": "pfeiffer", "nonlinearity": "silu", "init_std": 0.05}),
    ("adapters", "gpt2", {"placement": "parallel"}),
    ("adapters", "encoder", {"placement": "seq_bn"}),
    ("adapters", "causal-lm", {"placement": "seq_bn"}),
    ("adapters", "causal-lm", {"placement": "par_bn", "scale": 2.0}),
    ("adapters", "seq2seq", {"placement": "double_seq_bn"}),
    ("adapters", "seq2seq", {"placement": "par_bn"}),
    ("bitfit", "encoder", {"subset": "query_mlp"}),
]
VIRTUAL = ("prefix", "prompt", "ptuning")
DEFAULTS: list[tuple[str, str, dict[str, Any]]] = [
    (slug, kind, {}) for slug in all_methods() for kind in (*KINDS, "gpt2")
]


@pytest.mark.sampled(13)
@pytest.mark.parametrize(("slug", "kind", "values"), [*DEFAULTS, *SETTINGS], ids=lambda part: str(part)[:40])
def test_a_snippet_makes_the_model_that_the_method_makes(
    slug: str, kind: str, values: dict[str, Any], all_kinds: dict[str, str]
) -> None:
    """At its start, in training with its dropout, and with all that is trained moved: not only the same start, but the
    same function of what is trained."""
    import torch

    if not runs_on(all_kinds[kind], slug):
        pytest.skip(f"{slug} does not run on this model")
    torch.manual_seed(3)
    names: dict[str, Any] = {}
    exec(takeaway.config_code(get_method(slug), resolve(all_kinds[kind]), values), names)
    torch.manual_seed(3)
    wanted = applied_by_the_lab(all_kinds[kind], slug, values)
    mine, its = trained(names["model"]), trained(wanted)
    assert mine.keys() == its.keys()
    assert_equal_outputs(names["model"].eval(), wanted.eval())
    torch.manual_seed(4)
    with torch.no_grad():
        for name, parameter in mine.items():
            torch.testing.assert_close(parameter, its[name], atol=0, rtol=0)
            parameter.add_(0.1 * torch.randn_like(parameter))
            its[name].copy_(parameter)
    assert_equal_outputs(names["model"].eval(), wanted.eval())
    assert_equal_outputs(names["model"].train(), wanted.train())


def applied_by_the_lab(model: str, slug: str, values: dict[str, Any]) -> Any:
    """The method put on a base that was loaded as the snippet does."""
    import transformers

    method, entry = get_method(slug), resolve(model)
    full = method.require(entry.shape, values)
    how = method.quantization(full)
    loader, options = {
        "encoder": (transformers.AutoModelForSequenceClassification, {"num_labels": 2}),
        "causal-lm": (transformers.AutoModelForCausalLM, {}),
        "seq2seq": (transformers.AutoModelForSeq2SeqLM, {}),
    }[entry.kind]
    if how is not None:
        options["quantization_config"] = quantise.settings(how, list(loading.KEPT_WHOLE))
    base = loader.from_pretrained(model, **options)
    if how is not None:
        quantise.settle(base)
    return method.apply(base, entry.shape, full, task_type(entry.kind, entry.kind in CLASSIFIERS))


def trained(model: Any) -> dict[str, Any]:
    """The trained parameters by name, in one order; those of adapters without the adapter's name."""
    found = {
        name.replace(".adapters.default.", "."): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    return dict(sorted(found.items()))


def assert_equal_outputs(mine: Any, its: Any) -> None:
    import torch

    ids = torch.tensor([[5, 60, 61, 62], [9, 80, 7, 33]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if mine.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :2]
    found = []
    for model in (mine, its):
        torch.manual_seed(5)
        with torch.no_grad():
            found.append(model(**inputs).logits)
    torch.testing.assert_close(*found, atol=0, rtol=0)
    if mine.training or not mine.can_generate():
        return
    inputs.pop("decoder_input_ids", None)
    said = [model.generate(**inputs, max_new_tokens=4, do_sample=False) for model in (mine, its)]
    assert said[0].tolist() == said[1].tolist()


def test_lora_plus_is_pefts_own_optimizer(tiny: dict[str, str]) -> None:
    method, entry = get_method("lora"), resolve(tiny["encoder"])
    names: dict[str, object] = {}
    exec(takeaway.config_code(method, entry, {"loraplus_lr_ratio": 8.0, "rank_pattern": "0=2"}), names)
    rates = {group["lr"] for group in names["optimizer"].param_groups if group["params"]}  # type: ignore[attr-defined]
    rate = method.learning_rates["encoder"]
    assert rates == {rate, 8 * rate}
