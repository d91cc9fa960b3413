"""Counts against published ones, against the formulas, and against files that were really written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.counting.count import count, count_config, parse_config, safetensors_bytes
from peft_lab.models.catalogue import catalogue, get_model
from tests.prose import says

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.sampled(5)
@pytest.mark.parametrize("model", list(catalogue()))
def test_every_count_equals_its_formula(model: str) -> None:
    entry = catalogue()[model]
    for slug, spec in all_methods().items():
        if any(problem.level == "error" for problem in spec.problems(entry.shape, {})):
            with pytest.raises(BadInput):
                count(model, slug, {})
            continue
        report = count(model, slug, {})
        formula = spec.formula(entry.shape, spec.require(entry.shape, {}))
        assert report.trainable == report.formula == formula.trainable, slug
        assert report.total == entry.parameters + formula.added, slug
        assert report.stored_parameters == formula.stored, slug
        assert sum(group.parameters for group in report.tree if group.added) == formula.added, slug
        assert sum(group.parameters for group in report.tree) == report.total, slug


@pytest.mark.sampled(4)
@pytest.mark.parametrize("slug", list(all_methods()))
@pytest.mark.parametrize("model", ["minilm-l6", "roberta-base"])
def test_a_task_head_is_counted_apart(model: str, slug: str) -> None:
    spec, entry = all_methods()[slug], catalogue()[model]
    if entry.kind in spec.refuses:
        pytest.skip("refused")
    report = count(model, slug, {}, num_labels=3)
    width = entry.shape.hidden
    head = {"minilm-l6": (width + 1) * 3, "roberta-base": (width + 1) * (width + 3)}[model]
    assert report.head == head
    assert report.trainable == report.formula
    assert report.stored_parameters - head == count(model, slug, {}).stored_parameters - (
        0 if model == "minilm-l6" else _pooler(slug, width)
    )
    heads = [group for group in report.tree if group.role == "head"]
    assert heads and all(group.module.startswith("classifier") for group in heads)


def _pooler(slug: str, width: int) -> int:
    """What the method stores of the pooler, which RoBERTa's classifier does not have."""
    rank = 16
    return {"full": width * (width + 1), "bitfit": width, "qlora": 2 * rank * width}.get(slug, 0)


def test_a_head_is_for_encoders() -> None:
    with pytest.raises(BadInput, match="encoders only"):
        count("gpt2", "lora", {}, num_labels=2)


@pytest.mark.parametrize(
    ("model", "method", "values", "trainable", "total"),
    [
        ("llama-3.2-3b", "lora", {"r": 16, "target_modules": ("q_proj", "v_proj")}, 4_587_520, 3_217_337_344),
        ("roberta-base", "adapters", {"placement": "pfeiffer", "bottleneck": 48}, 894_528, 125_540_160),
        ("roberta-base", "adapters", {"placement": "houlsby", "bottleneck": 48}, 1_789_056, 126_434_688),
        ("bloomz-560m", "prefix", {"num_virtual_tokens": 20}, 983_040, 560_197_632),
        ("bloomz-560m", "prompt", {"num_virtual_tokens": 8}, 8_192, 559_222_784),
        ("llama-3.2-3b", "lora", {"r": 16, "target_modules": ("all-linear",)}, 24_313_856, None),
        ("llama-3.2-3b", "lora", {"r": 32, "use_dora": True}, 9_175_040 + 114_688, None),
        ("roberta-base", "lora", {"r": 8}, 294_912, None),
        ("llama-3.2-3b", "ia3", {}, 28 * (1024 + 1024 + 8192), None),
        ("bert-base", "ia3", {}, 12 * (768 + 768 + 768 + 3072), None),
        ("llama-3.2-3b", "adapters", {"placement": "houlsby", "bottleneck": 64}, 22_195_712, None),
        ("llama-3.2-3b", "prefix", {"num_virtual_tokens": 20}, 1_146_880, None),
        ("llama-3.2-3b", "prompt", {"num_virtual_tokens": 20}, 61_440, None),
        ("gpt2", "bitfit", {}, 102_144, 124_439_808),
        ("bert-base", "bitfit", {}, 102_912, None),
        ("t5-base", "prompt", {"num_virtual_tokens": 20}, 30_720, None),
        ("llama-3.2-3b", "qlora", {"r": 16}, 24_313_856, None),
    ],
)
def test_known_counts(
    model: str, method: str, values: dict[str, Any], trainable: int, total: int | None
) -> None:
    report = count(model, method, values)
    assert report.trainable == report.formula == trainable
    assert total in (None, report.total)
    assert report.percent == pytest.approx(100 * trainable / report.total)


