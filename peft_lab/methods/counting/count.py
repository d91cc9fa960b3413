"""Count parameters: apply a method, or any PEFT ``adapter_config.json``, on the meta device and read the parameters.

Torch is imported inside; pages call this through the inspector process (:mod:`peft_lab.core.inspector`).
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast, get_args, get_type_hints

from peft_lab.core.errors import BadInput
from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods import get_method
from peft_lab.methods.base import Formula
from peft_lab.models import meta
from peft_lab.models.catalogue import REFUSALS, reason, resolve
from peft_lab.models.heads import CLASSIFYING, TaskType, task_type
from peft_lab.models.meta import GroupCount, clean_path, read_tree, safetensors_bytes, shapes_only
from peft_lab.models.quantise import quantised
from peft_lab.models.shapes import CLASSIFIERS, HEADS, ModelEntry, ModelShape, in_head

if TYPE_CHECKING:
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
# Initialisations of LoRA that first need a pass over data or a quantiser; they train what the default one trains.
_PREPARED = ("corda", "loftq")
# Initialisations that a simulated step keeps: they read no values, or (MiCA) freeze something. Others change neither
# shapes nor what is trained, if the rank is no larger than the matrix.
_SIMULATED = ("gaussian", "orthogonal", "mica")
# Accepted by PEFT, though missing from its own list of initialisations.
_UNLISTED = frozenset({"lora_ga"})
_MOST = 10_000_000  # the limit for any number in a config; seeds are smaller, and no model is as wide
CONFIG_LABELS = 2  # classes of the head added when a config is for classification; a head is counted apart


def _bad(message: str) -> BadInput:
    return BadInput(message, "adapter_config")


def parse_config(entry: ModelEntry, content: Mapping[str, Any]) -> PeftConfig:
    """Return the config object for a dictionary; a missing task type becomes the model's own.

    Raises:
        BadInput: ``peft_type`` is missing or unknown, a required field is empty or no number, sizes fit another model,
            or PEFT rejects a field.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig

    kind = content.get("peft_type")
    if not isinstance(kind, str) or kind not in set(PEFT_TYPE_TO_CONFIG_MAPPING):
        raise _bad(f"This is not a PEFT adapter config: its peft_type is {kind!r}.")
    if kind == "XLORA":
        # Adapters are given as LoRA settings, as the atlas does, or as folders.
        mixed = content.get("adapters")
        if not (
            isinstance(mixed, Mapping) and mixed and all(isinstance(each, Mapping) for each in mixed.values())
        ):
            raise _bad(
                "X-LoRA mixes LoRA adapters that are already trained. Without their folders there is nothing to count."
            )
        if entry.kind != "causal-lm":
            raise _bad("X-LoRA mixes several adapters. PEFT can load these adapters only into decoders.")
    for name in _REQUIRED.get(kind, ()):
        value = content.get(name)
        if value is None:
            raise _bad(f"This {kind} config leaves {name} empty, so there is nothing to count.")
        if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise _bad(f"This {kind} config has {name} {value!r}; it must be a whole number from 1.")
    for mistake in _mistakes(entry, kind, content):
        raise _bad(f"This {kind} config {mistake}")
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
        raise _bad(f"PEFT does not accept this {kind} config: {error}") from error
    if config.is_prompt_learning:
        _check_sizes(entry, kind, config)
    return config


def make_ready(model: Any, config: PeftConfig) -> None:
    """Prepare a model for a config: X-LoRA runs the model twice, so its cache must be off."""
    if config.peft_type == "XLORA":
        model.config.use_cache = False


