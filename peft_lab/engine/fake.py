"""Run a step on tensors that have shapes but no values (torch's meta device), with the kernels of a real device.

A tensor created without a device is on the simulated one. A tensor with values beside a model without them (what PEFT
left on the CPU when it moved the adapter to the base's device) is on the host: it takes no device memory and has to be
copied before use, as on the real machine. torch's FakeTensorMode does the same with more checks in Python: a step takes
three to five times as long in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from peft_lab.core.errors import Replacement
from peft_lab.core.later import torch
from peft_lab.engine import kernels, tracker
from peft_lab.engine.kernels import REPLACED
from peft_lab.engine.tracker import MemoryRecorder, Watched
from peft_lab.models.meta import untrained_adapter
from peft_lab.models.quantise import kept_whole
from peft_lab.models.shapes import in_head

# bitsandbytes' parameter class rejects tensors without values, so a linear layer gets a plain packed parameter and a
# quantisation state of such tensors; the operations are the library's (they have fake implementations).


BLOCK = 64  # weights per constant (bitsandbytes quantize_4bit, blocksize)
NESTED_BLOCK = 256  # constants per constant of the second level (quantize_blockwise in quantize_4bit)
_CODE_4BIT = 16
_CODE_8BIT = 256
#: Output heads stay in 16 bits (transformers' get_keys_to_not_convert)
_KEPT = ("lm_head", "score", "classifier", "embed_out")
#: Rows up to which the fused 4-bit kernel always runs on large matrices; above, the matrix is dequantised first
#: (_gemm_4bit_use_custom_cuda in bitsandbytes/backends/cuda/ops.py).
_FUSED_ROWS = 512


def quantise_meta(
    model: torch.nn.Module,
    bits: int,
    kind: str = "nf4",
    double: bool = True,
    compute: torch.dtype | None = None,
) -> None:
    """Replace the linear layers of a meta model by quantised ones, with packed sizes. 4-bit layers compute in
    ``compute`` (None: the precision of their weights). Output heads stay whole, and so do the layers that an
    architecture needs whole. The model is marked ``is_loaded_in_4bit`` or ``is_loaded_in_8bit``, which PEFT reads."""
    from transformers.pytorch_utils import Conv1D

    config: Any = model.config
    kept = (*_KEPT, *kept_whole(config.model_type))
    for name, module in list(model.named_modules()):
        for child_name, child in list(module.named_children()):
            path = f"{name}.{child_name}" if name else child_name
            whole = path.rpartition(".")[2] in kept or in_head(path)
            plain = type(child) is torch.nn.Linear or isinstance(child, Conv1D)
            if plain and not whole:
                setattr(module, child_name, _quantised(child, bits, kind, double, compute))
    setattr(model, f"is_loaded_in_{bits}bit", True)
    model.is_quantized = True  # type: ignore[assignment]
    model.quantization_method = "bitsandbytes"  # type: ignore[assignment]


def _quantised(
    linear: Any, bits: int, kind: str, double: bool, compute: torch.dtype | None
) -> torch.nn.Module:
    out_features, in_features = linear.weight.shape
    if not isinstance(linear, torch.nn.Linear):  # GPT-2's Conv1D stores its matrix transposed
        out_features, in_features = in_features, out_features
    dtype = linear.weight.dtype
    bias = linear.bias is not None
    new: Any
    with torch.device("meta"):
        if bits == 4:
            how = {"compute_dtype": compute or dtype, "compress_statistics": double, "quant_type": kind}
            new = _four_bit_class()(in_features, out_features, bias, **how)
            packed = torch.empty(-(-out_features * in_features // 2), 1, dtype=torch.uint8)
        else:
            new = _eight_bit_class()(in_features, out_features, bias, has_fp16_weights=False)
            packed = torch.empty(out_features, in_features, dtype=torch.int8)
        new.weight = torch.nn.Parameter(packed, requires_grad=False)
    weight = new.weight
    if bits == 4:
        weight.compress_statistics, weight.quant_type, weight.quant_state = double, kind, None
        weight.blocksize, weight.quant_storage, weight.bnb_quantized = BLOCK, torch.uint8, True
    if bias:
        new.bias = linear.bias
        if bits == 4 and compute is not None:
            # The first forward pass casts it permanently.
            new.bias.data = new.bias.data.to(compute)
    new.sim_dtype = dtype
    return new


def make_states(model: torch.nn.Module) -> set[int]:
    """Give each quantised layer its constants (``sim_constants``) on a fake device; return their storages."""
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    made: list[torch.Tensor] = []
    storages: set[int] = set()

    def new(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        made.append(torch.empty(shape, dtype=dtype))
        return made[-1]

    for module in model.modules():
        if isinstance(module, Linear4bit):
            blocks = -(-module.out_features * module.in_features // BLOCK)
            weight: Any = module.weight
            common = {
                "shape": torch.Size((module.out_features, module.in_features)),
                "dtype": module.sim_dtype,
                "blocksize": BLOCK,
                "quant_type": weight.quant_type,
                "code": new(_CODE_4BIT, dtype=torch.float32),
            }
            if weight.compress_statistics:
                single: Any = {"dtype": torch.float32}
                absmax, code = new(-(-blocks // NESTED_BLOCK), **single), new(_CODE_8BIT, **single)
                inner = QuantState(absmax=absmax, code=code, blocksize=NESTED_BLOCK, **single)
                scales = new(blocks, dtype=torch.uint8)
                state = QuantState(absmax=scales, offset=new(**single), state2=inner, **common)
            else:
                state = QuantState(absmax=new(blocks, dtype=torch.float32), **common)
            module.sim_state = weight.quant_state = state  # type: ignore[assignment]
        elif isinstance(module, Linear8bitLt):
            module.state.CB, module.state.SCB = module.weight, new(module.out_features, dtype=torch.float32)
            module.state.threshold, module.state.has_fp16_weights = 0.0, False
        if made:
            module.sim_constants = list(made)  # type: ignore[assignment]
            storages.update(tensor.untyped_storage()._cdata for tensor in made)
            made.clear()
    return storages


@cache  # one class for all layers, so that lookups by class are cached
def _four_bit_class() -> Any:
    from bitsandbytes.autograd._functions import MatMul4Bit
    from bitsandbytes.nn.modules import Linear4bit

    class SimulatedLinear4bit(Linear4bit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            given = x.dtype
            x = x.to(self.compute_dtype)
            bias = None if self.bias is None else self.bias.to(self.compute_dtype)
            out: torch.Tensor = MatMul4Bit.apply(x, self.weight, None, bias, self.sim_state)
            return out.to(given)

    return SimulatedLinear4bit


@cache
def _eight_bit_class() -> Any:
    from bitsandbytes.autograd import _functions
    from bitsandbytes.autograd._functions import MatMul8bitLt
    from bitsandbytes.nn.modules import Linear8bitLt

    # It logs at every multiplication that it works in float16.
    _functions.logger.setLevel("ERROR")

    class SimulatedLinear8bitLt(Linear8bitLt):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = MatMul8bitLt.apply(x, self.weight, None, self.bias, self.state)
            return out

    return SimulatedLinear8bitLt


#: The device type of tensors with values.
HOST = "cpu"
_CONTAINERS = (dict, list, tuple)
MASK_READING = REPLACED["mask reading"]
PACKED_ROWS = REPLACED["packed rows"]
FOREACH_DEVICES = REPLACED["foreach devices"]
GROUPED_PRODUCT = REPLACED["grouped product"]
FOLDED_STACK = REPLACED["folded stack"]


def _folded(self: Any, stack: torch.Tensor) -> torch.Tensor:
    """Return the stored stack, of shape (experts, out, in), with its correction added, as PEFT's own function does."""
    return torch.baddbmm(stack, self.lhs, self.rhs, alpha=self.scaling)


