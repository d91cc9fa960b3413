"""Random settings of every method, each with the same settings written for PEFT by hand, and random adapter configs."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from peft_lab.methods import get_method
from peft_lab.models.shapes import MATRIX_TYPES, ModelShape
from tests.oracle.architectures import EXPERTS

Values = dict[str, Any]
TOKENS = ("num_virtual_tokens",)
#: Where the adapters library puts adapters, and on which models the lab does so.
LIBRARY = ("double_seq_bn", "seq_bn", "par_bn")
PER_LAYER = {
    name: {"double_seq_bn": 2, "seq_bn": 1, "par_bn": 1}
    for name in ("bert", "roberta", "xlm-roberta", "llama", "mistral", "gpt2", "t5")
}


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
    if random.random() < 0.3:
        values["use_dora"] = True
    if random.random() < 0.3:
        values["use_rslora"] = True
    if random.random() < 0.3:
        values["bias"] = random.choice(("all", "lora_only"))
    if random.random() < 0.3:
        values["init_lora_weights"] = random.choice(("gaussian", "pissa"))
    if targets not in (None, ("all-linear",)) and random.random() < 0.3:
        values["rank_pattern"] = f"{random.choice(targets or ())}={random.choice((1, 5))}"
    return values


def qlora(random: Random, shape: ModelShape) -> Values:
    return {name: value for name, value in lora(random, shape).items() if name in ("r", "target_modules")}


def ia3(random: Random, shape: ModelShape) -> Values:
    targets = _targets(random, shape)
    if targets in (None, ("all-linear",)):
        return {}
    return {
        "target_modules": targets,
        "feedforward_modules": tuple(name for name in targets or () if random.random() < 0.5),
    }


def prompt(random: Random, shape: ModelShape) -> Values:
    return {"num_virtual_tokens": random.choice((1, 3, 8))}


def prefix(random: Random, shape: ModelShape) -> Values:
    values = prompt(random, shape)
    if random.random() < 0.4:
        values |= {"prefix_projection": True, "encoder_hidden_size": random.choice((6, 16))}
    return values


def ptuning(random: Random, shape: ModelShape) -> Values:
    values = prompt(random, shape) | {"encoder_hidden_size": random.choice((6, 16))}
    if random.random() < 0.3:
        return values | {"version": "v2"}
    if random.random() < 0.4:
        values |= {"encoder_reparameterization_type": "LSTM", "encoder_num_layers": random.choice((1, 2))}
    return values


def adapters(random: Random, shape: ModelShape) -> Values:
    papers = ("houlsby", "pfeiffer", "parallel")
    # mostly where there are any: a refusal proves little
    known = shape.model_type in PER_LAYER or random.random() < 0.1
    return {
        "placement": random.choice((*papers, *LIBRARY) if known else papers),
        "bottleneck": random.choice((1, 4, 9)),
    }


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


def bitfit(random: Random, shape: ModelShape) -> Values:
    return {"subset": random.choice(("all", "query_mlp"))}


def full(random: Random, shape: ModelShape) -> Values:
    return {}


METHODS = {
    "lora": lora, "qlora": qlora, "ia3": ia3, "prompt": prompt, "prefix": prefix, "ptuning": ptuning,
    "adapters": adapters, "bitfit": bitfit, "full": full,
}  # fmt: skip


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
    tokens = {name: values[name] for name in TOKENS if name in values}
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
    "ADALORA": {"total_step": 100},
    "ADAPTION_PROMPT": {"adapter_len": 5, "adapter_layers": 1},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "P_TUNING": {"num_virtual_tokens": 4},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 4, "num_tasks": 2},
    "CARTRIDGE": {"num_virtual_tokens": 4},
    "C3A": {"block_size": 4},
    "FOURIERFT": {"n_frequency": 10},
    "WAVEFT": {"n_frequency": 10},
    "MISS": {"r": 4},
    "OFT": {"oft_block_size": 4},
    "PSOFT": {"r": 4},
    "ROAD": {"group_size": 4},
    "SHIRA": {"r": 2},
    "TRAINABLE_TOKENS": {"token_indices": [0, 1, 2]},
    "VBLORA": {"vector_length": 4, "num_vectors": 16, "topk": 2, "r": 2},
}
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
                {"kasa_config": {}},
                {"velora_config": {}},
                {"monteclora_config": {}},
                {"lora_bias": True},
                {"use_dora": True},
                {"bias": "all"},
                {"alora_invocation_tokens": [1, 2]},
                {"layers_to_transform": [0]},
                {"trainable_token_indices": [1, 2]},
                {"modules_to_save": ["lm_head"]},
                {"exclude_modules": ["v_proj"]},
                {"use_qalora": True},
            )
        )
    return content
