"""Targets and what sits on them: PEFT's tables, names that hit nothing or too much, ranks by module, biases."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput, PeftLabError, Unsupported
from peft_lab.methods import get_method
from peft_lab.methods.counting.count import count
from peft_lab.methods.shared import peft_backed, targets
from peft_lab.methods.shared import targets as ranks
from peft_lab.models.catalogue import catalogue, get_model, readers_of_text
from tests.methods import tiny
from tests.prose import facts, says

pytestmark = pytest.mark.filterwarnings("ignore")

LORA, IA3 = get_method("lora"), get_method("ia3")


def test_tables_are_pefts() -> None:
    """Read from the source without importing it, and equal to what PEFT imports, for every architecture."""
    from peft.utils import constants

    pairs = [
        (peft_backed.lora_targets(), constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING),
        (peft_backed.ia3_targets(), constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING),
        (peft_backed.ia3_feedforward(), constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING),
    ]
    types = {entry.shape.model_type for entry in readers_of_text().values()}
    for ours, theirs in pairs:
        assert {
            kind: names if isinstance(names, str) else list(names) for kind, names in ours.items()
        } == theirs
        assert types <= set(ours)


def test_reading_the_tables_imports_no_torch() -> None:
    code = (
        "import sys; from peft_lab.methods.shared import peft_backed as tables; tables.lora_targets(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_peft_that_keeps_its_tables_elsewhere_is_told() -> None:
    with pytest.raises(PeftLabError, match="default targets"):
        peft_backed._read_tables("MOVED")


@pytest.mark.parametrize("name", tiny.MODELS)
def test_every_offered_name_hits_what_peft_hits(name: str) -> None:
    """Our matching, torch-free, against the modules that PEFT wraps."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    from peft_lab.models import meta

    shape = tiny.shape_of(name)
    kind, values = tiny.CONFIGS[name]
    for chosen in [(target,) for target in shape.target_names] + [("all-linear",), shape.target_names[:2]]:
        model = meta.build(meta.make_config(values), kind)
        names: Any = "all-linear" if chosen == ("all-linear",) else list(chosen)
        adapted: Any = get_peft_model(model, LoraConfig(target_modules=names, r=2))
        prefix = "base_model.model."
        wrapped = {
            path.removeprefix(prefix) for path, m in adapted.named_modules() if isinstance(m, LoraLayer)
        }
        assert {path for group in shape.match(chosen).groups for path in group.paths} == wrapped


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "one target"),
        (("q_prj",), "'q_prj'.*'q_proj'"),
        (
            ("q_proj", "vproj"),
            "'vproj'.*'v_proj'.*q_proj",
        ),
        (("zzz",), "It has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"),
        (("all-linear", "q_proj"), "every linear map"),
        (("embed_tokens",), "Embedding"),
    ],
)
def test_targets_that_do_not_work(names: tuple[str, ...], message: str) -> None:
    shape = get_model("llama-3.2-3b").shape
    with pytest.raises(BadInput, match=message) as caught:
        LORA.require(shape, {"target_modules": names})
    assert caught.value.field == "target_modules"
    with pytest.raises(BadInput, match=message):
        IA3.require(shape, {"target_modules": names, "feedforward_modules": ()})


def test_a_tied_output_layer_and_a_double_ending_are_warned_about() -> None:
    (tied,) = LORA.problems(get_model("llama-3.2-3b").shape, {"target_modules": ("lm_head",)})
    assert tied.level == "warning" and "input embeddings" in tied.message
    (double,) = LORA.problems(get_model("bert-base").shape, {"target_modules": ("output.dense",)})
    assert double.level == "warning"
    assert "attention.output.dense and output.dense" in double.message


def test_a_rank_as_large_as_the_matrix_is_warned_about() -> None:
    shape = get_model("llama-3.2-3b").shape
    assert not LORA.problems(shape, {"r": 767, "target_modules": ("v_proj",)})
    (warning,) = LORA.problems(shape, {"r": 768, "target_modules": ("v_proj",)})
    assert warning.level == "warning" and "v_proj" in warning.message


