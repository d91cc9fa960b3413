"""Build models without their weights, on torch's meta device, and list an adapted model's parameter groups: one row
for the same parameter in all layers, under bare names. Torch is imported inside."""

from __future__ import annotations

import copy
import gc
import json
import math
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from peft_lab.core.errors import BadInput
from peft_lab.core.later import torch
from peft_lab.models import shapes as structure
from peft_lab.models.heads import AUTO_CLASSES, task_type
from peft_lab.models.shapes import Mixture, ModelKind, ModelShape, ModuleGroup, in_head

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_ACTIVATIONS = ("hidden_act", "activation_function", "hidden_activation", "dense_act_fn")
_HEADS = ("num_attention_heads", "n_head", "num_heads")
#: Image models whose bare model has a pooler that their classifier lacks.
POOLING = ("vit",)
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")


@contextmanager
def uncollected() -> Iterator[None]:
    """Disable the garbage collector, which would scan a growing model again and again while it is built or run. It
    scans everything torch has loaded as well: 0.3 s, as long as a simulation."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def make_config(config: Mapping[str, Any]) -> PretrainedConfig:
    """Return a transformers config from its stored dictionary (``config.json`` as published). Raises BadInput:
    ``model_type`` is missing, or the installed transformers does not know it."""
    from transformers import AutoConfig

    values = dict(config)
    model_type = values.pop("model_type", None)
    if not model_type:
        raise BadInput("This config has no model_type, so the architecture is unknown.", "model")
    try:
        made: PretrainedConfig = AutoConfig.for_model(model_type, **values)
        forget_kernels(made)
        return made
    except ValueError as error:
        raise BadInput(
            f"The installed transformers does not know the architecture '{model_type}'.", "model"
        ) from error


def forget_kernels(config: PretrainedConfig) -> None:
    """Leave the choice of attention and expert kernels to transformers.

    A config may name kernels that are not installed, or a repository to load them from, which would run its code;
    parameters and shapes do not depend on it.
    """
    for name in ("_attn_implementation", "_experts_implementation"):
        setattr(config, name, None)  # also sets it on nested configs


def build(
    config: PretrainedConfig,
    kind: ModelKind,
    num_labels: int | None = None,
    dtype: Any = None,
    per_token: bool = False,
) -> torch.nn.Module:
    """Build the model of ``config`` on the meta device: 0.1 to 0.4 s at any size.

    Args:
        kind: ``causal-lm``, ``encoder``, ``seq2seq`` or ``vision``.
        num_labels: if given, adds a classification head of that many labels.
        dtype: parameter type; float32 when ``None``.
        per_token: whether the head labels every token rather than the row.
    """
    if num_labels is not None:
        config.num_labels = num_labels
    # A pooler that only serves other uses takes no part in classification; a classifier's folder has no weights for it.
    pooled = {"add_pooling_layer": False} if num_labels is None and config.model_type in POOLING else {}
    with torch.device("meta"):
        factory = auto_class(kind, num_labels is not None, per_token)
        model = factory.from_config(config, dtype=dtype or torch.float32, **pooled)
    model.tie_weights()
    head_apart(model, config)
    return model


def auto_class(kind: ModelKind, head: bool, per_token: bool = False) -> Any:
    """Return transformers' auto class for models of this kind; arguments as those of :func:`task_type`."""
    import transformers

    return getattr(transformers, AUTO_CLASSES[task_type(kind, head, per_token)])


def head_apart(model: Any, config: PretrainedConfig) -> None:
    """Give T5 1.1 and FLAN-T5 a separate output head, as their weights have, in place.

    transformers 5 ties the head of every T5 to its embeddings and unties it on seeing the weights; here there are none.
    T5 1.0 scales the input of its head, later versions do not.
    """
    head = getattr(model, "lm_head", None)
    if head is not None and config.model_type == "t5" and not getattr(config, "scale_decoder_outputs", True):
        head.weight = torch.nn.Parameter(torch.empty_like(head.weight))


