"""``count`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from peft_lab.methods import all_methods
from peft_lab.methods.base import plain_task
from peft_lab.models import get_model, resolve
from peft_lab.tasks import get_task

from .conftest import Run


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


def test_warnings_are_notes_on_stderr(run: Run) -> None:
    done = run("count", "--model", "minilm-l6", "--method", "lora", "--set", "r=1000", "--json")
    assert len(done.document) == 1
    assert done.stderr.startswith("note: lora: ")


def test_a_method_asked_for_by_name_has_to_apply(run: Run) -> None:
    refusal = run("count", "--model", "minilm-l6", "--method", "prefix").refused()
    assert all_methods()["prefix"].refuses["encoder"].split(":")[0] in refusal


def test_several_methods_in_the_order_asked(run: Run) -> None:
    done = run(
        "count", "--model", "gpt2", "--method", "ia3,lora", "--method", "prompt", "--set", "r=4", "--json"
    )
    assert [row["method"] for row in done.document] == ["ia3", "lora", "prompt"]


def test_a_misspelt_target_is_named(run: Run) -> None:
    refusal = run(
        "count", "--model", "llama-3.2-3b", "--method", "lora", "--set", "target_modules=q_proj,v_porj"
    ).refused()
    assert "v_porj" in refusal
    assert "'v_proj'" in refusal


def test_unknown_names_offer_the_nearest(run: Run) -> None:
    assert "'llama-3.2-3b'" in run("count", "--model", "llama3.2-3b").refused()
    assert "'lora'" in run("count", "--model", "gpt2", "--method", "lroa").refused()


def test_adapter_configs_are_counted_as_given(run: Run, tmp_path: Path) -> None:
    first, second = tmp_path / "one.json", tmp_path / "two.json"
    shape = get_model("llama-3.2-3b").shape
    lora = all_methods()["lora"]
    config = lora.config(shape, lora.complete(shape, {"r": 16}), plain_task(shape.kind))
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


def test_sets_need_a_method(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"peft_type": "LORA"}')
    assert (
        "--set r" in run("count", "--model", "gpt2", "--adapter-config", str(file), "--set", "r=2").refused()
    )


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


def test_a_task_has_to_suit_the_model(run: Run) -> None:
    assert "causal-lm" in run("count", "--model", "minilm-l6", "--method", "lora", "--task", "json").refused()
    assert "'sentiment'" in run("count", "--model", "minilm-l6", "--task", "sentimant").refused()


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
    resolve.cache_clear()
    for slip in (
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"model_type": "vit"},
        {"model_type": None},
    ):
        file.write_text(json.dumps(config | slip))
        assert str(tmp_path) in run(*ask).refused()
