"""Other tools' config files: what is read of each tool, what is left out, and files that are bad on purpose."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from peft_lab.advise.foreign import parsing
from peft_lab.advise.foreign.parsing import parse
from peft_lab.advise.foreign.reading import TOOLS, Reading, keys_of, named, read
from peft_lab.core.errors import BadInput
from peft_lab.engine.step import OPTIMIZER_TITLES
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model

AXOLOTL = """
base_model: NousResearch/Meta-Llama-3.1-8B-Instruct
load_in_4bit: true
adapter: qlora
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
sequence_len: 4096
sample_packing: true
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 1
optimizer: paged_adamw_8bit
learning_rate: 2e-4
bf16: auto
tf32: false
gradient_checkpointing: offload
plugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]
fsdp_version: 2
wandb_project: mine
"""
LLAMA_FACTORY = """
model_name_or_path: meta-llama/Llama-3.2-1B
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
cutoff_len: 2048
max_samples: 1000
deepspeed: examples/deepspeed/ds_z3_offload_config.json
template: llama3
bf16: true
"""
LLAMA_FACTORY_V1 = """
model: Qwen/Qwen2.5-0.5B
peft_config: {name: lora, r: 16, lora_alpha: 32, lora_dropout: 0.05, target_modules: all}
quant_config: {name: bnb, quantization_bit: 8}
train_dataset: data.yaml
micro_batch_size: 1
cutoff_len: 1024
learning_rate: 1.0e-4
max_steps: 10
"""
TORCHTUNE = """
model:
  _component_: torchtune.models.llama3_2.lora_llama3_2_1b
  lora_attn_modules: [q_proj, v_proj, output_proj]
  apply_lora_to_mlp: true
  lora_rank: 8
  lora_alpha: 16
tokenizer: {_component_: torchtune.models.llama3.llama3_tokenizer, path: /tmp/t, max_seq_len: 512}
optimizer: {_component_: torch.optim.AdamW, lr: 3e-4}
loss: {_component_: torchtune.modules.loss.LinearCrossEntropyLoss}
batch_size: 2
gradient_accumulation_steps: 8
epochs: 1
dtype: bf16
enable_activation_checkpointing: true
"""
TRL = json.dumps(
    {"model_name_or_path": "Qwen/Qwen2.5-0.5B", "use_peft": True, "per_device_train_batch_size": 4, "beta": 0.1,
     "gradient_checkpointing": False, "max_length": 256, "torch_dtype": "bfloat16"}, indent=1
)  # fmt: skip
SHELL = """#!/bin/bash
MODEL=Qwen/Qwen2.5-0.5B
# python old.py --learning_rate 1
accelerate launch --num_processes 4 trl/scripts/sft.py \\
    --model_name_or_path ${MODEL} \\
    --use_peft --lora_r 32 --lora_target_modules q_proj v_proj \\
    --per_device_train_batch_size=2 --bf16 True
"""
UNSLOTH = """from unsloth import FastLanguageModel
from trl import SFTConfig, SFTTrainer
import os
max_seq_length = 1024
model, tokenizer = FastLanguageModel.from_pretrained("unsloth/Llama-3.2-1B-bnb-4bit", max_seq_length=max_seq_length)
model = FastLanguageModel.get_peft_model(model, r=16, target_modules=["q_proj", "v_proj"], lora_alpha=32)
trainer = SFTTrainer(model=model, args=SFTConfig(
    per_device_train_batch_size=2, max_steps=60, learning_rate=float(os.environ["RATE"]), optim="adamw_8bit"))
if False:
    FastLanguageModel.from_pretrained("mine", max_seq_length=8)
"""
DEEPSPEED = json.dumps(
    {"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}, "reduce_bucket_size": "auto"},
     "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": "auto", "bf16": {"enabled": True}}, indent="\t"
)  # fmt: skip
ACCELERATE = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_processes: 8
mixed_precision: bf16
fsdp_config: {fsdp_version: 2, fsdp_offload_params: true, fsdp_activation_checkpointing: true}
"""

