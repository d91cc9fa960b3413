"""Map each published run of ``published.jsonl`` to the request that a user of ``memory`` would make for it, or say why
none can be made. Nothing here is simulated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_lab.cli.memory import MemoryOptions
from peft_lab.models.catalogue import catalogue

FOLDER = Path(__file__).parent
CONFIGS = FOLDER / "configs"
Run = Mapping[str, Any]

#: Published models by the name under which they are asked: the catalogue's or that of a file in ``configs``.
MODELS = {
    "Llama-2-7b-hf": "llama-2-7b", "Llama-2-13b-hf": "llama-2-13b", "Llama-2-70b-hf": "llama-2-70b",
    "Meta-Llama-3-8B": "llama-3.1-8b", "Meta-Llama-3.1-8B": "llama-3.1-8b", "Llama-3.1-8B": "llama-3.1-8b",
    "Llama-3.1-70B": "llama-3.1-70b", "Llama-3.2-1B": "llama-3.2-1b", "Llama-3.2-3B": "llama-3.2-3b",
    "Llama-3.2-3B-Instruct": "llama-3.2-3b", "Mistral-7B-v0.1": "mistral-7b", "Mistral-7B-v0.2": "mistral-7b",
    "Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b", "PowerLM-3b": "powerlm-3b", "gpt_bigcode-santacoder": "santacoder",
    "stablelm-base-alpha-3b": "stablelm-base-alpha-3b", "phi-1_5": "phi-1_5", "phi-2": "phi-2",
    "Phi-3-mini-4k-instruct": "phi-3-mini", "falcon-7b": "falcon-7b", "gemma-2b": "gemma-2b", "gemma-7b": "gemma-7b",
    "gemma-2-2b": "gemma-2-2b", "gemma-2-9b": "gemma-2-9b", "TinyLlama-1.1B-Chat-v1.0": "tinyllama-1.1b",
    "TinyLlama-1.1B-intermediate-step-1431k-3T": "tinyllama-1.1b", "Qwen2.5-7B-Instruct": "qwen2.5-7b",
    "Qwen-1_8B": "qwen-1_8b", "Qwen-7B": "qwen-7b", "Qwen-14B": "qwen-14b", "Qwen-72B": "qwen-72b",
    "Qwen-1_8B-Chat": "qwen-1_8b", "Qwen-7B-Chat": "qwen-7b", "Qwen-14B-Chat": "qwen-14b", "Qwen-72B-Chat": "qwen-72b",
}  # fmt: skip
#: Published cards by our name. A10G, H100 with 96 GB and A100 on PCIe are other cards than those of the list.
CARDS = {
    "A100 80 GB": "a100-80", "A100-SXM4-80GB": "a100-80", "A100": "a100-80", "A100-SXM4-40GB": "a100-40",
    "L40S": "l40s", "RTX 4090": "rtx-4090", "RTX A6000": "a6000", "H200": "h200",
}  # fmt: skip
#: Links of several cards: those of the SXM boards.
LINKS = {"a100-40": "nvlink", "a100-80": "nvlink", "h200": "nvlink4"}
KINDS = {"fsdp1": "fsdp1", "fsdp2": "fsdp2", "ddp": "ddp", "zero2": "zero2", "zero3": "zero3"}
OPTIMIZERS = {
    "adamw": "adamw", "adamw (fused)": "adamw", "paged adamw": "paged_adamw", "adamw, stepped in backward": "adamw",
    "adamw 8bit, stepped in backward": "adamw8bit", "paged adamw 8bit, stepped in backward": "paged_adamw8bit",
}  # fmt: skip
#: Modules that LitGPT's targets stand for, in models that name them otherwise. Its q and v of rank r have as many
#: numbers as a fused map of rank r.
NAMES: dict[str, dict[str, list[str]]] = {
    "gpt_neox": {
        **{name: ["query_key_value"] for name in ("q_proj", "k_proj", "v_proj")}, "o_proj": ["dense"],
        "mlp": ["dense_h_to_4h", "dense_4h_to_h"], "lm_head": ["embed_out"],
    },
    "falcon": {
        **{name: ["query_key_value"] for name in ("q_proj", "k_proj", "v_proj")}, "o_proj": ["dense"],
        "mlp": ["dense_h_to_4h", "dense_4h_to_h"],
    },
    "phi3": {
        **{name: ["qkv_proj"] for name in ("q_proj", "k_proj", "v_proj")}, "mlp": ["gate_up_proj", "down_proj"],
    },
    "phi": {"o_proj": ["dense"], "mlp": ["fc1", "fc2"]},
}  # fmt: skip
#: Needs that a plain request or one of :func:`_switches` gives. Of the fused kernels the loss and RMSNorm are asked.
PLAIN = {"fp32 not upcast", "fused kernels", "activation offloading"}
LOSSES = {
    "fused linear cross entropy (Liger)": "liger", "cross entropy in 8 chunks": "torchtune",
    "cross entropy in chunks of 128 rows of logits": "litgpt",
}  # fmt: skip
#: How a step computes: in the base's type, with autocast, with float32 weights.
BFLOAT16, AUTOCAST, MIXED = {"dtype": "bfloat16"}, {"precision": "autocast-bf16"}, {"precision": "mixed-fp32"}
#: Losses that keep all logits: without them the whole one is the nearest.
NEAREST = ("torchtune", "litgpt")
LITGPT, PEFT = "LitGPT", "PEFT's method comparison, MetaMathQA"
FMS = "fms-hf-tuning with fms-acceleration"
#: 17.01 GB for all 3.8B weights in bfloat16, where AdamW's four copies take 30.6.
MISPRINTED = (
    "LitGPT config phi-3/full.yaml, 1 GPU",
    # Both apart, and left out after they had been compared: 8.70 GB for 1.24B weights (tied), whose four copies take
    # 9.9, and 16.51 for 3.21B, whose copies take 25.7 and would not fit on the A10G.
    "LitGPT config llama-3.2-1b/full.yaml, 1 GPU",
    "LitGPT config llama-3.2-3b/full.yaml, 1 GPU",
)
#: Kinds of figures that are seconds.
SPEED = ("seconds a step", "tokens a second")

OPTIONS = frozenset(MemoryOptions.fields())


@dataclass(frozen=True)
class Request:
    """What is asked of ``peft_lab.peak``.

    Attributes:
        model: of the catalogue or of ``configs``. changes: fields of its config that the tool has otherwise.
        method: a slug, or a PEFT config. settings: of the method. options: of ``memory``.
        lengths: seconds are those of the comparison's rows, whose lengths the engine knows.
        refused: why some of the run's figures cannot be asked, by kind.
    """

    model: str
    method: str | Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    lengths: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return a text that is equal for equal requests."""
        parts = [self.model, self.method, self.settings, self.options, self.changes, self.lengths]
        return json.dumps(parts, sort_keys=True)