def pattern_of(path: str) -> tuple[str, int | None]:
    """Replace a path's first index, the layer, by ``{}`` and return both: 'layers.3.up' -> ('layers.{}.up', 3)."""
    found = _LAYER.search(path)
    if not found:
        return path, None
    return path[: found.start()] + "{}" + path[found.end() :], int(found.group())


def read_shape(
    model: torch.nn.Module, config: PretrainedConfig, kind: ModelKind, name: str, title: str
) -> ModelShape:
    """Return a model's shape: modules that differ only in the layer index are merged into groups."""
    from torch import nn

    seen: set[int] = set()
    rows: dict[tuple[Any, ...], list[int]] = {}
    for path, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        if not own:
            continue
        tied = tuple(key for key, value in own.items() if id(value) in seen)
        seen.update(id(value) for value in own.values())
        collapsed, layer = pattern_of(path)
        shapes = tuple((key, tuple(value.shape)) for key, value in own.items())
        linear = isinstance(module, nn.Linear) and type(module) is not nn.Linear
        key = (collapsed, type(module).__name__, shapes, tied, linear, layer is None)
        rows.setdefault(key, []).append(layer or 0)
    groups = tuple(
        ModuleGroup(path, kind_, () if outside else tuple(layers), dict(shapes), tied, linear)
        for (path, kind_, shapes, tied, linear, outside), layers in rows.items()
    )
    text = config.get_text_config()
    if getattr(
        text, "is_heterogeneous", False
    ):  # Gemma 4: read what most layers have; the groups hold what differs
        text = copy.deepcopy(text)
        text.allow_global_per_layer_attribute_access = True
    # Of an image: one for each patch and each token before them.
    tables = (group.parameters.get("position_embeddings") for group in groups if kind == "vision")
    positions = next((shape[1] for shape in tables if shape is not None), None)
    hidden = _first(text, "hidden_size", "n_embd", "d_model")
    attends = _attends(model, text)
    heads = _first(text, *_HEADS) if attends else 0
    head_dim = getattr(text, "head_dim", None) or getattr(text, "d_kv", None) if attends else 0
    return ModelShape(
        name=name,
        title=title,
        kind=kind,
        model_type=config.model_type,
        hidden=hidden,
        num_layers=_first(text, "num_hidden_layers", "n_layer", "num_layers"),
        heads=heads,
        kv_heads=_kv_heads(text, heads) if attends else 0,
        head_dim=hidden // heads if head_dim is None else head_dim,
        intermediate=_first(text, "intermediate_size", "n_inner", "d_ff", default=0) or 4 * hidden,
        vocab=0 if kind == "vision" else text.vocab_size,
        max_positions=positions or _positions(text),
        activation=_first(text, *_ACTIVATIONS, default="gelu"),
        groups=groups,
        mixtures=_mixtures(model, groups, text, hidden),
        renamed=_renamed(config.model_type),
    )


def _attends(model: Any, text: Any) -> bool:
    """Return whether the model has keys and values to attend to: Mamba, RWKV and their kin carry a state instead.
    Mamba-2 calls parts of its state heads, RWKV calls its mixing attention: neither uses both words."""
    if not getattr(model, "_is_stateful", False):
        return True
    named = any("attention" in type(module).__name__.lower() for module in model.modules())
    return named and any(getattr(text, name, None) is not None for name in _HEADS)


def _kv_heads(config: Any, heads: int) -> int:
    """Return the number of key heads: one in Falcon's first form; its second form repeats them before caching."""
    if config.model_type == "falcon":
        return 1 if config.multi_query and not config.new_decoder_architecture else heads
    return getattr(config, "num_key_value_heads", None) or heads