LINEAR = ["all-linear"]
#: A file, the tool's title, its method, and settings that it must be read as.
CASES: Mapping[str, tuple[str, str, str, str, dict[str, Any]]] = {
    "axolotl": (AXOLOTL, "a.yml", "Axolotl", "qlora", {
        "model": "llama-3.1-8b", "r": 32, "lora_alpha": 16, "target_modules": LINEAR, "seq": 4096, "batch": 2,
        "accumulate": 4, "epochs": 1.0, "optimizer": "paged_adamw8bit", "learning_rate": 2e-4, "dtype": "bfloat16",
        "checkpointing": True, "offload": True, "loss": "cut", "packing": True,
    }),
    "llama_factory": (LLAMA_FACTORY, "a.yaml", "LLaMA-Factory", "lora", {
        "model": "llama-3.2-1b", "objective": "preference", "r": 8, "lora_alpha": 16, "target_modules": LINEAR,
        "seq": 2048, "batch": 8, "rows": 1000, "sharding": "zero3", "sharding_offload": True, "checkpointing": True,
        "dtype": "bfloat16", "optimizer": "adamw",
    }),
    "llama_factory_v1": (LLAMA_FACTORY_V1, "a.yaml", "LLaMA-Factory v1", "qlora", {
        "model": "qwen2.5-0.5b", "r": 16, "load_in_8bit": True, "target_modules": LINEAR, "seq": 1024, "steps": 10,
        "checkpointing": True,
    }),
    "torchtune": (TORCHTUNE, "a.yaml", "torchtune", "lora", {
        "model": "llama-3.2-1b", "r": 8, "seq": 512, "batch": 2, "accumulate": 8, "dtype": "bfloat16",
        "target_modules": ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], "loss": "chunked",
        "optimizer": "adamw", "learning_rate": 3e-4, "checkpointing": True,
    }),
    "trl": (TRL, "args.json", "TRL", "lora", {
        "model": "qwen2.5-0.5b", "r": 16, "lora_alpha": 32, "batch": 4, "seq": 256, "checkpointing": False,
        "objective": "preference", "dtype": "bfloat16", "optimizer": "adamw",
    }),
    "shell": (SHELL, "run.sh", "TRL", "lora", {
        "model": "qwen2.5-0.5b", "r": 32, "target_modules": ["q_proj", "v_proj"], "batch": 2, "devices": 4,
        "seq": 1024, "checkpointing": True, "loss": "chunked", "dtype": "float32",
    }),
    "unsloth": (UNSLOTH, "train.py", "Unsloth", "qlora", {
        "model": "llama-3.2-1b", "r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "seq": 1024,
        "batch": 2, "steps": 60, "optimizer": "adamw8bit", "checkpointing": True, "offload": True, "loss": "chunked",
    }),
    "deepspeed": (DEEPSPEED, "ds.json", "DeepSpeed", "", {
        "sharding": "zero3", "sharding_offload": True, "batch": 4, "dtype": "bfloat16",
    }),
    "accelerate": (ACCELERATE, "acc.yaml", "accelerate", "", {
        "sharding": "fsdp2", "sharding_offload": True, "devices": 8, "checkpointing": True, "dtype": None,
    }),
}  # fmt: skip


def left(reading: Reading) -> set[str]:
    return {one.key for one in reading.ignored}


@pytest.mark.parametrize("case", CASES)
def test_a_tools_file_is_read_as_what_it_trains(case: str) -> None:
    text, name, tool, method, wanted = CASES[case]
    reading = read(text, name)
    assert (reading.tool, reading.method) == (tool, method)
    assert {key: reading.settings.get(key) for key in wanted} == wanted
    keys = {key for key, entry in parse(text, name).entries.items() if entry.value is not None}
    assert keys <= reading.understood.keys() | left(reading), "every key is understood or ignored"
    assert not reading.assumed.keys() & keys
    assert all(one.why and one.effect for one in reading.ignored)
    if method and "model" in wanted:
        get_method(method).require(get_model(wanted["model"]).shape, dict_of(reading))


def dict_of(reading: Reading) -> dict[str, Any]:
    """The knobs that the file sets, read back from what the command line is given."""
    spec = get_method(reading.method)
    pairs = (one.split("=", 1) for one in reading.sets)
    return {name: spec.knob(name).parse(value) for name, value in pairs}


