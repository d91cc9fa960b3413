"""A plan as config files of other tools: accelerate, SkyPilot, Axolotl, LLaMA-Factory.

Every key was read in the sources of the version named here; tests check accelerate's against the library.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from peft_lab.advise.plans import script
from peft_lab.advise.plans.facts import NAME, ROWS, Facts, gather, needed, refusal
from peft_lab.advise.plans.loop import HELD, PARTS
from peft_lab.advise.plans.ranking import Planned
from peft_lab.advise.plans.steps import loading
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.recipes.rules import ALL_LINEAR
from peft_lab.engine.devices import devices
from peft_lab.engine.step import OPTIMIZER_TITLES
from peft_lab.models.catalogue import ModelEntry, resolve
from peft_lab.takeaway.snippet import hub_id

#: Versions in whose sources the keys were read.
ACCELERATE, AXOLOTL, LLAMA_FACTORY, SKYPILOT = "1.15.0", "0.19.0", "0.9.5", "0.14.1"
#: SkyPilot's names of accelerators (``sky show-gpus``); others are named by their memory.
_SKY = {
    "t4": "T4", "a10": "A10", "l4": "L4", "l40s": "L40S", "a100-40": "A100", "a100-80": "A100-80GB", "h100": "H100",
    "h200": "H200", "rtx-3060": "RTX3060", "rtx-4090": "RTX4090", "rtx-5090": "RTX5090", "rtx-6000-ada": "RTX6000-Ada",
}  # fmt: skip
#: A note on padding, whatever the recipe says.
PADDED = "Rows are padded, not packed: the plan's memory and time are of such steps."
#: A note on rows with answers, if the other tool adds no chat format.
BARE = "Prompts go in as they are; the script gives them the chat format of a tokenizer that has one."
PACKED_BY_AXOLOTL = (
    "It packs anew for every epoch, leaves out a last batch that is not full, and where it can takes torch's attention "
    "for rows of several lengths, which makes no mask."
)
PACKED_BY_FACTORY = "Its packed rows have room for one token less."
NOT_PACKED_ALIKE = (
    "LLaMA-Factory packs texts without keeping them apart: its neat_packing is for answers alone."
)
#: How Axolotl's precision differs from a full fine-tuning plan's (its ``resolve_dtype``; accelerate's
#: ``fsdp2_prepare_model``): for whole weights, and for split ones.
NARROW = (
    "Axolotl loads weights in the half precision in which it computes, and updates them there; this plan remembers "
    "them in full precision."
)
WIDE = (
    "Where FSDP2 splits weights that learn, Axolotl has accelerate widen them to full precision; this plan keeps them "
    "in half precision."
)
#: Axolotl's ``check_fsdp2_base_model_quant_rl``.
UNJUDGED = "Axolotl refuses preferences where FSDP2 splits a base in 4 bits."
#: Columns of a row that names the better of two answers.
_JUDGED = ("prompt", "chosen", "rejected")
_OPTIMIZERS = {
    "adamw": "adamw_torch", "adamw8bit": "adamw_bnb_8bit", "paged_adamw8bit": "paged_adamw_8bit",
    "paged_adamw": "paged_adamw_32bit", "sgd": "sgd",
}  # fmt: skip


def _text(about: str, content: dict[str, Any]) -> str:
    return f"# {about}\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}"


#: The command by which another launcher starts LLaMA-Factory.
_LAUNCHED = "-m llamafactory.launcher llama_factory.yaml"


def accelerate(facts: Facts, layer: str, scripted: bool = True) -> str:
    """Return the config for ``accelerate launch --config_file``.

    ``layer``: the class of the model's layers. ``scripted``: whether it launches the script, or LLaMA-Factory.
    """
    plan, what = facts.plan, f"{NAME} {ROWS}" if scripted else _LAUNCHED
    content: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "FSDP" if facts.sharded else "MULTI_GPU" if plan.devices > 1 else "NO",
        "mixed_precision": {"bfloat16": "bf16", "float16": "fp16"}[plan.dtype]
        if plan.remembered == "float32"
        else "no",
        "num_machines": 1,
        "num_processes": plan.devices,
    }
    if facts.sharded:
        content["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_transformer_layer_cls_to_wrap": layer,
            "fsdp_reshard_after_forward": True,
            "fsdp_offload_params": plan.sharding.endswith("offload"),
            "fsdp_activation_checkpointing": plan.checkpointing,
            "fsdp_cpu_ram_efficient_loading": not facts.four_bits,
            "fsdp_state_dict_type": "FULL_STATE_DICT",
        }
    return _text(f"accelerate {ACCELERATE}: accelerate launch --config_file accelerate.yaml {what}", content)


def skypilot(facts: Facts, gpu: str) -> str:
    """Return the config for ``sky launch``. The script and its rows must lie beside this file."""
    plan = facts.plan
    named = (
        _SKY.get(gpu)
        or f"{round(devices()[gpu].total / 2**30) if gpu in devices() else gpu.removesuffix('GB')}GB+"
    )
    packages = " ".join((*needed(facts), "peft"))
    content = {
        "name": "peft-plan",
        "workdir": ".",
        "resources": {"accelerators": f"{named}:{plan.devices}"},
        "setup": f"pip install {packages}\n",
        "run": f"torchrun --nproc-per-node {plan.devices} {NAME} {ROWS} out\n",
    }
    return _text(
        f"SkyPilot {SKYPILOT}: sky launch skypilot.yaml; for a gated base: sky launch --env HF_TOKEN skypilot.yaml",
        content,
    )


def _lora(facts: Facts) -> tuple[Any, bool]:
    """Return LoRA's targets, and whether they are all linear maps."""
    targets = tuple(facts.values.get("target_modules", ()))
    return list(targets), targets == (ALL_LINEAR,) or set(targets) >= set(facts.entry.shape.target_names)


