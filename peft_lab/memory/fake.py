"""Tensors that have shapes and no values (torch's meta device), believed to be on a device, and its kernels.

A simulated step runs on them. Whatever is made without saying where is on the device; a tensor with values beside a
model without (what PEFT left on the CPU when it moved the adapter to the base's device) is on the host, costs the
device nothing, and has to be copied over before use, as on the real machine. torch's FakeTensorMode does the same with
more checks in Python: a step takes three to five times as long in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from peft_lab.memory import kernels, quantised, sparse, tracker
from peft_lab.memory.tracker import Recorder, Watched
from peft_lab.replacing import Replacement

if TYPE_CHECKING:
    import torch

#: Where tensors with values are.
HOST = "cpu"
_CONTAINERS = (dict, list, tuple)
MASK_READING = Replacement(
    "mask reading",
    "transformers.utils.import_utils",
    "is_fake_tensor",
    "Transformers looks whether a mask is all ones, to leave it out, unless the tensor is a fake one.",
)
PACKED_ROWS = Replacement(
    "packed rows",
    "transformers.masking_utils",
    "find_packed_sequence_indices",
    "Without a cache (checkpointing turns it off) transformers looks in the positions whether rows are packed, and "
    "takes them to be where it cannot look.",
)
FOREACH_DEVICES = Replacement(
    "foreach devices",
    "torch.utils._foreach_utils",
    "_get_foreach_kernels_supported_devices",
    "A device works on many gradients at once when it clips them; torch does so for no tensor that is on none.",
)
GROUPED_PRODUCT = Replacement(
    "grouped product",
    "torch._meta_registrations",
    "_meta_grouped_mm_common",
    "torch lays out the experts' common product without values in bfloat16 only, and computes it in float32 as well.",
)
FOLDED_STACK = Replacement(
    "folded stack",
    "peft.tuners.lora.layer",
    "_LoraFactorsProxy.forward",
    "PEFT folds a correction into a stack of experts without autocast, of which torch knows none for tensors that are "
    "on no device.",
)


def _folded(self: Any, stack: torch.Tensor) -> torch.Tensor:
    """What the library's own does: the stack, of shape (experts, out, in) as it is stored, with its correction."""
    import torch

    return torch.baddbmm(stack, self.lhs, self.rhs, alpha=self.scaling)


def _grouped_product() -> Callable[..., Any]:
    """The library's own, and in float32 the output as the library lays it out once its checks are passed."""
    import torch

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
    device: str, quantise: bool, recorder: Recorder, watched: Watched | None = None, packed: bool = False
) -> Iterator[Callable[[], Any]]:
    """Tensors without values, whose operations take the kernels of ``device``; the function given starts recording.

    ``watched``: as :func:`peft_lab.memory.tracker.recording` has it. ``packed``: whether rows are packed, as
    transformers takes all to be whose positions have no values.
    """
    import torch

    scratch: dict[Any, Any] = {}
    if device == "cuda":
        scratch = kernels.scratch()
        if quantise:
            scratch |= quantised.scratch()

    def without_values(value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.is_meta

    find_packed = PACKED_ROWS.original()

    def looked_up(positions: Any) -> Any:
        with MASK_READING.by(lambda value: False):
            return find_packed(positions)

    @contextmanager
    def begin() -> Iterator[None]:
        with kernels.attention(device), tracker.recording(recorder, scratch, watched):
            yield

    with ExitStack() as stack:
        stack.enter_context(torch.device("meta"))
        stack.enter_context(MASK_READING.by(without_values))
        if not packed:
            stack.enter_context(PACKED_ROWS.by(looked_up))
        stack.enter_context(FOREACH_DEVICES.by(lambda: ["meta"]))
        stack.enter_context(GROUPED_PRODUCT.by(_grouped_product()))
        stack.enter_context(FOLDED_STACK.by(_folded))
        stack.enter_context(sparse.sparse_as_dense())
        yield begin


def tensors_held(value: Any, depth: int = 3) -> Iterator[torch.Tensor]:
    """A tensor itself, or those in plain containers. Of any shape."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, _CONTAINERS) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_held(item, depth - 1)