def _grouped_product() -> Callable[..., Any]:
    """Return the library's product, extended to float32: its result then gets the layout that the library gives."""
    own = GROUPED_PRODUCT.original()
    from torch._meta_registrations import _create_grouped_mm_output_tensor as laid_out

    def product(mat_a: torch.Tensor, mat_b: torch.Tensor, scale_a: Any, scale_b: Any, **more: Any) -> Any:
        single = mat_a.dtype == mat_b.dtype == torch.float32
        if single and scale_a is None and scale_b is None and more.get("bias") is None:
            return laid_out(mat_a, mat_b, more.get("offs"), more.get("out_dtype"))
        return own(mat_a, mat_b, scale_a, scale_b, **more)

    return product


@contextmanager
def fake_device(
    device: str,
    quantise: bool,
    recorder: MemoryRecorder,
    watched: Watched | None = None,
    packed: bool = False,
) -> Iterator[Callable[[], Any]]:
    """Create tensors without values and run operations as on ``device``; yield a context that records them.
    ``watched``: as in :func:`peft_lab.engine.tracker.recording`. ``packed``: rows are (else transformers sees
    positions without values as such)."""

    def gemm(inputs: torch.Tensor, packed: torch.Tensor, shape: Any, *_: Any, **__: Any) -> int:
        """Return the bytes of the matrix that 4-bit multiplication rebuilds on CUDA for many rows (its gemm_4bit)."""
        size: int = shape[0] * shape[1] * inputs.element_size()
        return size if inputs.numel() // inputs.shape[-1] > _FUSED_ROWS else 0

    scratch: dict[Any, Any] = kernels.scratch() if device == "cuda" else {}
    if scratch and quantise:
        scratch[torch.ops.bitsandbytes.gemm_4bit.default] = gemm
    find_packed = PACKED_ROWS.original()

    def looked_up(positions: Any) -> Any:
        with MASK_READING.by(lambda value: False):
            return find_packed(positions)

    @contextmanager
    def begin() -> Iterator[None]:
        with (
            kernels.attention(device),
            kernels.dropout(device),
            tracker.recording(recorder, scratch, watched),
        ):
            yield

    with ExitStack() as stack:
        stack.enter_context(torch.device("meta"))
        stack.enter_context(MASK_READING.by(lambda value: isinstance(value, torch.Tensor) and value.is_meta))
        if not packed:
            stack.enter_context(PACKED_ROWS.by(looked_up))
        stack.enter_context(FOREACH_DEVICES.by(lambda: ["meta"]))
        stack.enter_context(GROUPED_PRODUCT.by(_grouped_product()))
        stack.enter_context(FOLDED_STACK.by(_folded))
        stack.enter_context(kernels.sparse_as_dense())
        yield begin