def _mixtures(
    model: torch.nn.Module, groups: Sequence[ModuleGroup], config: Any, hidden: int
) -> tuple[Mixture, ...]:
    """Return the feed-forward parts that hold stacked experts or a list of experts."""
    inside: dict[tuple[str, tuple[int, ...]], list[ModuleGroup]] = {}
    numbers: dict[str, set[int]] = {}
    for group in groups:
        if found := structure.listed_experts(group.path):
            numbers.setdefault(found[0], set()).add(found[1])
            inside.setdefault((found[0], group.layers), [])
        elif group.layers and structure.is_expert_stack(group.type, group.parameters):
            inside.setdefault((group.path.rpartition(".")[0], group.layers), []).append(group)
    per_token = _first(
        config, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", default=None
    )
    return tuple(
        _mixture(model, groups, path, layers, stacks, len(numbers.get(path, ())), per_token, hidden)
        for (path, layers), stacks in inside.items()
    )


def _mixture(
    model: torch.nn.Module,
    groups: Sequence[ModuleGroup],
    path: str,
    layers: tuple[int, ...],
    stacks: Sequence[ModuleGroup],
    listed: int,
    per_token: int | None,
    hidden: int,
) -> Mixture:
    sides = [shape for group in stacks for shape in group.parameters.values() if len(shape) == 3]
    experts = sides[0][0] if sides else listed
    own = [
        group
        for group in groups
        if group.layers == layers
        and group.path.startswith(f"{path}.")
        and not structure.listed_experts(group.path)
    ]
    routers = (g.path for g in own if g not in stacks and g.parameters.get("weight") == (experts, hidden))
    # transformers marks experts stored as (in, out); Llama 4's are stored so without the mark.
    marked = any(getattr(model.get_submodule(group.paths[0]), "is_transposed", False) for group in stacks)
    flipped = bool(sides) and sides[-1][2] == hidden != sides[-1][1]  # the last one writes back to the stream
    return Mixture(
        path=path,
        layers=layers,
        experts=experts,
        per_token=per_token,
        stacks=tuple(group.path for group in stacks),
        router=next(routers, None),
        shared=tuple(group.path for group in own if group.role in ("gate", "up", "down")),
        transposed=marked or flipped,
    )


def _renamed(model_type: str) -> dict[str, str]:
    """Return the names that PEFT's LoRA renames on this architecture, from its own table."""
    from peft.utils import transformers_weight_conversion as conversion

    kinds: Mapping[str, str] = vars(conversion)["_MODEL_TO_CONVERSION_PATTERN"]
    kind = kinds.get(model_type)
    if kind not in conversion._MOE_FUSED_TARGETS:
        return {}
    return dict(conversion._MOE_TARGET_MODULE_MAPPING.get(kind, {}))


def _positions(config: Any) -> int | None:
    """Return the longest input. RoBERTa reserves two positions for padding, so it is two less than its table."""
    limit: int | None = _first(config, "max_position_embeddings", "n_positions", default=None)
    if limit is not None and limit < 0:  # XLNet's way to say that there is none
        return None
    if limit is not None and config.model_type in ("roberta", "xlm-roberta", "camembert"):
        return limit - 2
    return limit


def _first(config: Any, *names: str, default: Any = BadInput) -> Any:
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return value
    if default is BadInput:
        raise BadInput(
            f"The config of a '{config.model_type}' model has none of {', '.join(names)}.", "model"
        )
    return default


# ----------------------------------------
# Run PEFT's own set-up code on models without values, to read the shapes it creates.
#
# Everything made inside :func:`shapes_only` is on the meta device. Most tuners need no more: nothing is computed, and
# a 70B model is adapted in a fraction of a second. A few read values although no shape depends on them; each of those
# reads is replaced by a stand-in here, with the reason. A test counts every PEFT type here and on a small real model
# and asserts that the two agree.