def _mistakes(entry: ModelEntry, kind: str, content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what PEFT accepts by mistake: unknown tasks and starts, sizes beyond any model, ranks chosen by weights."""
    from peft import LoraConfig
    from peft import TaskType as Tasks

    task, start = content.get("task_type"), content.get("init_lora_weights")
    if task is not None and task not in {each.value for each in Tasks}:
        yield f"is for {task!r}, which is not a task of PEFT."
    if kind == "LORA" and isinstance(start, str) and not start.startswith("pissa_niter_"):
        hints = get_type_hints(LoraConfig)["init_lora_weights"]
        known = {name for hint in get_args(hints) for name in get_args(hint)} | _UNLISTED
        if start not in known:
            yield f"starts from {start!r}, which PEFT does not know. Known: {', '.join(sorted(known))}."
    for name, value in content.items():
        if isinstance(value, int) and abs(value) > _MOST:
            yield f"has {name} {value:,}, which is out of range."
    if kind == "ADAMSS" and content.get("use_dynamic_rank"):
        yield (
            "lets the singular values of the weights choose its ranks (use_dynamic_rank), so it cannot be counted "
            "without the weights."
        )
    indices, vocabulary = content.get("token_indices"), entry.config.get("vocab_size")
    if not isinstance(indices, list) or not isinstance(vocabulary, int):
        return
    for index in indices:
        if isinstance(index, int) and not 0 <= index < vocabulary:
            yield f"names token {index:,}, but {entry.title} has only {vocabulary:,} tokens."


def _check_sizes(entry: ModelEntry, kind: str, config: PeftConfig) -> None:
    """Raise BadInput for a prompt config that states another model's sizes, on which PEFT would fail later."""
    from peft.utils.other import _prepare_prompt_learning_config

    blank: Any = copy.copy(config)
    blank.num_layers = blank.token_dim = blank.num_attention_heads = None
    try:
        own = _prepare_prompt_learning_config(blank, meta.make_config(entry.config))
    except REFUSALS as error:
        raise _bad(f"PEFT cannot apply this {kind} config to {entry.title}: {reason(error)}") from error
    # Prefixes are as wide as the keys: PEFT stores their width, and derives it from the model's own.
    right = {
        "num_layers": (own.num_layers,),
        "token_dim": (own.token_dim, entry.shape.hidden),
        "num_attention_heads": (own.num_attention_heads, entry.shape.heads),
    }
    for name, known in right.items():
        given = getattr(config, name, None)
        if given is not None and given not in known:
            has = getattr(own, name)
            raise _bad(f"This {kind} config has {name} {given!r}, but {entry.title} has {has:,}.")


def task_of(entry: ModelEntry, content: Mapping[str, Any]) -> TaskType:
    """Return the task type: classification if the config asks for it, else the model's plain task. PEFT has no task for
    images: a config that saves the head means classification. Tokens are classified by encoders only."""
    if entry.kind == "vision" and HEADS[0] in (content.get("modules_to_save") or ()):
        return "IMAGE_CLS"
    if content.get("task_type") == "TOKEN_CLS" and entry.kind == "encoder":
        return "TOKEN_CLS"
    return "SEQ_CLS" if content.get("task_type") == "SEQ_CLS" else task_type(entry.kind)


def build_base(entry: ModelEntry, content: Mapping[str, Any]) -> torch.nn.Module:
    """Build the bare model on the meta device, with a head if the config is for classification."""
    task = task_of(entry, content)
    labels = CONFIG_LABELS if task in CLASSIFYING else None
    return meta.build(meta.make_config(entry.config), entry.kind, labels, per_token=task == "TOKEN_CLS")


def apply_config(
    entry: ModelEntry, content: Mapping[str, Any], base: torch.nn.Module | None = None
) -> torch.nn.Module:
    """Return the adapted model on the meta device.

    Args:
        base: the bare model, if the caller has one; otherwise :func:`build_base` makes it.

    Raises:
        BadInput: PEFT refuses the config for this model; the message includes PEFT's.
    """
    from peft import get_peft_model

    config = parse_config(entry, content)
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
        raise _bad(f"PEFT cannot apply this {kind} config to {entry.title}: {reason(error)}") from error
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
            "AdaMSS clusters the rows of each matrix by their values. Without the weights, clusters of equal size are "
            "counted; uneven clusters train slightly fewer parameters."
        )
    if content.get("init_lora_weights") == "eva":
        return (
            "EVA moves ranks between matrices after it has read your data, which changes the count. This is the count "
            "before that."
        )
    return None


def _complete(adapted: Any) -> None:
    """Add SHiRA's stored positions to the adapted model: two integers per weight."""
    for module in adapted.modules():
        if hasattr(module, "shira_indices"):
            for name, weight in module.shira_weight.items():
                module.shira_indices[name] = torch.empty(2, weight.numel(), dtype=torch.int, device="meta")


# ----------------------------------------
# Explain a difference between the closed formula and the count: places the formula misses, and those PEFT leaves out.


_NAMED = 3  # places named in a sentence; the rest is summed