def tensors_held(value: Any, depth: int = 3) -> Iterator[torch.Tensor]:
    """Yield the tensor itself, or those inside plain containers, of any shape."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, _CONTAINERS) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_held(item, depth - 1)


# ----------------------------------------
# Answers to CPT's questions about values, for a text whose tokens are all labels.
#
# CPT sorts tokens by kind (template, input, label), so the number of tokens in its loss depends on values. Tensors
# without values cannot tell that number, but if every token is a label it is known, and with it every shape: those of
# a text of the same length without padding.


_KINDS = 4  # token kinds, which CPT numbers per example: 1 to 4, 5 to 8 ...


def true_entries(kinds: list[int], length: int) -> Mapping[tuple[int, int], int]:
    """Return how many entries per row of CPT's masks are true, by the mask's dimensions and row length, for a prompt
    with these ``kinds`` (``cpt_tokens_type_mask``) and a text of ``length`` tokens."""
    virtual = len(kinds)
    labels = length + sum(kind > 0 and kind % _KINDS == 0 for kind in kinds[1:])
    whole = virtual + length - 1  # the loss is over every token but the first
    moved = sum(kind > 0 and kind % _KINDS != 0 for kind in kinds)
    return {(2, length): length, (2, whole): labels, (1, whole): labels, (1, virtual): moved}


@contextmanager
def known_text(config: Any, length: int) -> Iterator[None]:
    """Answer CPT's questions about values while steps on rows of ``length`` tokens run; do nothing for other methods.
    Raises NotImplementedError: inside it, a mask that CPT does not make of such rows."""
    if peft_type(config) != "CPT":
        yield
        return
    from torch.utils._python_dispatch import TorchDispatchMode

    kinds = list(config.cpt_tokens_type_mask)
    known = true_entries(kinds, length)
    numbers = len({kind for kind in kinds[1:] if kind > 0 and kind % _KINDS == 0}) + 1  # and the text's own
    aten = torch.ops.aten
    puts = (aten.index_put_.default, aten._index_put_impl_.default)

    def places(mask: torch.Tensor) -> list[torch.Tensor]:
        """Return where a mask is true, as ``nonzero`` does: for each dimension a tensor of shape (true entries,)."""
        each = known.get((mask.dim(), mask.shape[-1]))
        if each is None:
            raise NotImplementedError(f"CPT asks which entries of a mask of {tuple(mask.shape)} are true")
        rows = mask.shape[0] if mask.dim() == 2 else 1
        return list(torch.empty(rows * each, mask.dim(), dtype=torch.long, device=mask.device).unbind(1))

    def without_values(value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.is_meta and value.dtype is torch.bool

    class Known(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is aten._local_scalar_dense.default and without_values(args[0]):
                return True  # asks whether any token has moved, as it has after the first step
            if func is aten._unique2.default and args[0].is_meta:
                made = args[0].new_empty(numbers)
                return made, made.new_empty(0, dtype=torch.long), made.new_empty(0, dtype=torch.long)
            if func in puts and len(args[1]) == 1 and without_values(args[1][0]) and args[2].numel() == 1:
                return aten.masked_fill_.Tensor(args[0], args[1][0], args[2])  # as torch does with one value
            if func in (aten.index.Tensor, *puts):
                args = (args[0], _spelled(args[1]), *args[2:])
            return func(*args, **(kwargs or {}))

    def _spelled(indices: Any) -> list[Any]:
        return [place for each in indices for place in (places(each) if without_values(each) else [each])]

    with Known():  # type: ignore[no-untyped-call]
        yield


# ----------------------------------------
# Stand-ins for methods that read values, which a model without weights does not have.
#
# Most PEFT methods build on the meta device and step on fake tensors unchanged. The few that read values get the
# smallest stand-in that leaves every shape and allocation of the training step unchanged; each is listed here with
# what it replaces. Training an adapter is simulated, building it is not.


#: Methods whose (small) adapter is built with real values beside the base without values: they place indices and
#: permutations by value, which the meta device would lose.
REAL_ADAPTER = frozenset({"ADAMSS", "BOFT", "FROD", "SHIRA", "UNILORA"})


def peft_type(config: Any) -> str:
    """Return the name of a PEFT config's type; ``None`` as text for a callable or without a config."""
    kind = getattr(config, "peft_type", None)
    return str(getattr(kind, "value", kind))


