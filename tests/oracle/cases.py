"""Random tiny configs of many architectures, random settings of every method, each with the same settings written for
PEFT by hand, and random adapter configs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from peft_lab.methods import get_method
from peft_lab.models.shapes import MATRIX_TYPES, ModelShape

Values = dict[str, Any]
TABLES: dict[str, dict[str, Values]] = yaml.safe_load(
    Path(__file__).with_name("architectures.yaml").read_text("utf-8")
)
#: Experts that are one parameter of three dimensions, which PEFT's linear targets do not reach.
EXPERTS = (
    "mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "deepseek_v3", "llama4_text", "qwen3_next", "olmoe",
)  # fmt: skip
#: Where the adapters library puts adapters, and on which models the lab does so.
LIBRARY = ("double_seq_bn", "seq_bn", "par_bn")
PER_LAYER = {
    name: {"double_seq_bn": 2, "seq_bn": 1, "par_bn": 1}
    for name in ("bert", "roberta", "xlm-roberta", "llama", "mistral", "gpt2", "t5")
}


def architecture(random: Random) -> Values:
    """One config, as somebody's ``config.json``."""
    heads, vocab = random.choice((1, 2, 4)), random.choice((40, 64, 97))
    head = random.choice((8, 16))
    drawn = {
        "$heads": heads, "$head": head, "$hidden": heads * head, "$half": heads * head // 2, "$vocab": vocab,
        "$kv": random.choice([n for n in (1, 2, 4) if heads % n == 0]), "$inner": random.choice((16, 24, 40, 64)),
        "$layers": random.choice((1, 2, 3)), "$tied": random.random() < 0.5,
    }  # fmt: skip

    def filled(fields: Values) -> Values:
        found = filled(TABLES["forms"][fields["of"]]) if "of" in fields else {}
        value: Any
        for name, value in fields.items():
            value = random.choice(value) if isinstance(value, list) else value
            value = drawn.get(value, value) if isinstance(value, str) else value
            found |= filled(value) if name == "also" else {name: value}
        return {name: value for name, value in found.items() if value is not None and name != "of"}

    name = random.choice(tuple(TABLES["types"]))
    found = filled(TABLES["types"][name])
    if found.get("q_lora_rank") == "none":  # which is another thing than to say nothing
        found["q_lora_rank"] = None
    return {"model_type": name, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, **found}


def leaves(shape: ModelShape) -> list[str]:
    """The last names of all linear maps inside the layers."""
    groups = [group for group in shape.groups if group.type in MATRIX_TYPES and group.layers]
    return sorted({group.path.rpartition(".")[2] for group in groups})


def _targets(random: Random, shape: ModelShape) -> tuple[str, ...] | None:
    """Some names, everything, or ``None`` for the default."""
    choice = random.random()
    if choice < 0.4:
        return None
    if choice < 0.55:
        return ("all-linear",)
    names = leaves(shape) or ["missing"]
    return tuple(random.sample(names, random.randint(1, min(3, len(names)))))


def lora(random: Random, shape: ModelShape) -> Values:
    values: Values = {"r": random.choice((1, 2, 3, 4, 8, 12))}
    targets = _targets(random, shape)
    if targets is not None:
        values["target_modules"] = targets
    for name, among in (
        ("use_dora", (True,)),
        ("use_rslora", (True,)),
        ("bias", ("all", "lora_only")),
        ("init_lora_weights", ("gaussian", "pissa")),
    ):
        if random.random() < 0.3:
            values[name] = random.choice(among)
    if targets not in (None, ("all-linear",)) and random.random() < 0.3:
        values["rank_pattern"] = f"{random.choice(targets or ())}={random.choice((1, 5))}"
    return values