def test_pissas_rank_is_checked_on_every_matrix() -> None:
    """The warning about q, which comes first, does not hide the error of v, which is narrower."""
    shape = get_model("llama-3.2-3b").shape
    levels = {p.level for p in LORA.problems(shape, {"r": 1024, "init_lora_weights": "pissa"})}
    assert levels == {"warning"}, "k and v have 1,024 singular vectors"
    tiny_shape = tiny.shape_of("llama")
    (error, warning) = LORA.problems(tiny_shape, {"r": 20, "init_lora_weights": "pissa"})
    assert error.level == "error" and says(error.message, "v_proj", 16)
    assert warning.level == "warning" and "q_proj" in warning.message


def test_feedforward_outside_targets() -> None:
    shape = get_model("llama-3.2-3b").shape
    with pytest.raises(BadInput, match=facts("down_proj", "feed-forward")) as caught:
        IA3.require(shape, {"target_modules": ("k_proj", "v_proj")})
    assert caught.value.field == "feedforward_modules"
    with pytest.raises(BadInput, match="nope"):
        IA3.require(shape, {"target_modules": ("all-linear",), "feedforward_modules": ("nope",)})


def test_architectures_without_a_table_get_the_paper_s_maps_and_say_so() -> None:
    unknown = replace(get_model("llama-3.2-3b").shape, model_type="brand-new")
    assert targets.default_targets(unknown) == ("q_proj", "v_proj")
    assert IA3.defaults(unknown)["target_modules"] == ("k_proj", "v_proj", "down_proj")
    assert IA3.defaults(unknown)["feedforward_modules"] == ("down_proj",)
    for spec in (LORA, IA3):
        (told,) = spec.problems(unknown, {})
        assert told.level == "warning" and says(told.message, "PEFT", "brand-new")
    assert not LORA.problems(unknown, {"target_modules": ("q_proj",)})
    fused = replace(get_model("bloomz-560m").shape, model_type="brand-new")
    assert IA3.defaults(fused)["target_modules"] == ("query_key_value", "dense_4h_to_h")
    assert not [p for p in IA3.problems(fused, {}) if p.level == "error"]


def test_what_pefts_table_names_and_the_model_lacks_is_told() -> None:
    """PEFT's table for Mixtral names w2, which transformers has since put into one parameter with all experts."""
    shape = replace(get_model("llama-3.2-3b").shape, model_type="mixtral")
    assert IA3.defaults(shape)["target_modules"] == ("k_proj", "v_proj")
    assert IA3.defaults(shape)["feedforward_modules"] == ()
    (told,) = IA3.problems(shape, {})
    assert told.level == "warning" and says(told.message, "w2", "Llama 3.2 3B")


def test_a_table_with_a_pattern_becomes_names() -> None:
    table = {"llama": r".*self_attn\.(q_proj|v_proj)"}
    assert targets.documented(get_model("llama-3.2-3b").shape, table) == ("q_proj", "v_proj")


@pytest.mark.parametrize(
    ("values", "lora", "ia3"),
    [
        ({"model_type": "falcon"}, ("query_key_value",), ("query_key_value", "dense_4h_to_h")),
        ({"model_type": "phi"}, ("q_proj", "v_proj", "fc1", "fc2"), ("q_proj", "v_proj", "fc2")),
        ({"model_type": "gpt_neo", "num_layers": 2, "attention_types": [[["global", "local"], 1]]},
         ("q_proj", "v_proj"), ("q_proj", "v_proj", "c_proj")),
        ({"model_type": "qwen3"}, ("q_proj", "v_proj"), ("q_proj", "v_proj", "down_proj")),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_defaults_outside_the_catalogue(
    values: dict[str, Any], lora: tuple[str, ...], ia3: tuple[str, ...]
) -> None:
    from peft_lab.models import meta

    config = meta.make_config(values)
    shape = meta.read_shape(meta.build(config, "causal-lm"), config, "causal-lm", "x", "X")
    assert LORA.defaults(shape)["target_modules"] == lora
    assert IA3.defaults(shape)["target_modules"] == ia3
    assert not LORA.problems(shape, {}) and not [p for p in IA3.problems(shape, {}) if p.level == "error"]


def test_two_threads_never_build_trees_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    peft_backed._constants_of_peft.cache_clear()
    inside, most = [0], [0]
    own: Callable[..., Any] = ast.parse

    def counted(text: str) -> ast.Module:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        try:
            time.sleep(0.01)  # as long as another thread needs to come
            return own(text)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(peft_backed, "ast", SimpleNamespace(parse=counted))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: peft_backed._constants_of_peft(), range(8)))
    assert len(found) == 8 and most == [1]