def runs() -> list[dict[str, Any]]:
    """Return all runs of the file, of both halves."""
    return [json.loads(line) for line in (FOLDER / "published.jsonl").read_text("utf-8").splitlines()]


def config_of(model: str) -> dict[str, Any]:
    """Return a model's config, of the catalogue or of ``configs``."""
    file = CONFIGS / f"{model}.json"
    return dict(
        json.loads(file.read_text("utf-8"))["config"] if file.is_file() else catalogue()[model].config
    )


def request_of(run: Run) -> Request | str:
    """Return the request for a run, or why there is none."""
    for reason in _reasons(run):
        return reason
    if run["tool"] == PEFT:
        return _of_protocol(run)
    model = MODELS[run["model"].rpartition("/")[2]]
    method, settings = _method(run, model)
    options: dict[str, Any] = {
        "batch": run["batch"],
        "seq": run["seq"] or 1,
        "accumulate": _passes(run),
        **_numbers(run),
    }
    options |= {"optimizer": OPTIMIZERS[run["optimizer"]], "checkpointing": bool(run["checkpointing"])}
    if run["devices"] > 1:
        options |= {"devices": run["devices"], "sharding": KINDS[run["sharding"]]}
        # Fabric's no_backward_sync: the config's global batch of 16 takes four passes of a row on each of four cards.
        options |= {"no_sync": True} if run["name"].startswith("LitGPT config") else {}
    refused = {kind: reason for kind in SPEED if (reason := _no_seconds(run))}
    card = CARDS.get(run["gpu"])
    if not refused and card:
        options |= {"gpu": card} | ({"link": LINKS.get(card, "pcie")} if run["devices"] > 1 else {})
    options |= {name: value for name, value in _switches(run).items() if _takes(name, value)}
    changes = {"tie_word_embeddings": False} if run["tool"] == LITGPT else {}
    return Request(model, method, settings, options, changes, refused=refused)