# Filling a tensor without values would pass through several layers of torch for every adapted map.
_FILLS = frozenset((
    "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_", "trunc_normal_", "orthogonal_",
    "uniform_", "normal_", "zeros_", "ones_", "constant_", "zero_", "fill_",
))  # fmt: skip
_LOCK = threading.Lock()  # the stand-ins are set on PEFT's modules, which all threads share


@contextmanager
def shapes_only() -> Iterator[None]:
    """Create tensors on the meta device, and keep there those that library code would move to the CPU."""
    from torch.fx.experimental import _config

    with _LOCK, ExitStack() as stack:
        for owner, name, stand_in in _stand_ins():
            stack.callback(setattr, owner, name, owner.__dict__[name])
            setattr(owner, name, stand_in)
        # A boolean mask selects an unknown number of entries; assuming all is safe, as PEFT only samples from them.
        stack.enter_context(_config.patch(meta_nonzero_assume_all_nonzero=True))  # type: ignore[attr-defined]
        stack.enter_context(torch.device("meta"))
        stack.enter_context(_mode())
        yield


def untrained_adapter(lora_model: Any, adapter_name: str, model_id: Mapping[str, Any], **_: Any) -> None:
    """Replace X-LoRA's loading of an adapter's folder: add a LoRA of these settings, without weights."""
    from peft import LoraConfig

    lora_model.peft_config[adapter_name] = LoraConfig(**model_id)
    lora_model.inject_adapter(lora_model.model, adapter_name)


def _mode() -> Any:
    from torch.overrides import TorchFunctionMode

    class StayOnMeta(TorchFunctionMode):
        """Ignore copies to the CPU and initial fills; ``bincount`` returns its bins without counts."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            name = getattr(func, "__name__", "")
            if name in _FILLS:
                target = args[0] if args else kwargs["tensor"]
                if target.is_meta:
                    return target
            if name in ("cpu", "to", "bincount") and isinstance(args[0], torch.Tensor) and args[0].is_meta:
                if name == "cpu":
                    return args[0]
                if name == "bincount":
                    return torch.empty(kwargs.get("minlength", 0), dtype=torch.long, device="meta")
                args = tuple("meta" if _is_cpu(value) else value for value in args)
                kwargs = {key: "meta" if _is_cpu(value) else value for key, value in kwargs.items()}
            return func(*args, **kwargs)

    return StayOnMeta()


def _is_cpu(value: Any) -> bool:
    return (
        value == "cpu" if isinstance(value, str) else isinstance(value, torch.device) and value.type == "cpu"
    )


def _stand_ins() -> list[tuple[Any, str, Any]]:
    """Return (owner, attribute, replacement) for the places in PEFT that read values."""
    from peft.tuners.adamss import layer as adamss
    from peft.tuners.boft.layer import BOFTLayer
    from peft.tuners.cpt.model import CPTEmbedding
    from peft.tuners.lora import monteclora as lora_monteclora
    from peft.tuners.lora.layer import Embedding, LoraLayer
    from peft.tuners.lora.variants import KasaLinearVariant, MontecloraLinearVariant
    from peft.tuners.xlora import model as xlora

    def slice_pca(tensor: torch.Tensor, r: int, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return factors of the right shapes; the real values come from a decomposition of the weight."""
        batch, channels, rows, columns = tensor.shape
        rank = min(r, rows, columns)
        return torch.empty(batch, channels, rank, columns), torch.empty(batch, channels, rows, rank)

    def clustering(vectors: torch.Tensor, number: int, _: int) -> tuple[torch.Tensor, int]:
        """Return clusters of equal size: membership depends on the weights, the total size does not."""
        number = min(number, vectors.shape[0])
        return torch.arange(vectors.shape[0], device="cpu") % number, number

    def permutation(self: Any, indices: torch.Tensor) -> torch.Tensor:
        return torch.empty(len(indices), len(indices))

    def unprojected(self: Any) -> torch.Tensor:
        """Return the prompt unprojected: CPT shortens rows that have grown too long, and none has before training."""
        return self.delta_embedding.weight.detach()

    start_kasa, start_monteclora = KasaLinearVariant.init, MontecloraLinearVariant.init

    def mica(self: Any, adapter: str) -> None:
        """Check MiCA's rank: on the meta device PEFT skips MiCA's initialisation and the check with it."""
        shape = tuple(self.get_base_layer().weight.shape)
        if self.r[adapter] > min(shape):
            raise ValueError(
                f"MiCA needs a rank of at most {min(shape)} for weights of {shape}, not {self.r[adapter]}"
            )

    def kasa(module: Any, adapter_name: str, **more: Any) -> None:
        """Check KaSA's rank: as for MiCA, the truncation is postponed, and the check with it."""
        start_kasa(module, adapter_name, **more)
        shape, rank = tuple(module.get_base_layer().weight.shape), module.r[adapter_name]
        if rank >= min(shape):
            raise ValueError(f"KaSA needs a rank below {min(shape)} for weights of {shape}, not {rank}")

    def monteclora(module: Any, adapter_name: str, config: Any, **more: Any) -> None:
        """Create the sampler, whose deviations are trained; PEFT postpones it until there are values."""
        start_monteclora(module, adapter_name, config, **more)
        module.lora_monteclora_sampler[adapter_name] = MontecloraLinearVariant._create_sampler(
            module, adapter_name, config.monteclora_config
        )

    return [
        (LoraLayer, "mica_init", mica),
        (Embedding, "mica_init", mica),
        (KasaLinearVariant, "init", staticmethod(kasa)),
        (MontecloraLinearVariant, "init", staticmethod(monteclora)),
        # Random numbers drawn in advance: no parameters.
        (lora_monteclora, "BufferedMontecloraSampler", lambda *_, **__: None),
        (adamss, "slice_pca", slice_pca),
        (adamss, "clustering_Z", clustering),
        (BOFTLayer, "perm2mat", permutation),
        (CPTEmbedding, "get_projection", unprojected),
        (xlora, "_load_adapter_into_lora_model", untrained_adapter),
    ]