@pytest.mark.parametrize("slug", list(all_methods()))
def test_stored_bytes_are_those_of_the_file(slug: str, tmp_path: Path) -> None:
    """Counted without weights, against the file a real small model writes. Full fine-tuning included."""
    from peft_lab.models.catalogue import get_model
    from peft_lab.models.meta import safetensors_bytes as size
    from tests.methods import tiny

    spec = all_methods()[slug]
    name = "bert" if slug == "bitfit" else "llama"
    values = {knob.name: 4 for knob in spec.knobs if knob.name in ("num_virtual_tokens", "bottleneck", "r")}
    model = tiny.apply(spec, name, values)
    spec.save(model, tmp_path)
    assert size(spec.state(model)) == (tmp_path / "adapter_model.safetensors").stat().st_size
    assert get_model("gpt2").parameters


def test_tree_names_are_those_of_the_bare_model() -> None:
    for model, slug in (
        ("smollm2-135m", "qlora"),
        ("minilm-l6", "ia3"),
        ("t5-base", "prompt"),
        ("gpt2", "adapters"),
    ):
        shape = catalogue()[model].shape
        known = {f"{group.path}.{name}" for group in shape.groups for name in group.parameters}
        tree = count(model, slug, {}).tree
        present = {f"{group.module}.{group.name}" for group in tree if not group.added}
        assert present <= known
        assert known - present <= {
            "lm_head.weight",
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
        }
        for group in tree:
            assert group.count == 1 or "{}" in group.module
            assert not any(part in group.module for part in ("base_model", "base_layer", "default"))


def test_quantised_rows_are_the_weights_of_linear_maps() -> None:
    tree = count("smollm2-135m", "qlora", {}).tree
    small = [group for group in tree if group.quantised]
    assert {group.type for group in small} == {"Linear"} and {group.name for group in small} == {"weight"}
    assert {group.role for group in small} == {"frozen"}
    assert len(small) == 7
    assert not any(group.quantised for group in count("smollm2-135m", "lora", {}).tree)


def test_a_module_saved_whole_is_added_beside_the_original() -> None:
    report = count_config("gpt2", {"peft_type": "LORA", "modules_to_save": ["lm_head"]})
    head = [group for group in report.tree if group.module == "lm_head"]
    assert [(group.role, group.added) for group in head] == [("method", True)]
    assert report.trainable == 294_912 + 50257 * 768
    assert report.formula is None and report.method == "lora"


def test_what_mica_freezes_is_not_trained() -> None:
    """B is put in and frozen: A of all 28 layers' q and v, 2 x 28 x 32 x 3072."""
    report = count_config("llama-3.2-3b", {"peft_type": "LORA", "r": 32, "init_lora_weights": "mica"})
    assert report.trainable == 5_505_024
    assert report.total - 3_212_749_824 == 9_175_040
    assert says(report.note, "3,670,016", "lora_B")
    assert {group.module.rpartition(".")[2] for group in report.groups} == {"lora_A"}
    plain = count_config("llama-3.2-3b", {"peft_type": "LORA", "r": 32})
    assert (plain.trainable, plain.note) == (9_175_040, None)


def test_what_is_trained_under_lora_fas_optimizer() -> None:
    """Against the optimizer itself: it freezes A when it is made."""
    from peft import LoraConfig, get_peft_model
    from peft.optimizers import create_lorafa_optimizer

    from tests.methods import tiny

    adapted: Any = get_peft_model(tiny.build("llama"), LoraConfig(r=4, use_dora=True))
    create_lorafa_optimizer(adapted, r=4, lora_alpha=8, lr=1e-3)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    shape = tiny.shape_of("llama")
    formula = get_method("lora").formula(shape, get_method("lora").require(shape, {"r": 4, "use_dora": True}))
    a = sum(4 * group.in_features * group.count for group in shape.match(("q_proj", "v_proj")).groups)
    assert trained == formula.trainable - a
    for report in (count("gpt2", "lora", {"r": 4}), count_config("gpt2", {"peft_type": "LORA", "r": 4})):
        assert report.lora_fa == 12 * 4 * 2304 and report.trainable == 12 * 4 * (768 + 2304)
    assert count("gpt2", "ia3", {}).lora_fa is None
    assert count_config("gpt2", {"peft_type": "IA3"}).lora_fa is None