def difference(formula: Formula, tree: Iterable[GroupCount]) -> str | None:
    """Return one sentence with the places and their parameters that differ; ``None`` if formula and count agree.

    Args:
        tree: the counted model's groups; those trained by the method are compared.
    """
    groups = tuple(tree)
    trained = [group for group in groups if group.role == "method"]
    bare = {group.module for group in groups if not group.added}
    counted = sum(group.parameters for group in trained)
    if counted == formula.trainable:
        return None
    surplus: Counter[str] = Counter()
    for term in formula.terms:
        surplus[term.module] -= term.total
    for group in trained:
        path = f"{group.module}.{group.name}"
        place = (
            _longest((term.module for term in formula.terms), path) or _longest(bare, path) or group.module
        )
        surplus[place] += group.parameters
    more = {place: number for place, number in surplus.items() if number > 0}
    less = {place: -number for place, number in surplus.items() if number < 0}
    parts = []
    if more:
        parts.append(f"PEFT trains {_listed(more)} that the formula does not include")
    if less:
        parts.append(f"the formula includes {_listed(less)} that PEFT does not train")
    sentence = ", and ".join(parts)
    return f"The formula gives {formula.trainable:,}, the count {counted:,}: {sentence}. The count is right."


def _longest(places: Iterable[str], path: str) -> str:
    """Return the longest of the places that are a prefix of a path; empty if none is."""
    return max((place for place in places if f"{path}.".startswith(f"{place}.")), key=len, default="")


def _listed(places: dict[str, int]) -> str:
    largest = sorted(places, key=lambda place: -places[place])
    shown = [f"{places[place]:,} in {place.rpartition('{}.')[2]}" for place in largest[:_NAMED]]
    if len(largest) > _NAMED:
        shown.append(f"{sum(places[place] for place in largest[_NAMED:]):,} elsewhere")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


__all__ = ["CountReport", "GroupCount", "clean_path", "count", "count_config", "safetensors_bytes"]


@dataclass(frozen=True)
class CountReport:
    """The result of a count. ``trainable`` and ``total`` exclude a task head, which is reported in ``head``.

    Attributes:
        stored_bytes: the size of the saved ``adapter_model.safetensors``: header and tensors.
        formula: the closed form's trainable count, ``None`` if there is none (a bare adapter config).
        difference: why formula and count differ, as a sentence; ``None`` if they agree.
        lora_fa: trained parameters under LoRA-FA's optimizer, which freezes A; ``None`` for methods other than LoRA.
        note: how the real count may differ, as a sentence.
        tree: every parameter group of the adapted model, frozen ones included.
    """

    model: str
    method: str
    trainable: int
    total: int
    percent: float
    stored_bytes: int
    stored_parameters: int
    formula: int | None
    head: int
    tree: tuple[GroupCount, ...] = field(repr=False)
    difference: str | None = None
    lora_fa: int | None = None
    note: str | None = None
    seconds: float = 0.0
    source: str = "counted"

    @property
    def groups(self) -> tuple[GroupCount, ...]:
        """Return the trained groups only."""
        return tuple(group for group in self.tree if group.role != "frozen")

    def as_dict(self) -> dict[str, Any]:
        """Return the command line's JSON (the contract's fields, head and stored parameters)."""
        plain = {key: value for key, value in asdict(self).items() if key != "tree"}
        rows = [
            {"module": f"{g.module}.{g.name}", "count": g.count, "parameters": g.parameters, "role": g.role}
            for g in self.groups
        ]
        return {**plain, "groups": rows}