def test_sharding_needs_the_number_of_gpus(tmp_path: Any) -> None:
    reading = read(AXOLOTL, "a.yml")
    assert "GPUs" in left(reading) and "sharding" not in reading.step({})
    assert reading.step({"devices": 4})["sharding"] == "fsdp2"
    assert read(ACCELERATE, "a.yaml").step({})["sharding"] == "fsdp2"
    assert read(LLAMA_FACTORY, "a.yaml").step({})["batch"] == 16, "chosen and rejected"


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("base_model: [1\nseq: 2\n", "a.yml", 2),
        ("base_model: x\nmicro_batch_size: many\n", "a.yml", 2),
        ("base_model: x\nmicro_batch_size: 2\nlora_r: -1\n", "a.yml", 3),
        ("base_model: x\nadapter: prompt\n", "a.yml", 2),
        ("base_model: x\nlearning_rate: !!python/object/apply:os.system ['true']\n", "a.yml", 2),
        ("a: &a [1]\nb: *a\n", "a.yml", 2),
        ('{"base_model": "x",\n "adapter": ]}', "a.json", 2),
        ("import os\nos.system('x'\n", "a.py", 2),
        ("base_model: x\nadapter: " + "[" * 3000, "a.yml", 2),
        (f"base_model: x\nmicro_batch_size: {'9' * 6000}\n", "a.yml", 2),
    ],
)  # fmt: skip
def test_a_bad_file_gets_one_sentence_with_its_line(text: str, name: str, line: int) -> None:
    with pytest.raises(BadInput) as error:
        read(text, name)
    assert re.match(rf"Line {line}\b", str(error.value)) and "\n" not in str(error.value), error.value
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "a.yml"),
        ("- 1\n- 2\n", "a.yml"),
        ("just words", "a.yml"),
        ("made: up\n", "a.yml"),
        ("x" * (parsing.MOST + 1), "a.yml"),
        ("print('hello')\n", "a.py"),
        ("ls\n", "a.sh"),
        ("[]", "a.ipynb"),
        ("model_name_or_path: x\nstage: sft\n", "a.yaml"),
        ("model_name_or_path: x\nstage: rm\ndo_train: true\n", "a.yaml"),
        ("a: {" + ", ".join(f"k{one}: 1" for one in range(20_000)) + "}", "a.yml"),
    ],
)  # fmt: skip
def test_a_file_that_trains_nothing_known_is_refused_in_a_sentence(text: str, name: str) -> None:
    with pytest.raises(BadInput) as error:
        read(text, name)
    assert len(str(error.value)) < 400


def test_aliases_cannot_multiply() -> None:
    bomb = "a0: &a0 {k: v}\n" + "".join(
        f"a{one}: &a{one} {{<<: [{', '.join([f'*a{one - 1}'] * 9)}]}}\n" for one in range(1, 12)
    )
    with pytest.raises(BadInput, match="alias"):
        read(bomb, "a.yml")


def test_nothing_in_a_file_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(*_: Any) -> None:
        raise AssertionError("ran")

    for name in ("eval", "exec", "compile"):
        if name != "compile":  # ast.parse compiles to a tree
            monkeypatch.setattr(f"builtins.{name}", ran)
    read(UNSLOTH.replace("r=16", "r=__import__('os').getpid()"), "a.py")
    with pytest.raises(BadInput):
        read("base_model: !!python/name:os.system\nlora_r: 1\n", "a.yml")


_VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20)
    | some.sampled_from(["auto", "true", "lora", "qlora", "bf16", "1e-4", "all", "adamw_8bit", "nf4"]),
    lambda one: some.lists(one, max_size=3) | some.dictionaries(some.text(max_size=8), one, max_size=3),
    max_leaves=6,
)  # fmt: skip
_KEYS = [key for tool in TOOLS for key in keys_of(tool)["keys"]]