def axolotl_refusal(facts: Facts) -> str:
    """Return why no Axolotl config can run this plan; empty if one can."""
    if reason := _refusal(facts):
        return reason
    if facts.method.slug == "full" and facts.sharded != (facts.plan.remembered == "float32"):
        return WIDE if facts.sharded else NARROW
    return UNJUDGED if facts.objective == "preference" and facts.sharded and facts.four_bits else ""


def _refusal(facts: Facts) -> str:
    """Return why neither Axolotl nor LLaMA-Factory can run this plan; empty if they can."""
    if facts.method.slug not in ("lora", "qlora", "full") or facts.entry.kind != "causal-lm":
        return "Axolotl and LLaMA-Factory train decoders with LoRA, QLoRA or in full."
    if facts.objective in ("rl", "embedding"):
        return "Rewards and embeddings take settings that a plan does not have."
    if facts.values.get("target_parameters"):
        return "How Axolotl and LLaMA-Factory adapt stacks of experts was not tried: the script adapts them."
    if facts.by_matrices:
        return (
            "How Axolotl and LLaMA-Factory split matrices was not tried, and of LLaMA-Factory it was reported to fail "
            "with LoRA (hiyouga/LlamaFactory, issue 10140)."
        )
    packed = facts.four_bits and facts.sharded
    if packed and loading(facts.entry.shape, facts.method.slug, facts.plan) > facts.plan.memory_bytes:
        # transformers' quantizer names the card where no device is named, and Axolotl does (cpu_ram_efficient_loading)
        return (
            "Axolotl and LLaMA-Factory load the whole packed base on each card before FSDP2 splits it, and this card "
            "does not hold it."
        )
    if facts.plan.optimizer not in _OPTIMIZERS:
        title = OPTIMIZER_TITLES[facts.plan.optimizer].partition(" with")[0]
        return (
            f"What Axolotl and LLaMA-Factory call {title} is not what the plan simulates, or they have none."
        )
    return ""


def factory_refusal(facts: Facts) -> str:
    """Return why no LLaMA-Factory config can run this plan; empty if one can."""
    return _refusal(facts) or (NOT_PACKED_ALIKE if facts.plan.packed and facts.objective == "cpt" else "")


