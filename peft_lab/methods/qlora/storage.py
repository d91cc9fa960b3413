"""What storing a real base in fewer bits does to it: code books against the weights, errors, bits and bytes.

Blocks of 64 weights share a constant (Dettmers et al. 2023, arXiv 2305.14314, section 3); int8 has a constant for each
row (Dettmers et al. 2022, arXiv 2208.07339, section 3.1). Needs the model's weights. Called through the inspector.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from peft_lab.methods.qlora.spec import BLOCK

if TYPE_CHECKING:
    import torch

BINS = 81  # an odd number, so that zero is in the middle of a bin
FORMS = ("nf4", "nf4 double", "fp4", "int8")


def ask(model: str) -> Future[dict[str, Any]]:
    """Run :func:`survey` in the inspector process and return a future."""
    from peft_lab.workers import inspector

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
    import torch

    total = 0
    while state is not None:
        total += sum(value.nbytes for value in vars(state).values() if isinstance(value, torch.Tensor))
        state = state.state2 if state.nested else None
    return total


def histogram(weight: torch.Tensor, size: int) -> list[int]:
    """Count the weights in each bin, each divided by the largest magnitude of its block of ``size`` neighbours.

    ``weight`` has any shape and is read row by row.
    """
    import torch

    blocks = weight.flatten()[: weight.numel() // size * size].reshape(-1, size)
    shares = blocks / blocks.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    counts: list[int] = torch.histc(shares, BINS, -1, 1).long().tolist()
    return counts