@given(some.dictionaries(some.sampled_from(_KEYS) | some.text(min_size=1, max_size=10), _VALUES, max_size=12))
@settings(max_examples=60, deadline=None, database=None)
def test_any_dictionary_is_read_or_refused_in_a_sentence(content: dict[str, Any]) -> None:
    for text, name in (
        (json.dumps(content), "a.json"),
        (yaml.safe_dump(content), "a.yaml"),
    ):
        try:
            reading = read(text, name)
        except BadInput as error:
            assert 10 < len(str(error)) < 500
        else:
            reading.step({}), json.dumps(reading.as_dict())
            if reading.method:
                assert isinstance(reading.sets, list)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tools_keys_lead_to_settings_that_there_are(tool: str) -> None:
    content = keys_of(tool)
    knobs = {knob.name for slug in ("lora", "qlora") for knob in get_method(slug).knobs}
    known = knobs | {
        "model", "batch", "seq", "dtype", "half", "optimizer", "checkpointing", "offload", "loss", "devices",
        "sharding", "sharding_offload", "accumulate", "epochs", "steps", "rows", "learning_rate", "adapter", "bits",
        "compile", "attention", "updates", "liger", "logits",
        "objective", "packing", "epoch_steps", "all_linear", "more_targets", "pairs", "generations", "beta",
    }  # fmt: skip
    for key, rule in content["keys"].items():
        rule = content["rules"][rule[2:]] if str(rule).startswith("= ") else rule
        rule = {"to": rule} if isinstance(rule, str) else rule
        results = [*rule.get("table", {}).values(), *(one[1] for one in rule.get("find", ()))]
        names = {name for one in results if isinstance(one, dict) for name in one} | set(rule.get("also", {}))
        names |= {rule["to"]} if "to" in rule else set()
        assert names <= known, (key, names - known)
        if rule.get("to") == "optimizer":
            assert {one for one in results if isinstance(one, str)} <= set(OPTIMIZER_TITLES)
    for group in content["ignored"]:
        assert group["why"].endswith(".") and group["effect"].endswith(".")
        for pattern in group["keys"]:
            assert not [key for key in content["keys"] if key == pattern], f"{pattern} is read and ignored"
    defaults = content["defaults"].keys()
    assert defaults <= content["keys"].keys()
    assert not [
        key
        for key in defaults
        if any(fnmatchcase(key, one) for group in content["ignored"] for one in group["keys"])
    ]


LLAMA_FACTORY_SFT = LLAMA_FACTORY.replace("stage: dpo", "stage: sft")
FULL = TORCHTUNE.replace("lora_llama3_2_1b", "llama3_2_1b").replace(
    "accumulation_steps: 8", "accumulation_steps: 1"
)
#: A tool's file, a line beside it, the setting that it becomes, and keys of it that are simulated in part.
SWITCHED = [
    (AXOLOTL, "attn_implementation: flash_attention_2", ("attention", "flash"), ()),
    (AXOLOTL, "flash_attention: true", ("attention", "flash"), ()),
    (AXOLOTL, "eager_attention: true", ("attention", "eager"), ()),
    (AXOLOTL.replace("_4bit: true", "_4bit: false").replace("qlora", "lora"), "torch_compile: auto",
     ("compile", True), ("torch_compile",)),
    (AXOLOTL.replace("plugins", "# "), "liger_fused_linear_cross_entropy: true", ("loss", "liger"), ()),
    (AXOLOTL.replace("plugins", "# "), "cut_cross_entropy: true", ("loss", "cut"), ()),
    (LLAMA_FACTORY, "flash_attn: fa2", ("attention", "flash"), ()),
    (LLAMA_FACTORY, "flash_attn: disabled", ("attention", "eager"), ()),
    (LLAMA_FACTORY_SFT, "enable_liger_kernel: true", ("loss", "liger"), ("enable_liger_kernel",)),
    (LLAMA_FACTORY, "torch_compile: true", ("compile", True), ("torch_compile",)),
    (LLAMA_FACTORY_V1, "flash_attn: flash_attention_2", ("attention", "flash"), ()),
    (SHELL, "    --attn_implementation kernels-community/flash-attn2", ("attention", "flash"), ()),
    (SHELL, "    --use_liger_kernel true --loss_type nll", ("loss", "liger"), ("use_liger_kernel",)),
    (SHELL, "    --torch_compile_mode default", ("compile", True), ()),
    (FULL, "compile: true", ("compile", True), ()),
    (FULL, "compile: {model: true, loss: false}", ("compile", True), ()),
    (FULL, "optimizer_in_bwd: true", ("updates", "backward"), ()),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "wanted", "partly"), SWITCHED)
def test_a_switch_is_read_as_the_labs_own(
    text: str, line: str, wanted: tuple[str, Any], partly: tuple[str, ...]
) -> None:
    shell = text is SHELL
    text = text.rstrip() + (" \\\n" if shell else "\n") + line + "\n"
    reading = read(text, "run.sh" if shell else "a.yaml")
    name, value = wanted
    assert reading.settings[name] == value == reading.step({})[name]
    keys = {key for key in parse(text, "run.sh" if shell else "a.yaml").entries if key in line}
    assert keys <= reading.understood.keys() | left(reading)
    assert {key for key in left(reading) if key in reading.understood and key in keys} == set(partly)


