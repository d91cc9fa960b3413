"""QLoRA: LoRA beside a base that is stored in 4 bits, or 8 (Dettmers et al. 2023, arXiv 2305.14314, section 3).

    h = dequantise(W_4bit) x + (alpha / r) B A x

              x ----------------+
              |                 |
        [ W in NF4 ]          [ A r x d_in ]     A and B in 16 or 32 bits, trained
        | + constants |         |
        | -> bf16     |       [ B d_out x r ]
              |                 | * alpha / r
              +------( + )------+
                       |
                       h

Every block of 64 weights is divided by its largest magnitude and rounded to 16 values; double quantisation stores those
magnitudes in 8 bits too. Each forward and backward pass rebuilds W block by block: memory is saved, not time. In 8 bits
(LLM.int8(), Dettmers et al. 2022, arXiv 2208.07339) every row has one scale, x is rounded too, and the forward pass
multiplies integers; only the backward pass rebuilds W.
Parameters: LoRA's. The paper adapts every linear map (section 4), which is the default here; PEFT's own is q and v.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.base import Part, Problem
from peft_lab.methods.lora.spec import Lora
from peft_lab.methods.shared import targets
from peft_lab.models import quantise
from peft_lab.models.heads import TaskType
from peft_lab.models.quantise import Quantization
from peft_lab.models.shapes import ModelShape

BLOCK = 64  # weights that share one constant (section 3)
BASE_FILE = "base_quantization.json"


class QLora(Lora):
    """LoRA on a base stored in 4 or 8 bits. By default it adapts all linear maps, as in the paper."""

    slug = "qlora"

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        """Return the defaults: all linear maps, named one by one if some are routers that cannot be adapted."""
        own = {knob.name: knob.default for knob in self.knobs}
        routers = {shape.target_name(group) for group in targets.unfit_maps(shape)}
        if routers:
            own["target_modules"] = tuple(name for name in shape.target_names if name not in routers)
        return own

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        yield from super().check(shape, values)
        yield from _whole(shape)
        if values["load_in_8bit"]:
            return
        ragged = next((group for group in quantise.quantised(shape) if group.in_features % BLOCK), None)
        if ragged is not None:
            yield Problem(
                "bnb_4bit_quant_type",
                f"{ragged.path.split('.')[-1]} of {shape.title} has {ragged.in_features} inputs, which is not a "
                f"multiple of the block size {BLOCK}. bitsandbytes' CPU kernels decode such maps wrongly. Use a GPU.",
                "warning",
            )

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        how = self.quantization(values)
        size = {"bits": how.bits, "double": int(how.double)} | ({"block": BLOCK} if how.bits == 4 else {})
        base = tuple(
            Part("quantised", group.path, how.kind.upper(), size)
            for group in quantise.quantised(shape)
            if group.layers
        )
        return base + super().parts(shape, values)

    def quantization(self, values: Values) -> Quantization:
        if values["load_in_8bit"]:
            return quantise.INT8
        return Quantization(
            bits=4,
            kind=values["bnb_4bit_quant_type"],
            double=values["bnb_4bit_use_double_quant"],
            compute_dtype=values["bnb_4bit_compute_dtype"],
        )

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        """Apply as :meth:`MethodSpec.apply`; a model with values that is not quantised yet is quantised first."""
        if quantise.needs_quantising(model):
            quantise.quantise(model, self.quantization(values))
        quantise.settle(model)
        return super().apply(model, shape, values, task_type)

    def save(self, model: torch.nn.Module, directory: Path) -> None:
        super().save(model, directory)
        how = quantise.read_back(model)
        if how is not None:
            disk.write_json(
                directory / BASE_FILE, {name: getattr(how, name) for name in how.__dataclass_fields__}
            )

    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        """Load as :meth:`MethodSpec.load`; the base is quantised as it was in training."""
        noted = directory / BASE_FILE
        if noted.is_file() and quantise.needs_quantising(model):
            quantise.quantise(model, Quantization(**disk.read_json(noted)))
        quantise.settle(model)
        return super().load(model, directory)


def _whole(shape: ModelShape) -> Iterable[Problem]:
    """Yield a warning if most of the model keeps its own precision."""
    if shape.mixtures:
        yield Problem(
            "load_in_8bit",
            f"The base shrinks little: bitsandbytes quantises linear maps, but the experts of {shape.title} "
            f"({targets.expert_share(shape)} of its parameters) are bare parameters that stay as they are.",
            "warning",
        )
    elif not any(group.layers for group in quantise.quantised(shape)):
        yield Problem(
            "load_in_8bit",
            f"Quantising makes no part of {shape.title} smaller: its linear maps are of a special kind, "
            "which transformers leaves in the model's precision.",
            "warning",
        )


METHOD = QLora()


# Blocks of 64 weights share a constant (Dettmers et al. 2023, arXiv 2305.14314, section 3); int8 has a constant for
# each row (Dettmers et al. 2022, arXiv 2208.07339, section 3.1). Needs the weights, so it runs in the inspector.


BINS = 81  # an odd number, so that zero is in the middle of a bin
FORMS = ("nf4", "nf4 double", "fp4", "int8")


def ask_survey(model: str) -> Future[dict[str, Any]]:
    """Run :func:`survey` in the inspector process and return a future."""
    from peft_lab.core import inspector

    return inspector.get_inspector(inspector.Worker.ANSWERS).submit(survey, model)


def survey(model: str) -> dict[str, Any]:
    """Store every linear map of a model except its output layer in every form, and measure the result.

    Returns:
        ``modules``: for each matrix its path, shape, ``errors`` by form (norm of the loss over the matrix's norm) and
        ``histogram`` of its weights, each divided by the largest of its block (``row_histogram``: of its row), over
        [-1, 1];
        ``codes``: the 16 values of nf4 and fp4;
        ``sizes``: by form, and for the weights as loaded: bytes in memory and on disk, and bits per weight;
        ``kept``: bytes of everything else, which keeps its precision.

    Raises:
        AssetError: the weights are not on this machine.
    """
    from bitsandbytes import functional

    from peft_lab.models import loading

    base = loading.load_base(model)
    width = base.dtype.itemsize
    modules = []
    sizes = {form: {"memory": 0, "disk": 0} for form in (str(base.dtype).removeprefix("torch."), *FORMS)}
    plain = next(iter(sizes))
    weights = 0
    for path, weight in matrices(base.model, base.entry.shape):
        errors = {}
        for form in FORMS:
            restored, memory, disk = stored(weight, form)
            errors[form] = float((restored - weight).norm() / weight.norm())
            sizes[form]["memory"] += memory
            sizes[form]["disk"] += disk
        weights += weight.numel()
        modules.append(
            {
                "path": path,
                "shape": list(weight.shape),
                "errors": errors,
                "histogram": histogram(weight, BLOCK),
                "row_histogram": histogram(weight, weight.shape[1]),
            }
        )
    sizes[plain] = {"memory": weights * width, "disk": weights * width}
    everything = sum(parameter.numel() for parameter in base.model.parameters())
    return {
        "modules": modules,
        "codes": {kind: functional.get_4bit_type(kind, device="cpu").tolist() for kind in ("nf4", "fp4")},
        "sizes": {form: {**found, "bits": 8 * found["memory"] / weights} for form, found in sizes.items()},
        "weights": weights,
        "kept": (everything - weights) * width,
        "dtype": plain,
    }


def matrices(model: Any, shape: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the maps that QLoRA stores in few bits: path and weight (outputs, inputs) in float32."""
    from peft_lab.models.quantise import quantised

    for group in quantised(shape):
        for path in group.paths:
            weight = model.get_submodule(path).weight.detach().float()
            yield path, weight.T.contiguous() if group.type == "Conv1D" else weight


def stored(weight: torch.Tensor, form: str) -> tuple[torch.Tensor, int, int]:
    """Quantise a matrix and dequantise it again.

    ``weight`` has the shape (d_out, d_in), and so has the result.

    Returns:
        the dequantised matrix, bytes of its tensors in memory, and bytes of its tensors in a saved model.
    """
    from bitsandbytes import functional

    if form == "int8":
        packed, scales, _ = functional.int8_vectorwise_quant(weight)
        nbytes = packed.nbytes + scales.nbytes
        return packed.float() * scales[:, None] / 127, nbytes, nbytes
    kind, _, double = form.partition(" ")
    packed, state = functional.quantize_4bit(
        weight, blocksize=BLOCK, quant_type=kind, compress_statistics=bool(double)
    )
    restored = functional.dequantize_4bit(packed, state).float()
    disk = packed.nbytes + sum(tensor.nbytes for tensor in state.as_dict(packed=True).values())
    return restored, packed.nbytes + _constants(state), disk


def _constants(state: Any) -> int:
    """Return the bytes of all tensors besides the packed weights: constants of both levels and code books."""
    total = 0
    while state is not None:
        total += sum(value.nbytes for value in vars(state).values() if isinstance(value, torch.Tensor))
        state = state.state2 if state.nested else None
    return total


def histogram(weight: torch.Tensor, size: int) -> list[int]:
    """Count the weights in each bin, each divided by the largest magnitude of its block of ``size`` neighbours.
    ``weight`` has any shape and is read row by row."""
    blocks = weight.flatten()[: weight.numel() // size * size].reshape(-1, size)
    shares = blocks / blocks.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    counts: list[int] = torch.histc(shares, BINS, -1, 1).long().tolist()
    return counts