@meta.uncollected()
def count(
    model: str, method: str, values: Values, num_labels: int | None = None, per_token: bool = False
) -> CountReport:
    """Count one method on one model.

    Args:
        model: catalogue name, Hugging Face id or local path.
        values: the method's knobs; missing ones get their defaults for the model.
        num_labels: adds a classification head, counted apart. per_token: it labels every token, not the row.

    Raises:
        BadInput: the values cannot be applied; the message gives the reason.
    """
    start = time.perf_counter()
    entry, spec = resolve(model), get_method(method)
    if num_labels is not None and entry.kind not in CLASSIFIERS:
        raise BadInput("A classification head is for encoders only; causal models train on text.", "task")
    full = spec.require(entry.shape, values)
    base = meta.build(meta.make_config(entry.config), entry.kind, num_labels, per_token=per_token)
    shape = entry.shape
    if num_labels is not None:  # a classifier may differ from the bare model: RoBERTa's has no pooler
        whole = meta.read_shape(base, cast(Any, base.config), entry.kind, entry.name, entry.title)
        shape = replace(whole, groups=tuple(group for group in whole.groups if not in_head(group.path)))
    bare = frozenset(name for name, _ in base.named_parameters())
    small = {path for g in quantised(shape) for path in g.paths} if spec.quantization(full) else set()
    task = task_type(entry.kind, num_labels is not None, per_token)
    adapted = spec.apply(base, entry.shape, full, task)
    tree = read_tree(adapted, bare, with_head=num_labels is not None, quantised=small)
    report = _report(entry, spec.slug, tree, spec.state(adapted))
    formula = spec.formula(shape, full)
    return replace(
        report,
        formula=formula.trainable,
        difference=difference(formula, tree),
        lora_fa=_under_lora_fa(tree) if spec.low_rank else None,
        note=_without_pooler(shape, full.get("target_modules")) if num_labels is None else None,
        seconds=time.perf_counter() - start,
    )


@meta.uncollected()
def count_config(model: str, adapter_config: Mapping[str, Any]) -> CountReport:
    """Count any PEFT adapter config (the content of an ``adapter_config.json``) on one model. Raises BadInput: this is
    no PEFT config, or PEFT cannot apply it to this model; the message gives PEFT's reason."""
    start = time.perf_counter()
    entry = resolve(model)
    base = build_base(entry, adapter_config)
    bare = frozenset(name for name, _ in base.named_parameters())
    adapted = apply_config(entry, adapter_config, base)
    from peft import get_peft_model_state_dict

    with shapes_only():
        state = dict(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    with_head = task_of(entry, adapter_config) in CLASSIFYING
    tree = read_tree(adapted, bare, with_head=with_head)
    kind = str(adapter_config["peft_type"])
    left = None if with_head else _without_pooler(entry.shape, adapter_config.get("target_modules"))
    notes = (note(adapter_config), _frozen(tree), left)
    report = _report(entry, kind.lower(), tree, state)
    return replace(
        report,
        lora_fa=_under_lora_fa(tree) if kind == "LORA" else None,
        note=" ".join(filter(None, notes)) or None,
        seconds=time.perf_counter() - start,
    )


def _without_pooler(shape: ModelShape, targets: Any) -> str | None:
    """Return a sentence on the pooler of a bare image model if PEFT would adapt it; counts are of its classifier."""
    named = (targets,) if isinstance(targets, str) else targets or ()
    if shape.model_type not in meta.POOLING or not {"all-linear", "dense", "pooler.dense"} & set(named):
        return None
    return (
        f"These targets also reach the pooler of the bare model, a map of {shape.hidden} by {shape.hidden}. The "
        "pooler is not counted, because an image classifier has none."
    )


def _under_lora_fa(tree: Iterable[GroupCount]) -> int:
    """Count what PEFT's ``create_lorafa_optimizer`` leaves trained: it freezes parameters with lora_A in their name."""
    return sum(
        group.parameters
        for group in tree
        if group.role == "method" and "lora_A" not in f"{group.module}.{group.name}"
    )


def _frozen(tree: Iterable[GroupCount]) -> str | None:
    """Return a sentence on parameters that PEFT adds but does not train, as MiCA's B; ``None`` if there are none."""
    kept = [group for group in tree if group.role == "frozen" and group.added]
    if not kept:
        return None
    names = sorted(
        {
            group.module.rstrip(".0123456789").rpartition(".")[2] if group.name == "weight" else group.name
            for group in kept
        }
    )
    total = sum(group.parameters for group in kept)
    return f"PEFT also adds {total:,} frozen parameters ({', '.join(names)})."


def _report(
    entry: ModelEntry, method: str, tree: tuple[GroupCount, ...], state: Mapping[str, torch.Tensor]
) -> CountReport:
    trainable = sum(group.parameters for group in tree if group.role == "method")
    head = sum(group.parameters for group in tree if group.role == "head")
    total = sum(group.parameters for group in tree) - head
    return CountReport(
        model=entry.name,
        method=method,
        trainable=trainable,
        total=total,
        percent=100 * trainable / total,
        stored_bytes=safetensors_bytes(state),
        stored_parameters=sum(tensor.numel() for tensor in state.values()),
        formula=None,
        head=head,
        tree=tree,
    )