def _reasons(run: Run) -> list[str]:
    """Return why a run cannot be asked at all."""
    found = [f"needs {one}" for one in run["needs"] if one not in PLAIN]
    found += [
        f"{name} {value}"
        for name, value in _switches(run).items()
        if not _takes(name, value) and value not in NEAREST
    ]
    if run["model"].rpartition("/")[2] not in MODELS:
        found.append(f"model: {run['model']}")
    if run["compiled"]:
        found.append("compiled: python -m bench.switches has the open ones")  # a minute each
    if run["optimizer"] not in OPTIMIZERS:
        found.append(f"optimizer: {run['optimizer']}")
    if run["sharding"] not in {"none", *KINDS}:
        found.append(f"sharding: {run['sharding']}")
    if run["method"] in ("adapter", "adapter_v2"):
        found.append("method: LLaMA-Adapter as LitGPT has it")
    if run["tool"] == LITGPT and run["quantization"]:  # its table's 0.41.1 and the 0.42.0 that it pinned
        found.append("bitsandbytes before 0.43.2 kept the input of every 4-bit layer")
    if run["tool"] == LITGPT and run["method"] == "lora" and run["devices"] > 1:
        found.append("peak before the model is split")  # the whole model and a share: more than on one card
    if run["model"].startswith("mistralai/Mixtral") and run["method"] == "qlora":
        found.append("experts in 4 bits: transformers 5 keeps them in 16")
    if run["name"] in MISPRINTED:
        found.append("less than weights, gradients and AdamW's states take")
    if "baseline-peft-bnb" in run["name"] and run["devices"] == 1:
        found.append("norms in float32")  # TRL called prepare_model_for_kbit_training, except under FSDP
    if run["tool"] != PEFT and not _reaches(run):
        found.append("lengths of the rows")
    return found


def _switches(run: Run) -> dict[str, Any]:
    """Return what a run has switched on beside a plain step."""
    found: dict[str, Any] = {"compile": True} if run["compiled"] else {}
    found |= {"loss": loss} if (loss := LOSSES.get(run["loss"])) else {}
    if run["tool"] == FMS and run["loss"] == "cross entropy":  # a trainer; its Granite had transformers 4.45
        copied = "transformers 4.48" in (run["version"] or "") and "bigcode" not in run["model"]
        found["loss"] = "shifted" if copied else "trainer"
    if run["name"].startswith("LitGPT config"):  # full.py has the same loss as lora.py
        found["loss"] = "litgpt"
    if found.get("loss") == "litgpt" and "gemma-2" in run["model"].replace("gemma-2b", ""):  # caps its logits
        del found["loss"]
    found |= {"norms": "fused"} if "fused kernels" in run["needs"] else {}
    found |= {"recompute": "selective"} if isinstance(run["checkpointing"], str) else {}
    found |= {"updates": "backward"} if "stepped in backward" in run["optimizer"] else {}
    return found | ({"offload": True} if "activation offloading" in run["needs"] else {})


def _passes(run: Run) -> int:
    """Return the passes per update; where a source has several without their number, two, which take as much."""
    if "pretraining" in run["name"]:  # its global batch is 32 rows with FSDP, 512 by default
        return 16 if run["sharding"] == "ddp" else 1
    known: dict[str, int] = {"VectorLM": 4, LITGPT: 2}
    return known.get(run["tool"]) or int(run["accumulate"])


def _takes(name: str, value: str | bool) -> bool:
    """Return whether an option of ``memory`` has this value."""
    if name not in OPTIONS:
        return False
    return isinstance(value, bool) or value in MemoryOptions.field(name).titles


def _reaches(run: Run) -> bool:
    """Return whether some microbatch of a run has rows of ``seq`` tokens."""
    if run["phase"] == "load":
        return True
    return run["seq"] is not None and (run["rows"] != "unequal" or run["tool"] == LITGPT)


def _no_seconds(run: Run) -> str:
    """Return why a run's seconds cannot be asked though its memory can; empty if they can."""
    if run["rows"] == "unequal":
        return "lengths of the rows"
    return "" if run["gpu"] in CARDS else f"card: {run['gpu']}"