LORA = get_method("lora")


def ranks_of(model: Any) -> dict[str, int]:
    """The rank that PEFT gave to every adapted module."""
    from peft_lab.models.meta import clean_path

    return {
        clean_path(path): int(module.r["default"])
        for path, module in model.named_modules()
        if "default" in getattr(module, "lora_A", {})
    }


@pytest.mark.parametrize(
    ("name", "targets", "text", "expected"),
    [
        ("llama", ("q_proj", "v_proj"), "v_proj=3", {"0.self_attn.q_proj": 2, "1.self_attn.v_proj": 3}),
        ("llama", ("q_proj", "v_proj"), "1=5", {"0.self_attn.v_proj": 2, "1.self_attn.q_proj": 5}),
        ("llama", ("q_proj",), "0=4, q_proj=7", {"0.self_attn.q_proj": 4, "1.self_attn.q_proj": 7}),
        ("llama", ("q_proj", "v_proj"), "layers.1.self_attn.q_proj=6, 0-9=3", {"1.self_attn.q_proj": 6}),
        ("bert", ("output.dense",), "attention.output.dense=4", {"0.attention.output.dense": 4, "r.1.output.dense": 2}),
        ("gpt2", ("c_attn", "c_proj"), "0=1", {"0.attn.c_attn": 1, "1.mlp.c_proj": 2}),
        ("t5", ("q", "v"), "0=3", {"decoder.block.0.layer.0.SelfAttention.q": 3, "1.layer.0.SelfAttention.q": 2}),
    ],
)  # fmt: skip
def test_ranks_by_module_are_those_that_peft_gives(
    name: str, targets: Any, text: str, expected: dict[str, int]
) -> None:
    values = {"r": 2, "target_modules": targets, "rank_pattern": text}
    model = tiny.apply(LORA, name, values)
    found = ranks_of(model)
    for ending, rank in expected.items():
        assert {value for path, value in found.items() if path.endswith(ending)} == {rank}, ending
    shape = tiny.shape_of(name)
    ours = {
        path: next((rule.rank for rule in ranks.parse_ranks(text) if rule.fits(group, path, layer)), 2)
        for group in shape.match(targets).groups
        for path, layer in ranks.rank_places(group)
    }
    assert found == ours


