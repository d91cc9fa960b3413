"""Apply any PEFT ``adapter_config.json`` to any model without weights, to count whatever PEFT can express."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from peft_lab.core.errors import BadInput
from peft_lab.methods.base import CLASSIFYING, TaskType, plain_task
from peft_lab.models import meta
from peft_lab.models.catalogue import REFUSALS, ModelEntry, reason
from peft_lab.models.meta import shapes_only
from peft_lab.models.shapes import HEADS

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig

# Fields that PEFT leaves empty by default and then fails on without a clear message.
_REQUIRED = {
    "ADAPTION_PROMPT": ("adapter_len", "adapter_layers"),
    "PROMPT_TUNING": ("num_virtual_tokens",),
    "PREFIX_TUNING": ("num_virtual_tokens",),
    "P_TUNING": ("num_virtual_tokens",),
    "MULTITASK_PROMPT_TUNING": ("num_virtual_tokens", "num_tasks"),
    "CARTRIDGE": ("num_virtual_tokens",),
    "CPT": ("cpt_token_ids",),
}
# Those of them that are sizes; PEFT accepts any value and fails later, or makes an empty adapter.
_NUMBERS = frozenset({"adapter_len", "adapter_layers", "num_virtual_tokens", "num_tasks"})
_NO_ADAPTERS = (
    "X-LoRA mixes LoRA adapters that are already trained; without those folders there is nothing to count."
)
# Initialisations of LoRA that first need a pass over data or a quantiser; they train what the default one trains.
_PREPARED = ("corda", "loftq")
# Initialisations that a simulated step keeps: they read no values, or (MiCA) freeze something. Others change neither
# shapes nor what is trained, if the rank is no larger than the matrix.
_SIMULATED = ("gaussian", "orthogonal", "mica")
# Accepted by PEFT, though missing from its own list of initialisations.
_UNLISTED = frozenset({"lora_ga"})
_MOST = 10_000_000  # the limit for any number in a config; seeds are smaller, and no model is as wide
LABELS = 2  # classes of the head added when a config is for classification; a head is counted apart


def parse(entry: ModelEntry, content: Mapping[str, Any]) -> PeftConfig:
    """Return the config object for a dictionary; a missing task type becomes the model's own.

    Raises:
        BadInput: ``peft_type`` is missing or unknown, a required field is empty or no number, sizes fit another model,
            or PEFT rejects a field.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig

    kind = content.get("peft_type")
    if not isinstance(kind, str) or kind not in set(PEFT_TYPE_TO_CONFIG_MAPPING):
        raise BadInput(f"This is not a PEFT adapter config: its peft_type is {kind!r}.", "adapter_config")
    if kind == "XLORA" and not _mixes_settings(content):
        raise BadInput(_NO_ADAPTERS, "adapter_config")
    if kind == "XLORA" and entry.kind != "causal-lm":
        raise BadInput("PEFT loads the adapters that X-LoRA mixes into decoders alone.", "adapter_config")
    for name in _REQUIRED.get(kind, ()):
        value = content.get(name)
        if value is None:
            message = f"This {kind} config leaves {name} empty; without it there is nothing to count."
            raise BadInput(message, "adapter_config")
        if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            message = f"This {kind} config says {name} {value!r}; it takes a whole number from 1."
            raise BadInput(message, "adapter_config")
    _check_values(entry, kind, content)
    task = task_of(entry, content)
    # The base is the model requested, whatever the file was made with.
    values = {
        **content,
        "task_type": None if task == "IMAGE_CLS" else task,
        "inference_mode": False,
        "base_model_name_or_path": None,
    }
    try:
        config = PeftConfig.from_peft_type(**values)
    except (TypeError, ValueError, KeyError, ImportError) as error:
        raise BadInput(f"PEFT does not accept this {kind} config: {error}", "adapter_config") from error
    if config.is_prompt_learning:
        _check_sizes(entry, kind, config)
    return config


def _mixes_settings(content: Mapping[str, Any]) -> bool:
    """Return whether X-LoRA's adapters are given as LoRA settings, as the atlas does, rather than as folders."""
    mixed = content.get("adapters")
    return (
        isinstance(mixed, Mapping)
        and bool(mixed)
        and all(isinstance(each, Mapping) for each in mixed.values())
    )


def make_ready(model: Any, config: PeftConfig) -> None:
    """Prepare a model for a config: X-LoRA runs the model twice, so its cache must be off."""
    if config.peft_type == "XLORA":
        model.config.use_cache = False


def _check_values(entry: ModelEntry, kind: str, content: Mapping[str, Any]) -> None:
    """Raise BadInput for values PEFT accepts by mistake: unknown tasks and starts, sizes beyond any model."""
    for problem in (_task, _start, _size, _ranks, _tokens):
        found = problem(entry, kind, content)
        if found:
            raise BadInput(f"This {kind} config {found}", "adapter_config")


def _task(entry: ModelEntry, kind: str, content: Mapping[str, Any]) -> str:
    from peft import TaskType

    task = content.get("task_type")
    known = task is None or task in {each.value for each in TaskType}
    return "" if known else f"is for {task!r}, which is not one of PEFT's tasks."


def _start(entry: ModelEntry, kind: str, content: Mapping[str, Any]) -> str:
    from peft import LoraConfig

    start = content.get("init_lora_weights")
    if kind != "LORA" or not isinstance(start, str) or start.startswith("pissa_niter_"):
        return ""
    hints = get_type_hints(LoraConfig)["init_lora_weights"]
    known = {name for hint in get_args(hints) for name in get_args(hint)} | _UNLISTED
    if start in known:
        return ""
    return f"starts from {start!r}, which PEFT does not know: {', '.join(sorted(known))}."


