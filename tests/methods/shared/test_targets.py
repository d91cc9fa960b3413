"""Targets: PEFT's own tables, and what a name that hits nothing, or too much, is told."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from peft_lab.core.errors import BadInput, PeftLabError
from peft_lab.methods import get_method
from peft_lab.methods.shared import peft_backed, targets
from peft_lab.models.catalogue import get_model, readers_of_text
from tests.methods import tiny
from tests.prose import facts, says

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


@pytest.mark.filterwarnings("ignore")
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


def test_rank_zero() -> None:
    with pytest.raises(BadInput, match=facts("1 to 1,024", 0)) as caught:
        LORA.require(get_model("gpt2").shape, {"r": 0})
    assert caught.value.field == "r"


def test_feedforward_outside_targets() -> None:
    shape = get_model("llama-3.2-3b").shape
    with pytest.raises(BadInput, match=facts("down_proj", "feed-forward")) as caught:
        IA3.require(shape, {"target_modules": ("k_proj", "v_proj")})
    assert caught.value.field == "feedforward_modules"
    with pytest.raises(BadInput, match="nope"):
        IA3.require(shape, {"target_modules": ("all-linear",), "feedforward_modules": ("nope",)})


@pytest.mark.parametrize(
    ("method", "model", "values", "expected"),
    [
        ("lora", "llama-3.2-3b", {"r": 16, "target_modules": ("q_proj", "v_proj")}, 4_587_520),
        ("lora", "llama-3.2-3b", {"r": 16, "target_modules": ("all-linear",)}, 24_313_856),
        ("lora", "llama-3.2-3b", {"r": 32, "use_dora": True}, 9_175_040 + 114_688),
        ("lora", "roberta-base", {"r": 8}, 294_912),
        ("ia3", "llama-3.2-3b", {}, 28 * (1024 + 1024 + 8192)),
        ("ia3", "bert-base", {}, 12 * (768 + 768 + 768 + 3072)),
    ],
)
def test_known_counts(method: str, model: str, values: dict[str, Any], expected: int) -> None:
    spec, shape = get_method(method), get_model(model).shape
    assert spec.formula(shape, spec.require(shape, values)).trainable == expected


def test_a_name_that_ends_several_places_is_told_with_all_of_them() -> None:
    (told,) = LORA.problems(tiny.shape_of("bert"), {"target_modules": ("dense",), "r": 2})
    assert told.level == "warning"
    assert says(
        told.message,
        "dense",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
        "pooler.dense",
        "PEFT",
    )


def test_all_linear_takes_feed_forward_names_of_the_model_alone() -> None:
    every = {"target_modules": ("all-linear",)}
    shape = tiny.shape_of("llama")
    assert not IA3.problems(shape, {**every, "feedforward_modules": ("down_proj",)})
    with pytest.raises(BadInput, match=facts("nonsense", "Llama")):
        IA3.require(shape, {**every, "feedforward_modules": ("nonsense",)})


def test_the_shorthand_is_pefts_own_word_and_names_are_a_list() -> None:
    assert targets.for_peft(("all-linear",)) == "all-linear"
    assert targets.for_peft(("q_proj",)) == ["q_proj"]
    assert targets.for_peft(("all-linear", "q_proj")) == ["all-linear", "q_proj"]


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


@pytest.mark.filterwarnings("ignore")
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