def settings(random: Random, slug: str, shape: ModelShape) -> Values:
    """Random knobs of a method."""
    tokens, width = random.choice((1, 3, 8)), random.choice((6, 16))
    drawn = random.random()
    if slug in ("lora", "qlora"):
        values = lora(random, shape)
        return {name: values[name] for name in values if slug == "lora" or name in ("r", "target_modules")}
    if slug == "ia3":
        targets = _targets(random, shape)
        if targets in (None, ("all-linear",)):
            return {}
        inputs = tuple(name for name in targets or () if random.random() < 0.5)
        return {"target_modules": targets, "feedforward_modules": inputs}
    if slug == "prompt":
        return {"num_virtual_tokens": tokens}
    if slug == "prefix":
        more = {"prefix_projection": True, "encoder_hidden_size": width} if drawn < 0.4 else {}
        return {"num_virtual_tokens": tokens, **more}
    if slug == "ptuning":
        values = {"num_virtual_tokens": tokens, "encoder_hidden_size": width}
        lstm = {"encoder_reparameterization_type": "LSTM", "encoder_num_layers": random.choice((1, 2))}
        return values | ({"version": "v2"} if drawn < 0.3 else lstm if drawn < 0.6 else {})
    if slug == "adapters":
        papers = ("houlsby", "pfeiffer", "parallel")
        # mostly where there are any: a refusal proves little
        known = shape.model_type in PER_LAYER or drawn < 0.1
        placement = random.choice((*papers, *LIBRARY) if known else papers)
        return {"placement": placement, "bottleneck": random.choice((1, 4, 9))}
    return {"subset": random.choice(("all", "query_mlp"))} if slug == "bitfit" else {}


def library_parameters(config: dict[str, Any], values: Values) -> int | None:
    """What the adapters library's placements train, from a model's config alone; ``None`` for another placement.

    An encoder-decoder's layers count twice, its cross-attention not at all.
    """
    each = PER_LAYER.get(config["model_type"], {}).get(values["placement"])
    if each is None:
        return None
    width = config.get("hidden_size") or config.get("n_embd") or config["d_model"]
    layers = config.get("num_hidden_layers") or config.get("n_layer") or config["num_layers"]
    layers += config.get("num_decoder_layers", 0)
    m = values["bottleneck"]
    total: int = layers * each * (2 * m * width + width + m)
    return total


METHODS = ("lora", "qlora", "ia3", "prompt", "prefix", "ptuning", "adapters", "bitfit", "full")


def peft_config(slug: str, values: Values, shape: ModelShape, task: str, conv: bool) -> Any:
    """The same settings as a PEFT config, written without the lab's own translation. ``None``: PEFT has no such method.

    Args:
        conv: whether the maps are stored the other way round, as GPT-2's.
    """
    import peft
    from peft.utils import constants

    plain: dict[str, Any] = {"task_type": task}
    targets = values.get("target_modules")
    if targets is None and slug in ("lora", "ia3"):
        tables: dict[str, dict[str, Any]] = {
            "lora": constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
            "ia3": constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
        }
        # PEFT names none, the lab does; and its own names for models with experts PEFT takes only when they are given.
        if shape.model_type not in tables[slug] or shape.model_type in EXPERTS:
            values = {**get_method(slug).defaults(shape), **values}
            targets = values["target_modules"]
    if slug in ("lora", "qlora"):
        given: Any = targets if slug == "lora" or targets else ("all-linear",)
        start = values.get("init_lora_weights", True)
        return peft.LoraConfig(
            **plain,
            r=values["r"],
            target_modules=_names(given),
            use_dora=values.get("use_dora", False),
            use_rslora=values.get("use_rslora", False),
            bias=values.get("bias", "none"),
            init_lora_weights=True if start == "default" else start,
            fan_in_fan_out=conv,
            rank_pattern=_pattern(values.get("rank_pattern", "")),
        )
    if slug == "ia3":
        feedforward = values.get("feedforward_modules")
        return peft.IA3Config(
            **plain,
            target_modules=_names(targets),
            feedforward_modules=None if feedforward is None else list(feedforward),
            fan_in_fan_out=conv,
        )
    tokens = {"num_virtual_tokens": values["num_virtual_tokens"]} if "num_virtual_tokens" in values else {}
    if slug == "prompt":
        return peft.PromptTuningConfig(**plain, **tokens)
    if slug == "prefix" or (slug == "ptuning" and values.get("version") == "v2" and shape.kind != "encoder"):
        projection = {
            name: values[name]
            for name in ("prefix_projection", "encoder_hidden_size")
            if slug == "prefix" and name in values
        }
        # PEFT takes the hidden size where nothing is said, which does not fit a T5 whose heads are narrower together
        width: dict[str, Any] = {"token_dim": shape.kv_width} if shape.kind == "seq2seq" else {}
        return peft.PrefixTuningConfig(**plain, **tokens, **projection, **width)
    if slug == "ptuning" and values.get("version") != "v2":
        encoder = {name: value for name, value in values.items() if name.startswith("encoder_")}
        return peft.PromptEncoderConfig(**plain, **tokens, **encoder)
    return None