def axolotl(facts: Facts, layer: str) -> str:
    """Return the config for ``axolotl train``."""
    plan = facts.plan
    content: dict[str, Any] = {"base_model": hub_id(facts.entry)}
    if facts.objective == "preference":
        columns = {f"field_{name}": name for name in _JUDGED} | {
            f"{name}_format": f"{{{name}}}" for name in _JUDGED
        }
        content |= {"rl": "dpo", "datasets": [{"path": ROWS, "ds_type": "json", "type": columns}]}
    elif facts.objective == "cpt":
        content |= {"datasets": [{"path": ROWS, "ds_type": "json", "type": "completion"}]}
    else:
        fields = {"field_instruction": "prompt", "field_output": "completion", "format": "{instruction}"}
        content |= {"datasets": [{"path": ROWS, "ds_type": "json", "type": fields}], "train_on_inputs": False}
    content |= {"sequence_len": plan.seq, "sample_packing": plan.packed, "pad_to_sequence_len": False}
    if plan.packed:  # else it may choose an attention that ignores where rows end
        content |= {"attn_implementation": "sdpa"}
    if facts.method.slug != "full":
        names, every = _lora(facts)
        content |= {"adapter": facts.method.slug, "load_in_4bit": facts.four_bits}
        content |= {"lora_r": facts.values["r"], "lora_alpha": facts.values["lora_alpha"]}
        content |= {
            "lora_dropout": facts.values.get("lora_dropout", 0.0),
            "peft_use_rslora": bool(facts.values.get("use_rslora")),
        }
        content |= {"lora_target_linear": True} if every else {"lora_target_modules": names}
    content |= {
        "micro_batch_size": plan.batch,
        "gradient_accumulation_steps": plan.accumulate,
        "num_epochs": facts.said("epochs"),
        "optimizer": _OPTIMIZERS[plan.optimizer],
        "learning_rate": plan.learning_rate,
        "lr_scheduler": facts.said("schedule"),
        "warmup_ratio": facts.said("warmup"),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": plan.dtype == "bfloat16",
        "fp16": plan.dtype == "float16",
        "gradient_checkpointing": plan.checkpointing and not facts.sharded,
        "val_set_size": HELD,
        "eval_batch_size": plan.batch,
        **dict.fromkeys(("eval_steps", "save_steps"), 1 / PARTS),  # of all updates
        "load_best_model_at_end": False,  # the default is true if it evaluates as often as it saves
        "seed": 0,
        "output_dir": "out",
    }
    if plan.packed:  # held-out rows are few: not packed, as in the script
        content["eval_sample_packing"] = False
    if plan.offload:  # layers' inputs, as in the script
        content["activation_offloading"] = "hidden_states"
    if plan.loss == "chunked":  # Liger's is of the same kind as the script's
        content |= {
            "plugins": ["axolotl.integrations.liger.LigerPlugin"],
            "liger_fused_linear_cross_entropy": True,
        }
    if facts.sharded:
        content |= {
            "fsdp_version": 2,
            "fsdp_config": {
                "offload_params": plan.sharding.endswith("offload"),
                "cpu_ram_efficient_loading": not facts.four_bits,
                "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "transformer_layer_cls_to_wrap": layer,
                "state_dict_type": "FULL_STATE_DICT",
                "reshard_after_forward": True,
                "activation_checkpointing": plan.checkpointing,
            },
        }
    about = PACKED_BY_AXOLOTL if plan.packed else PADDED
    if facts.objective != "cpt":
        about += f" {BARE}"
    return _text(f"Axolotl {AXOLOTL}: axolotl train axolotl.yaml. {about}", content)


def _template(facts: Facts) -> dict[str, str]:
    """Return LLaMA-Factory's template for a row: unset for a chat model, whose own it finds; else one that only
    adds an end token after the row. Its ``default`` writes "Human:" and "Assistant:" around every row, its
    ``empty`` omits the end token."""
    words = re.split(r"[-_/]", hub_id(facts.entry).lower())
    return {} if {"instruct", "chat", "it"} & set(words) else {"template": "fewshot"}


def llama_factory(facts: Facts) -> str:
    """Return the config for ``llamafactory-cli train``; ``dataset_info.json`` names its data set."""
    plan = facts.plan
    pure = facts.method.slug == "full" and plan.remembered == "bfloat16"
    stage = {"preference": "dpo", "cpt": "pt"}.get(facts.objective, "sft")
    content: dict[str, Any] = {
        "model_name_or_path": hub_id(facts.entry),
        "stage": stage,
        "do_train": True,
        "finetuning_type": "full" if facts.method.slug == "full" else "lora",
    }
    if facts.method.slug != "full":
        names, every = _lora(facts)
        content |= {
            "lora_rank": facts.values["r"],
            "lora_alpha": facts.values["lora_alpha"],
            "lora_dropout": facts.values.get("lora_dropout", 0.0),
            "lora_target": "all" if every else ",".join(names),
            "use_rslora": bool(facts.values.get("use_rslora")),
        }
    if facts.four_bits:
        content |= {"quantization_bit": 4, "quantization_type": "nf4", "double_quantization": True}
    content |= {
        "dataset": "rows",
        "dataset_dir": ".",
        **_template(facts),
        "cutoff_len": plan.seq,
        **(
            {"packing": True, "neat_packing": True, "flash_attn": "sdpa"}
            if plan.packed
            else {"packing": False}
        ),
        "per_device_train_batch_size": plan.batch,
        "gradient_accumulation_steps": plan.accumulate,
        "num_train_epochs": float(facts.said("epochs")),
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": facts.said("schedule"),
        "warmup_ratio": facts.said("warmup"),
        "optim": _OPTIMIZERS[plan.optimizer],
        "max_grad_norm": 1.0,
        # with both, accelerate widens what FSDP2 splits to float32
        "bf16": plan.dtype == "bfloat16" and not pure,
        "fp16": plan.dtype == "float16",
        "pure_bf16": pure,
        # what is split is checkpointed as accelerate.yaml says: with both, layers would be made three times
        "disable_gradient_checkpointing": facts.sharded or not plan.checkpointing,
        "val_size": HELD,
        "per_device_eval_batch_size": plan.batch,
        **dict.fromkeys(("eval_strategy", "save_strategy"), "steps"),
        **dict.fromkeys(("eval_steps", "save_steps"), 1 / PARTS),  # of all updates
        "seed": 0,
        "output_dir": "out",
    }
    if plan.offload:  # the tool has that function
        content["use_unsloth_gc"] = True
    if plan.loss == "chunked":  # Liger's is of the same kind as the script's
        content["enable_liger_kernel"] = True
    start = (
        f"accelerate launch --config_file accelerate.yaml {_LAUNCHED}"
        if facts.sharded
        else "llamafactory-cli train llama_factory.yaml"
    )
    about = PACKED_BY_FACTORY if plan.packed else PADDED
    if facts.objective != "cpt" and _template(facts):
        about += f" {BARE}"
    return _text(f"LLaMA-Factory {LLAMA_FACTORY}: {start}. {about}", content)