@pytest.mark.parametrize(
    ("text", "line", "key", "setting"),
    [
        (AXOLOTL, "torch_compile: true", "torch_compile", "compile"),
        (TORCHTUNE, "optimizer_in_bwd: true", "optimizer_in_bwd", "updates"),
        (LLAMA_FACTORY, "enable_liger_kernel: true", "enable_liger_kernel", "loss"),
        (AXOLOTL, "attn_implementation: flex_attention", "attn_implementation", "attention"),
        (AXOLOTL, "selective_checkpointing: true", "selective_checkpointing", "recompute"),
        (LLAMA_FACTORY, "torch_compile_mode: reduce-overhead", "torch_compile_mode", "compile"),
        (UNSLOTH, "FastLanguageModel.from_pretrained(attn_implementation='eager')", "attn_implementation", "attention"),
        (UNSLOTH, "SFTConfig(torch_compile=True)", "torch_compile", "compile"),
    ],
)  # fmt: skip
def test_a_switch_that_the_step_cannot_have_is_ignored_with_what_it_may_change(
    text: str, line: str, key: str, setting: str
) -> None:
    """4 bits are not compiled, gradients of several passes are not dropped, and DPO's loss is not fused."""
    name = "train.py" if text is UNSLOTH else "a.yaml"
    reading = read(f"{text.rstrip()}\n{line}\n", name)
    assert key not in reading.understood and not reading.step({}).get(setting)
    (ignored,) = (one for one in reading.ignored if one.key == key)
    assert ignored.why.endswith(".") and ignored.effect.endswith(".") and "does not know" not in ignored.why


def test_a_model_is_found_under_its_copies_names() -> None:
    for text, name in {
        "meta-llama/Meta-Llama-3-8B-Instruct": "llama-3.1-8b", "unsloth/gemma-2-2b-it-bnb-4bit": "gemma-2-2b",
        "mistralai/Mistral-7B-v0.1": "mistral-7b", "Qwen/Qwen2.5-7B-Instruct": "qwen2.5-7b", "gpt2": "gpt2",
    }.items():  # fmt: skip
        assert named(text) == name
    assert named("mistralai/Mistral-7B-v0.3") == "mistral-7b-v0.3", "another vocabulary"
    assert named("Qwen/Qwen2.5-Coder-7B-Instruct") not in ("qwen2.5-7b",)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x = " + "-" * 100_000 + "1", "a.py"),
        ("x = a" + ".a" * 60_000, "a.py"),
        ("f(" * 5_000, "a.py"),
        ("X=" + "a" * 900 + "\n" + "".join("X=$X$X$X\n" for _ in range(60)) + "run --model $X", "a.sh"),
        ("run " + "--a 1 " * 40_000, "a.sh"),
        ("base_model: x\nmicro_batch_size: 1\ndeepspeed: " + "z3" * 60_000, "a.yml"),
        (json.dumps({"cells": [{"cell_type": "code", "source": "x=1\n" * 80_000}]}), "a.ipynb"),
    ],
    ids=["minus", "attributes", "calls", "variables", "options", "pattern", "notebook"],
)  # fmt: skip
def test_work_grows_no_faster_than_the_file(text: str, name: str) -> None:
    """Each takes well under a second; work that grows as the square would take minutes, or all memory."""
    with contextlib.suppress(BadInput):
        read(text, name)


def test_options_decide_which_switches_a_step_can_have() -> None:
    reading = read(f"{FULL}optimizer_in_bwd: true\n", "a.yaml")
    for options in ({"devices": 2}, {"accumulate": 4}):
        apart = reading.on(options)
        assert "optimizer_in_bwd" in left(apart) and "updates" not in apart.step(options)
    assert "updates" in reading.on({"batch": 1}).settings
    assert reading.on({"devices": 2, "updates": "backward"}).settings["updates"], (
        "what is given is not taken away"
    )
    flash = read(f"{AXOLOTL}attn_implementation: flash_attention_2\n", "a.yml")
    assert "attention" not in flash.on({"lengths": "rows"}).settings and "attention" in flash.on({}).settings