def _numbers(run: Run) -> dict[str, str]:
    """Return the precision of products and of adapters."""
    if run["dtype"].startswith("float32"):
        return MIXED
    tool, method = run["tool"], run["method"]
    if tool.startswith(("LitGPT", "torchtune", "VectorLM")):  # the model's type throughout, adapters included
        return BFLOAT16 | ({} if method == "full" else {"adapter_dtype": "bfloat16"})
    if tool.startswith("Qwen"):
        # Its only script for all weights, finetune_ds.sh, has DeepSpeed, which keeps them in float32. With torch 2.0
        # its README asks for PEFT 0.5, which leaves adapters in float32; DeepSpeed, where it runs, casts the module.
        # The Trainer's --bf16 is autocast without DeepSpeed.
        if method == "full":
            return MIXED
        cast = run["sharding"] == "none"
        return BFLOAT16 | (AUTOCAST if cast else {"adapter_dtype": "bfloat16"})
    # fms: --bf16 beside a 4-bit base and with Liger's kernels, else torch_dtype alone; PEFT's adapters are float32.
    cast = method == "qlora" or run["needs"] or tool == "ms-swift"
    if cast and method == "full" and run["sharding"] == "fsdp1":
        return (
            MIXED  # accelerate casts what FSDP1 trains to float32 when a precision is set (#2674, from 0.30)
        )
    return BFLOAT16 | (AUTOCAST if cast else {})


def _method(run: Run, model: str) -> tuple[str | dict[str, Any], dict[str, Any]]:
    """Return the method and its settings, with targets named as the asked model names them."""
    if run["method"] == "full":
        return "full", {}
    values = {**run["values"]}
    values["target_modules"] = _targets(values.pop("target_modules", ["q_proj", "v_proj"]), model)
    qwen = run["tool"].startswith("Qwen")
    if qwen:  # one A for q, k and v together: three of two thirds the rank have as many numbers
        values["rank_pattern"] = dict.fromkeys(("q_proj", "k_proj", "v_proj"), 43)
    if values.pop("modules_to_save", None):
        saved = ["embed_tokens", "lm_head"]
        return {"peft_type": "LORA", "task_type": "CAUSAL_LM", **values, "modules_to_save": saved}, {}
    if qwen:
        values["rank_pattern"] = "q_proj=43, k_proj=43, v_proj=43"
    if run["method"] == "qlora":
        # fms-acceleration's plugin quantises twice, torchao's NF4 too.
        once = run["quantization"] == "bnb.nf4"
        values |= {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": not once}
    return run["method"], values


def _targets(names: list[str] | str, model: str) -> list[str]:
    """Return target modules under the asked model's names."""
    kind = config_of(model)["model_type"]
    if names == "all-linear":
        return ["all-linear"]
    given = list(names)
    mapped = NAMES.get(kind) or {
        "mlp": ["gate_proj", "up_proj", "down_proj"], "c_attn": ["q_proj", "k_proj", "v_proj"],
        "c_proj": ["o_proj", "down_proj"], "w1": ["up_proj"], "w2": ["gate_proj"],
    }  # fmt: skip
    if kind == "gpt_bigcode":
        return [name for name in given if name == "c_attn"]
    if "c_attn" in given and "q_proj" in given:  # fms: c_attn is for models that have one
        given.remove("c_attn")
    return list(dict.fromkeys(one for name in given for one in mapped.get(name, [name])))


#: PEFT's types of the comparison's runs.
_TYPES = {"bdlora": "LORA", "p_tuning": "P_TUNING"}


def _of_protocol(run: Run) -> Request:
    """Return the request for a run of PEFT's method comparison."""
    values = {**run["values"]}
    if run["method"] == "bdlora":
        values["use_bdlora"] = {
            "target_modules_bd_a": values.pop("lora_a_is_blockdiagonal"),
            "target_modules_bd_b": values.pop("lora_b_is_blockdiagonal"),
            "nblocks": values.pop("nblocks"),
        }
        values = {name: value for name, value in values.items() if "qalora" not in name and name != "prefix"}
    kind = _TYPES.get(run["method"], run["method"].upper())
    config = {"peft_type": kind, "task_type": "CAUSAL_LM", **values}
    card = CARDS.get(run["gpu"])
    options = {"protocol": "metamath", "batch": run["batch"]}
    refused = {} if card else dict.fromkeys(SPEED, f"card: {run['gpu']}")
    return Request("llama-3.2-3b", config, {}, options, lengths=card or "", refused=refused)