def needs_real_adapter(config: Any) -> bool:
    """Return whether a PEFT config (or a callable, or None) belongs to :data:`REAL_ADAPTER`."""
    return peft_type(config) in REAL_ADAPTER


def refusal(config: Any, checkpointing: bool) -> str | None:
    """Explain why a step with a PEFT config (or a callable, or None) cannot be simulated; None if it can."""
    if getattr(config, "alora_invocation_tokens", None):
        return "aLoRA starts at the invocation tokens in the text. A simulation has no text."
    if peft_type(config) == "POLY" and checkpointing:
        return (
            "Poly cannot be trained with gradient checkpointing: PEFT passes the task to its modules only in the "
            "forward pass, but checkpointing computes layers again later."
        )
    return None


@contextmanager
def standins_while_building(config: Any) -> Iterator[None]:
    """Use stand-ins while PEFT injects the adapter of ``config``; for SHiRA, replace its ``mask_fn`` too."""
    if peft_type(config) == "SHIRA":
        config.mask_fn = _first_positions
    with ExitStack() as stack:
        stack.enter_context(_copies_stay() if needs_real_adapter(config) else torch.device("meta"))
        for replacement, stand_in in _BUILDING.get(peft_type(config), ()):
            stack.enter_context(replacement.by(stand_in))
        yield


def _copies_stay() -> Any:
    """Return a mode in which copying a tensor without values to the CPU gives another tensor without values."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class CopiesStay(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            stays = func is torch.ops.aten._to_copy.default and args[0].is_meta
            return func(*args, **(kwargs or {}) | ({"device": torch.device("meta")} if stays else {}))

    return CopiesStay()  # type: ignore[no-untyped-call]


def _even_clusters(rows: torch.Tensor, num_subspaces: int, iterations: int) -> tuple[torch.Tensor, int]:
    """Replace AdaMSS's k-means over singular vectors by clusters of equal size. Real clusters differ by a few rows,
    which moves rows of B between subspaces but keeps their number."""
    count = min(num_subspaces, rows.shape[0])
    return torch.arange(rows.shape[0]) % count, count


def _shared_basis(matrices: list[torch.Tensor], regularization_alpha: float) -> torch.Tensor:
    """Replace FRoD's joint decomposition on the CPU by an empty tensor of its result's shape (inputs, inputs)."""
    width = matrices[0].shape[1]
    return torch.empty(width, width)


def _basis_coordinates(
    self: Any, basis: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace FRoD's solve against that basis by empty directions of shape (out, in) and lengths of shape (in,)."""
    return torch.empty(weight.shape), torch.empty(weight.shape[1])


def _first_positions(base_layer: torch.nn.Module, r: int, **_: Any) -> torch.Tensor:
    """Replace SHiRA's random mask by the first positions, as many as would be drawn."""
    from peft.tuners.tuners_utils import _get_in_out_features

    inputs, outputs = _get_in_out_features(base_layer)
    assert inputs is not None and outputs is not None
    mask = torch.zeros(outputs * inputs, dtype=torch.bool)
    mask[: r * (inputs + outputs)] = True
    return mask.view(outputs, inputs)


CLUSTERS = REPLACED["AdaMSS clusters"]
SHARED_BASIS = REPLACED["FRoD basis"]
BASIS_COORDINATES = REPLACED["FRoD coordinates"]
MIXED_ADAPTERS = REPLACED["X-LoRA adapters"]
_BUILDING: dict[str, tuple[tuple[Replacement, Callable[..., Any]], ...]] = {
    "ADAMSS": ((CLUSTERS, _even_clusters),),
    "XLORA": ((MIXED_ADAPTERS, untrained_adapter),),
    "FROD": ((SHARED_BASIS, _shared_basis), (BASIS_COORDINATES, _basis_coordinates)),
}