# ----------------------------------------
# All files that run a plan, by name; for those that cannot be written, the reason.


_DATE = (1980, 1, 1, 0, 0, 0)
ABOUT = {
    NAME: "the training itself: plain libraries, with the lab's own step. One row in twenty is "
    "held out; after every tenth of the updates it prints their loss and keeps a checkpoint; the same call goes on",
    "accelerate.yaml": "the same ranks for accelerate",
    "skypilot.yaml": "rents the GPUs and starts the script, for SkyPilot",
    "axolotl.yaml": "the same settings for Axolotl",
    "llama_factory.yaml": "the same settings for LLaMA-Factory",
    "dataset_info.json": "where LLaMA-Factory finds the rows",
}


@dataclass(frozen=True)
class Written:
    """The files' texts by name, and the reasons for missing files by name."""

    files: Mapping[str, str]
    missing: Mapping[str, str]

    @property
    def reasons(self) -> dict[str, tuple[str, ...]]:
        """Return the missing files by reason, so that a shared reason is given once."""
        found: dict[str, tuple[str, ...]] = {}
        for name, reason in self.missing.items():
            found[reason] = (*found.get(reason, ()), name)
        return found

    def zipped(self) -> bytes:
        """Return all files as one zip archive; equal plans make equal bytes."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in self.files.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), text)
        return made.getvalue()


def write(fields: Mapping[str, Any], planned: Planned) -> Written:
    """Return the files of a plan that fits. Imports torch; pages call it in another process.

    Raises:
        BadInput: settings that cannot be written.
    """
    wanted = Wanted(**fields)
    assert planned.plan is not None
    entry = resolve(wanted.model)
    facts = gather(entry, planned.candidate.method, planned.plan, wanted.situation().purpose)
    layer = layer_class(entry) if facts.sharded else ""
    files: dict[str, str] = {}
    missing: dict[str, str] = {}
    reason = refusal(facts)
    if reason:
        missing[NAME] = reason
    else:
        files[NAME] = script.script(facts)
        files["accelerate.yaml"] = accelerate(facts, layer)
        files["skypilot.yaml"] = skypilot(facts, wanted.gpu)
    reason = axolotl_refusal(facts)
    if reason:
        missing["axolotl.yaml"] = reason
    else:
        files["axolotl.yaml"] = axolotl(facts, layer)
    reason = factory_refusal(facts)
    if reason:
        missing["llama_factory.yaml"] = reason
    else:
        files["llama_factory.yaml"] = llama_factory(facts)
        files["dataset_info.json"] = _dataset(facts.objective)
        if facts.sharded and NAME in missing:  # LLaMA-Factory is launched with it
            files["accelerate.yaml"] = accelerate(facts, layer, scripted=False)
    return Written(files, missing)


def layer_class(entry: ModelEntry) -> str:
    """Return transformers' class names of a model's layers. Builds the model without values; imports torch.

    Raises:
        BadInput: transformers does not name them.
    """
    import torch
    from transformers import AutoModel

    from peft_lab.core.errors import BadInput
    from peft_lab.models import meta

    with torch.device("meta"):
        model = AutoModel.from_config(meta.make_config(entry.config))
    names = sorted(model._no_split_modules or ())
    found = {type(module).__name__ for module in model.modules()} & set(names)
    if not found:
        raise BadInput(f"transformers does not say what the layers of {entry.title} are called.", "model")
    return ",".join(sorted(found))


def _dataset(objective: str) -> str:
    columns = {"prompt": "text"} if objective == "cpt" else {"prompt": "prompt", "response": "completion"}
    rows: dict[str, Any] = {"file_name": ROWS, "columns": columns}
    if objective == "preference":
        rows |= {"ranking": True, "columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}}
    return json.dumps({"rows": rows}, indent=2) + "\n"