def _size(entry: ModelEntry, kind: str, content: Mapping[str, Any]) -> str:
    for name, value in content.items():
        if isinstance(value, int) and abs(value) > _MOST:
            return f"says {name} {value:,}, which cannot be right."
    return ""


def _ranks(entry: ModelEntry, kind: str, content: Mapping[str, Any]) -> str:
    if kind != "ADAMSS" or not content.get("use_dynamic_rank"):
        return ""
    return (
        "has its ranks chosen by the singular values of the weights (use_dynamic_rank), so without the weights they "
        "cannot be counted."
    )


def _tokens(entry: ModelEntry, kind: str, content: Mapping[str, Any]) -> str:
    vocabulary, indices = entry.config.get("vocab_size"), content.get("token_indices")
    if isinstance(indices, list) and isinstance(vocabulary, int):
        for index in indices:
            if isinstance(index, int) and not 0 <= index < vocabulary:
                return f"names token {index:,}; {entry.title} has {vocabulary:,}."
    return ""


def _check_sizes(entry: ModelEntry, kind: str, config: PeftConfig) -> None:
    """Raise BadInput for a prompt config that states another model's sizes, on which PEFT would fail later."""
    from peft.utils.other import _prepare_prompt_learning_config

    blank: Any = copy.copy(config)
    blank.num_layers = blank.token_dim = blank.num_attention_heads = None
    try:
        own = _prepare_prompt_learning_config(blank, meta.make_config(entry.config))
    except REFUSALS as error:
        raise BadInput(
            f"PEFT cannot apply this {kind} config to {entry.title}: {reason(error)}", "adapter_config"
        ) from error
    # Prefixes are as wide as the keys: PEFT stores their width, and derives it from the model's own.
    right = {
        "num_layers": (own.num_layers,),
        "token_dim": (own.token_dim, entry.shape.hidden),
        "num_attention_heads": (own.num_attention_heads, entry.shape.heads),
    }
    for name, known in right.items():
        given = getattr(config, name, None)
        if given is not None and given not in known:
            raise BadInput(
                f"This {kind} config says {name} {given!r}; {entry.title} has {getattr(own, name):,}.",
                "adapter_config",
            )


def task_of(entry: ModelEntry, content: Mapping[str, Any]) -> TaskType:
    """Return the task type: classification if the config asks for it, else the model's plain task. PEFT has no task for
    images: a config that saves the head means classification."""
    if entry.kind == "vision" and HEADS[0] in (content.get("modules_to_save") or ()):
        return "IMAGE_CLS"
    return "SEQ_CLS" if content.get("task_type") == "SEQ_CLS" else plain_task(entry.kind)


def build_base(entry: ModelEntry, content: Mapping[str, Any]) -> torch.nn.Module:
    """Build the bare model on the meta device, with a head if the config is for classification."""
    labels = LABELS if task_of(entry, content) in CLASSIFYING else None
    return meta.build(meta.make_config(entry.config), entry.kind, labels)


def apply(
    entry: ModelEntry, content: Mapping[str, Any], base: torch.nn.Module | None = None
) -> torch.nn.Module:
    """Return the adapted model on the meta device.

    Args:
        base: the bare model, if the caller has one; otherwise :func:`build_base` makes it.

    Raises:
        BadInput: PEFT refuses the config for this model; the message includes PEFT's.
    """
    from peft import get_peft_model

    config = parse(entry, content)
    _drop_reads(config)
    if getattr(config, "init_lora_weights", True) in _PREPARED:
        config.init_lora_weights = True  # type: ignore[attr-defined]
    model: Any = build_base(entry, content) if base is None else base
    make_ready(model, config)
    try:
        with shapes_only():
            adapted: Any = get_peft_model(model, config)
    except REFUSALS as error:
        kind = content["peft_type"]
        raise BadInput(
            f"PEFT cannot apply this {kind} config to {entry.title}: {reason(error)}", "adapter_config"
        ) from error
    _complete(adapted)
    return adapted


def drop_values(config: Any) -> None:
    """Remove, for a simulated step, settings that read values, and reset the start; what is trained does not change."""
    start = getattr(config, "init_lora_weights", True)
    if isinstance(start, str) and start not in _SIMULATED:
        config.init_lora_weights = True
    _drop_reads(config)


def _drop_reads(config: Any) -> None:
    """Reset settings that read a tokenizer, files or random positions; none of them changes a shape."""
    if hasattr(config, "prompt_tuning_init"):
        config.prompt_tuning_init = "RANDOM"
    if hasattr(config, "progressbar"):
        config.progressbar = False
    if config.peft_type == "SHIRA":
        # Without a mask PEFT creates no positions; their number follows from the weights' (see _complete).
        config.mask_fn = None


def note(content: Mapping[str, Any]) -> str | None:
    """Return, in one sentence, how the real count may differ; ``None`` if the count is exact."""
    if content.get("peft_type") == "ADAMSS":
        return (
            "AdaMSS sorts the rows of each matrix into clusters by their values. Without the weights, clusters of "
            "equal size are counted; with uneven ones a little less is trained."
        )
    if content.get("init_lora_weights") == "eva":
        return (
            "EVA moves ranks between matrices once it has seen your data, which changes the count; this is the count "
            "before."
        )
    return None


def _complete(adapted: Any) -> None:
    """Add SHiRA's stored positions: two integers per weight."""
    import torch

    for module in adapted.modules():
        if hasattr(module, "shira_indices"):
            for name, weight in module.shira_weight.items():
                module.shira_indices[name] = torch.empty(2, weight.numel(), dtype=torch.int, device="meta")