def test_where_formula_and_count_differ_the_report_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """A formula that forgets the values and invents an output map."""
    spec = get_method("lora")
    honest = type(spec).formula

    def wrong(self: Any, shape: Any, values: Any) -> Any:
        return honest(self, shape, {**values, "target_modules": ("q_proj", "o_proj")})

    monkeypatch.setattr(type(spec), "formula", wrong)
    report = count("smollm2-135m", "lora", {"r": 8})
    assert report.formula != report.trainable
    v, o = 30 * 8 * (576 + 192), 30 * 8 * (576 + 576)
    assert says(
        report.difference,
        report.formula,
        report.trainable,
        f"{v:,} in self_attn.v_proj",
        f"{o:,} in self_attn.o_proj",
    )


def test_a_config_for_classification_gets_a_head() -> None:
    report = count_config("bert-base", {"peft_type": "LORA", "task_type": "SEQ_CLS"})
    assert report.trainable == 294_912
    assert report.head == 2 * 769


def test_a_config_can_be_counted_where_the_method_is_refused() -> None:
    """PEFT builds a prefix for an encoder, and fails only when it runs."""
    config = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 30}
    assert count_config("roberta-base", config).trainable == 552_960
    with pytest.raises(BadInput, match="past key values"):
        count("roberta-base", "prefix", {"num_virtual_tokens": 30})


def test_safetensors_size_of_mixed_types(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {
        "a": torch.zeros(3, 5),
        "b.c": torch.zeros(7, dtype=torch.bfloat16),
        "d": torch.zeros(2, 2, dtype=torch.int32),
        "e": torch.zeros(3, dtype=torch.uint8),
        "f": torch.zeros(0),
        "g": torch.zeros((), dtype=torch.float64),
    }
    save_file(state, str(tmp_path / "x.safetensors"), metadata={"format": "pt"})
    assert safetensors_bytes(state) == (tmp_path / "x.safetensors").stat().st_size


PROMPT = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 8}
PREFIX = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 8}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**PROMPT, "num_virtual_tokens": "20"}, "num_virtual_tokens '20'"),
        ({**PROMPT, "num_virtual_tokens": [1]}, "whole number"),
        ({**PROMPT, "num_virtual_tokens": 0}, "whole number"),
        ({**PROMPT, "num_virtual_tokens": True}, "whole number"),
        ({"peft_type": "ADAPTION_PROMPT", "adapter_len": 4, "adapter_layers": 0}, "adapter_layers 0"),
        ({**PROMPT, "token_dim": 99}, "token_dim 99, but GPT-2 has 768"),
        ({**PROMPT, "token_dim": [3]}, "GPT-2 has 768"),
        ({**PREFIX, "num_layers": 3}, "num_layers 3, but GPT-2 has 12"),
        ({**PREFIX, "token_dim": 10}, "token_dim 10, but GPT-2 has 768"),
        ({**PREFIX, "num_attention_heads": 7}, "num_attention_heads 7, but GPT-2 has 12"),
    ],
)
def test_numbers_that_cannot_be_meant(content: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message.replace("[", r"\[")) as caught:
        parse_config(get_model("gpt2"), content)
    assert caught.value.field == "adapter_config"


def test_a_stored_config_is_accepted() -> None:
    """PEFT writes the sizes of the model into what it saves: of the keys where there are fewer than queries."""
    llama = get_model("llama-3.2-1b")
    for heads, width in ((8, 512), (32, 2048)):
        sizes = {"num_layers": 16, "num_attention_heads": heads, "token_dim": width}
        prefix: Any = parse_config(llama, {**PREFIX, **sizes})
        assert prefix.num_virtual_tokens == 8
    sizes = {"num_layers": 12, "num_attention_heads": 12, "token_dim": 768, "num_transformer_submodules": 2}
    prompt: Any = parse_config(get_model("t5-base"), {**PROMPT, **sizes})
    assert prompt.token_dim == 768