def _names(targets: Sequence[str] | None) -> Any:
    return "all-linear" if targets == ("all-linear",) else None if targets is None else list(targets)


def _pattern(text: str) -> dict[str, int]:
    name, _, rank = text.partition("=")
    return {name: int(rank)} if name else {}


#: What a type cannot do without, or what its defaults make too large for a tiny model.
NEEDED: dict[str, Values] = {
    "ADALORA": {"total_step": 100}, "ADAPTION_PROMPT": {"adapter_len": 5, "adapter_layers": 1},
    "PROMPT_TUNING": {"num_virtual_tokens": 4}, "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "P_TUNING": {"num_virtual_tokens": 4}, "CARTRIDGE": {"num_virtual_tokens": 4},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 4, "num_tasks": 2}, "C3A": {"block_size": 4},
    "FOURIERFT": {"n_frequency": 10}, "WAVEFT": {"n_frequency": 10}, "MISS": {"r": 4}, "OFT": {"oft_block_size": 4},
    "PSOFT": {"r": 4}, "ROAD": {"group_size": 4}, "SHIRA": {"r": 2}, "TRAINABLE_TOKENS": {"token_indices": [0, 1, 2]},
    "VBLORA": {"vector_length": 4, "num_vectors": 16, "topk": 2, "r": 2},
}  # fmt: skip
#: AdaMSS depends on the values of the weights (the count says so), the others on what is no config: a trained adapter,
#: positions for a text, a data set.
LEFT_OUT = ("ADAMSS", "XLORA", "CPT", "BONE")
STARTS = (
    True, False, "gaussian", "eva", "olora", "pissa", "pissa_niter_2", "orthogonal", "mica", "lora_ga",
)  # fmt: skip


def adapter_config(random: Random, shape: ModelShape, types: Sequence[str]) -> Values:
    """The content of an ``adapter_config.json``: LoRA's family half of the time, any other type otherwise."""
    kind = "LORA" if random.random() < 0.5 else random.choice(types)
    content: Values = {"peft_type": kind, **NEEDED.get(kind, {})}
    targeted = kind not in NEEDED or kind in ("ADALORA", "C3A", "FOURIERFT", "MISS", "OFT", "ROAD", "SHIRA")
    if targeted and random.random() < 0.6:
        names = leaves(shape) or ["missing"]
        content["target_modules"] = random.sample(names, random.randint(1, min(2, len(names))))
    if kind != "LORA":
        return content
    content["r"] = random.choice((1, 2, 4, 10, 40))
    content["init_lora_weights"] = random.choice(STARTS)
    if random.random() < 0.4:
        content |= random.choice(
            (
                {"kasa_config": {}}, {"velora_config": {}}, {"monteclora_config": {}}, {"lora_bias": True},
                {"use_dora": True}, {"bias": "all"}, {"alora_invocation_tokens": [1, 2]}, {"layers_to_transform": [0]},
                {"trainable_token_indices": [1, 2]}, {"modules_to_save": ["lm_head"]},
                {"exclude_modules": ["v_proj"]}, {"use_qalora": True},
            )
        )  # fmt: skip
    return content
