"""``count`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model
from peft_lab.models.heads import task_type
from peft_lab.training.tasks import get_task
from tests.cli.conftest import Run
from tests.prose import says


def test_the_contracts_example(run: Run) -> None:
    command = "count --model llama-3.2-3b --method lora --set r=16 --set target_modules=q_proj,v_proj"
    (row,) = run(*command.split(), "--json").document
    assert (row["trainable"], row["total"], row["formula"]) == (4_587_520, 3_217_337_344, 4_587_520)
    assert row["source"] == "counted"
    assert isinstance(row["stored_bytes"], int)
    assert isinstance(row["seconds"], float)
    assert sum(group["parameters"] for group in row["groups"]) == row["trainable"]
    assert {"module", "count", "parameters"} <= set(row["groups"][0])
    shown = run(*command.split()).stdout
    for text in ("4,587,520", "3,217,337,344", "0.143%", "counted", "equal"):
        assert text in shown


def test_by_default_every_method_that_applies(run: Run) -> None:
    done = run("count", "--model", "minilm-l6", "--json")
    shape = get_model("minilm-l6").shape
    blocked = {
        slug
        for slug, method in all_methods().items()
        for p in method.problems(shape, {})
        if p.level == "error"
    }
    assert [row["method"] for row in done.document] == [slug for slug in all_methods() if slug not in blocked]
    assert [line for line in done.stderr.splitlines() if line.startswith("left out: prefix: ")]


def test_adapter_configs_are_counted_as_given(run: Run, tmp_path: Path) -> None:
    first, second = tmp_path / "one.json", tmp_path / "two.json"
    shape = get_model("llama-3.2-3b").shape
    lora = all_methods()["lora"]
    config: Any = lora.config(shape, lora.complete(shape, {"r": 16}), task_type(shape.kind))
    first.write_text(
        json.dumps({"peft_type": "LORA", "r": config.r, "target_modules": sorted(config.target_modules)})
    )
    second.write_text(json.dumps({"peft_type": "IA3"}))
    done = run(
        "count", "--model", "llama-3.2-3b", "--method", "lora", "--set", "r=16",
        "--adapter-config", str(first), "--adapter-config", str(second), "--json",
    ).document  # fmt: skip
    assert [row["method"] for row in done] == ["lora", "lora", "ia3"]
    assert done[0]["trainable"] == done[1]["trainable"]
    assert done[1]["adapter_config"] == str(first)
    assert done[1]["formula"] is None


# Values that PEFT stumbles over instead of refusing them.
SLIPS = (
    {"peft_type": "LORA", "target_modules": "(c_attn"},
    {"peft_type": "LORA", "target_modules": ["c_attn"], "megatron_config": {"a": 1}},
    {"peft_type": "LORA", "target_modules": ["c_attn"], "trainable_token_indices": 1e9},
    {"peft_type": "RANDLORA", "r": 0},
)


def test_a_config_that_is_none_names_its_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for content in (
        {},
        {"peft_type": "MAGIC"},
        {"peft_type": "LORA", "r": 0},
        {"peft_type": ["LORA"]},
        *SLIPS,
    ):
        file.write_text(json.dumps(content))
        assert str(file) in run("count", "--model", "gpt2", "--adapter-config", str(file)).refused()


def test_a_tasks_head_is_a_group_of_its_own(run: Run) -> None:
    command = ("count", "--model", "minilm-l6", "--method", "lora")
    (bare,) = run(*command, "--json").document
    (headed,) = run(*command, "--task", "sentiment", "--json").document
    hidden, labels = get_model("minilm-l6").shape.hidden, len(get_task("sentiment").labels)
    assert headed["head"] == (hidden + 1) * labels
    assert headed["trainable"] == bare["trainable"]
    roles = {group["role"] for group in headed["groups"]}
    assert roles == {"method", "head"}
    assert bare["head"] == 0
    assert "head" in run(*command, "--task", "sentiment").stdout
    (tagging,) = run(*command, "--task", "tags", "--json").document
    assert tagging["head"] == (hidden + 1) * len(get_task("tags").labels)
    assert tagging["trainable"] == bare["trainable"]


def test_a_model_in_a_folder(run: Run, tmp_path: Path) -> None:
    config: dict[str, object] = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "vocab_size": 100,
    }
    config |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    file = tmp_path / "config.json"
    ask = ("count", "--model", str(tmp_path), "--method", "lora")
    assert "no usable config.json" in run(*ask).refused()
    file.write_text(json.dumps(config))
    (row,) = run(*ask, "--json").document
    assert row["trainable"] == row["formula"]
    for slip in (
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"model_type": "swin"},
        {"model_type": None},
    ):
        file.write_text(json.dumps(config | slip))
        assert str(tmp_path) in run(*ask).refused()


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
MPT = {"model_type": "mpt", "d_model": 32, "n_layers": 2, "n_heads": 4, "vocab_size": 64}
MAMBA2 = {"model_type": "mamba2", **TINY, "state_size": 4, "num_heads": 8, "head_dim": 8, "n_groups": 2}


def folder_of(tmp_path: Path, config: dict[str, object]) -> str:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--model minilm-l6 --method prefix", all_methods()["prefix"].refuses["encoder"].split(":")[0]),
        ("--model llama-3.2-3b --method lora --set target_modules=q_proj,v_porj", "'v_proj'"),
        ("--model llama3.2-3b", "'llama-3.2-3b'"),
        ("--model gpt2 --method lroa", "'lora'"),
        ("--model minilm-l6 --method lora --task json", "causal-lm"),
        ("--model minilm-l6 --task sentimant", "'sentiment'"),
    ],
)
def test_bad_input_is_refused_in_one_line(run: Run, words: str, named: str) -> None:
    assert named in run("count", *words.split()).refused()


@pytest.mark.parametrize(
    ("config", "settings", "reason"),
    [
        (MPT, ("--method", "prompt"), "num_attention_heads"),
        (MAMBA2, ("--method", "lora", "--set", "target_modules=out_proj"), "incompatible with Mamba"),
    ],
    ids=("mpt", "mamba2"),
)
def test_what_peft_refuses_is_refused_in_a_sentence(
    run: Run, tmp_path: Path, config: dict[str, object], settings: tuple[str, ...], reason: str
) -> None:
    refusal = run("count", "--model", folder_of(tmp_path, config), *settings).refused()
    assert reason in refusal and refusal.startswith("error: PEFT")


def test_both_counts_of_lora_fa(run: Run) -> None:
    ask = ("count", "--model", "gpt2", "--method", "lora", "--set", "r=4")
    (row,) = run(*ask, "--json").document
    assert (row["trainable"], row["lora_fa"]) == (147_456, 110_592)
    assert says(run(*ask).stdout, "LoRA-FA", "110,592")


def test_where_formula_and_count_differ_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = type(all_methods()["lora"])
    honest = spec.formula

    def without_v(self: Any, shape: Any, values: Any) -> Any:
        return honest(self, shape, {**values, "target_modules": ("q_proj",)})

    monkeypatch.setattr(spec, "formula", without_v)
    done = run("count", "--model", "smollm2-135m", "--method", "lora")
    assert "equal" not in done.stdout and "≠ counted" in done.stdout
    assert says(done.stderr, "note", "lora")
    assert "self_attn.v_proj" in done.stderr