@pytest.mark.parametrize("name", ["smollm2-135m", "gpt2", "t5-base"])
def test_counts_with_ranks_by_layer(name: str) -> None:
    last = get_model(name).shape.num_layers - 1
    report = count(name, "lora", {"rank_pattern": f"0=2, {last}=16", "use_dora": True})
    assert report.trainable == report.formula == report.stored_parameters
    assert report.trainable != count(name, "lora", {"use_dora": True}).trainable


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v_proj", "written like"),
        ("v_proj:4", "written like"),
        ("v_proj=0", "from 1 to 1024"),
        ("v_proj=many", "from 1 to 1024"),
        ("q_prj=4", "no adapted matrix"),
        ("k_proj=4", "no adapted matrix"),
        ("7=4", "layers 0 to 1"),
        ("3-1=4", "Write 1-3"),
        ("q_proj=4, v_proj=2, 0-1=8", "has no effect"),
        ("v_proj)=4", "written like"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(text: str, message: str) -> None:
    shape = tiny.shape_of("llama")
    with pytest.raises(BadInput, match=message) as caught:
        LORA.require(shape, {"r": 2, "target_modules": ("q_proj", "v_proj"), "rank_pattern": text})
    assert caught.value.field == "rank_pattern"
    assert LORA.parts(shape, LORA.complete(shape, {"rank_pattern": text})), "a page draws it all the same"


@given(st.text(max_size=30))
def test_any_text_is_rules_or_a_reason(text: str) -> None:
    try:
        rules = ranks.parse_ranks(text)
    except BadInput as error:
        assert str(error).endswith(".")
    else:
        assert all(1 <= rule.rank <= 1024 for rule in rules)


@pytest.mark.parametrize(("more", "scale"), [({}, 0.25), ({"use_rslora": True}, 2.0)])
def test_scales(more: dict[str, Any], scale: float) -> None:
    for method in (LORA, get_method("qlora"))[: 1 if more else 2]:
        values = method.require(get_model("llama-3.2-3b").shape, {"r": 64, "lora_alpha": 16, **more})
        assert method.scale(values) == scale  # type: ignore[attr-defined]


def test_lora_plus_raises_the_rate_of_b_as_peft_does() -> None:
    from peft.optimizers import create_loraplus_optimizer

    values = LORA.require(tiny.shape_of("llama"), {"loraplus_lr_ratio": 16.0})
    model = tiny.apply(LORA, "llama", values)
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=0.5, loraplus_lr_ratio=16.0)
    rates = {id(p): group["lr"] for group in theirs.param_groups for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {0.5 * LORA.rate_factor(name, values) for name in trained} == {0.5, 8.0}
    assert all(rates[id(p)] == 0.5 * LORA.rate_factor(name, values) for name, p in trained.items())


BITFIT = get_method("bitfit")


def test_models_without_biases_are_refused_by_name() -> None:
    without = {name for name, entry in catalogue().items() if not entry.shape.biases}
    assert without - {"llama-3.2-1b", "llama-3.1-8b", "llama-3.1-70b"} == {
        "llama-3.2-3b", "llama-2-7b", "smollm2-135m", "mistral-7b", "gemma-2-2b", "t5-base", "flan-t5-small",
    }  # fmt: skip
    for name in without:
        with pytest.raises(Unsupported, match="has no biases") as caught:
            BITFIT.require(get_model(name).shape, {})
        assert get_model(name).title in str(caught.value)


def test_qwen_has_biases_in_query_key_and_value() -> None:
    shape = get_model("qwen2.5-0.5b").shape
    formula = BITFIT.formula(shape, BITFIT.require(shape, {}))
    assert formula.trainable == 24 * (896 + 2 * 128)
    (warning,) = BITFIT.problems(shape, {"subset": "query_mlp"})
    assert warning.level == "warning" and "feed-forward" in warning.message
    subset = BITFIT.formula(shape, BITFIT.require(shape, {"subset": "query_mlp"}))
    assert subset.trainable == 24 * 896


def test_the_papers_subset_is_the_query_and_the_widening_map() -> None:
    model = tiny.apply(BITFIT, "bert", {"subset": "query_mlp"})
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        f"encoder.layer.{layer}.{part}.bias"
        for layer in (0, 1)
        for part in ("attention.self.query", "intermediate.dense")
    }
    shape = get_model("bert-base").shape
    assert BITFIT.formula(shape, BITFIT.require(shape, {"subset": "query_mlp"})).trainable == 12 * (
        768 + 3072
    )


@pytest.mark.parametrize("subset", ["all", "query_mlp"])
def test_trains_biases_and_the_head_of_a_classifier(subset: str) -> None:
    model = tiny.apply(BITFIT, "roberta", {"subset": subset}, head=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    head = {name for name in trained if name.startswith("classifier.")}
    assert {"classifier.dense.weight", "classifier.out_proj.weight"} <= head
    assert all(name.endswith(".bias") and name.startswith("roberta.") for name in trained - head)
    assert set(BITFIT.state(model)) == trained