# Counting and drawing read this list. Nothing here imports torch at import time.


TreeRole = Literal["method", "head", "frozen"]
# Path segments that wrappers insert: PEFT's base layer, its copies of modules saved whole, the adapter's name, and the
# container of our own adapters.
_INSERTED = frozenset({"base_layer", "modules_to_save", "original_module", "default", "adapters"})
# Prefixes of the wrapped model: base_model.model for a tuner, one level deeper for X-LoRA, base_model for a prompt.
_WRAPPERS = ("base_model.lora_model.model.", "base_model.model.", "base_model.")
_SHORT = {
    "float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16",
    "int64": "I64", "int32": "I32", "uint8": "U8", "int8": "I8", "bool": "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class GroupCount:
    """Parameters of all modules that differ only in the layer index.

    Attributes:
        module: path in the bare model with ``{}`` for the layer index.
        name: the parameter's own name in its module.
        shape: of one parameter.
        parameters: of all ``count`` modules together.
        role: ``method`` (the method's own, trained), ``head`` (task head, trained) or ``frozen``.
        added: whether the method added it, rather than the bare model having it.
        quantised: whether it is stored in 4 or 8 bit.
    """

    module: str
    type: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    parameters: int
    role: TreeRole
    added: bool
    quantised: bool = False


def read_tree(
    adapted: torch.nn.Module,
    bare: Collection[str],
    *,
    with_head: bool = False,
    quantised: Collection[str] = (),
) -> tuple[GroupCount, ...]:
    """Return one row per group of like parameters, in the model's order. Tied parameters count once.

    Args:
        bare: the names of the bare model's parameters, before the method was applied.
        with_head: whether the model has a task head, whose trained parameters get a role of their own.
        quantised: paths of the modules whose weight is stored in fewer bits (in the bare model's names).
    """
    modules = dict(adapted.named_modules())
    wrapper = _wrapper(adapted, bare)
    rows: dict[tuple[Any, ...], list[int]] = {}
    for full, parameter in adapted.named_parameters():
        owner, name = _split(full)
        path, name = _place(owner, name, wrapper)
        head = with_head and in_head(path)
        copied = ".modules_to_save." in f".{full}"
        # PEFT keeps the original head beside the copy it trains and saves; only the copy is part of the model.
        if head and ".original_module." in f".{full}":
            continue
        role: TreeRole = ("head" if head else "method") if parameter.requires_grad else "frozen"
        added = not head and (copied or _join(path, name) not in bare)
        small = not added and name == "weight" and path in quantised
        pattern, _ = pattern_of(path)
        kind = "Parameter" if full.endswith(".default") else type(modules[owner]).__name__
        key = (pattern, kind, name, tuple(parameter.shape), dtype_name(parameter), role, added, small)
        rows.setdefault(key, []).append(parameter.numel())
    return tuple(
        GroupCount(module, kind, name, shape, dtype, len(sizes), sum(sizes), role, added, small)
        for (module, kind, name, shape, dtype, role, added, small), sizes in rows.items()
    )


def clean_path(path: str, wrapper: str | None = None) -> str:
    """Return a module path as in the bare model: without wrappers, inserted layers and the adapter's name.

    Args:
        wrapper: the prefix of the bare model's paths. By default a tuner's (LoRA, IA3 ...); on a model with a prompt it
            is ``base_model.`` alone.

    >>> clean_path("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default")
    'model.layers.0.self_attn.q_proj.lora_A'
    """
    for prefix in _WRAPPERS if wrapper is None else (wrapper,):
        if path.startswith(prefix):
            path = path.removeprefix(prefix)
            break
    return ".".join(part for part in path.split(".") if part not in _INSERTED)


def _wrapper(adapted: torch.nn.Module, bare: Collection[str]) -> str:
    """Return the prefix under which most parameters have the bare model's names."""
    names = [name for name, _ in adapted.named_parameters()]

    def hits(prefix: str) -> int:
        return sum(_join(*_place(*_split(name), prefix)) in bare for name in names if name.startswith(prefix))

    return max((*_WRAPPERS, ""), key=hits)


def _split(name: str) -> tuple[str, str]:
    owner, _, own = name.rpartition(".")
    return owner, own


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _place(owner: str, name: str, wrapper: str) -> tuple[str, str]:
    """Return module path and parameter name. A parameter filed under the adapter's name is named after its slot.
    ``...k_proj.ia3_l`` and ``default`` become ``...k_proj`` and ``ia3_l``."""
    path = clean_path(owner, wrapper)
    if name == "default":
        path, _, name = path.rpartition(".")
    return path, name


def dtype_name(tensor: torch.Tensor) -> str:
    """Return a tensor's type as the lab writes it, such as ``bfloat16``; the tensor may have any shape."""
    return str(tensor.dtype).removeprefix("torch.")


def safetensors_bytes(state: Mapping[str, torch.Tensor]) -> int:
    """Return the size of a safetensors file of these tensors: 8 bytes, a JSON header padded to 8, and the data.

    The tensors may have any shapes.

    Source: the safetensors format description (header length, UTF-8 JSON, data_offsets per tensor).

    Four numbers of float32 take 16 bytes, besides the header with each tensor's name, type and shape:

    >>> import torch
    >>> safetensors_bytes({"a": torch.zeros(4)}) - safetensors_bytes({"a": torch.zeros(2)})
    8
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    # safetensors sorts by decreasing alignment, then by name.
    for name, tensor in sorted(state.items(), key=lambda item: (-item[1].element_size(), item[0])):
        end = offset + tensor.numel() * tensor.element_size()
        kind = dtype_name(tensor)
        header[name] = {
            "dtype": _SHORT.get(kind, kind),
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + math.ceil(text / 8) * 8 + offset
