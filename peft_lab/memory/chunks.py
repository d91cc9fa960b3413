"""torch's cross entropy in chunks (:mod:`peft_lab.training.chunked`), made visible to a simulation.

torch hides its loop in one operation, whose implementation without values makes the results and none of the buffers in
between. Here the loop itself is run, with the buffers and kernels that the device in question would use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft_lab.replacing import Replacement

_MODULE = "torch.nn.modules.linear_cross_entropy"
LOOP = Replacement(
    "chunked loop",
    _MODULE,
    "_linear_cross_entropy_batch_chunked",
    "The operation's form without values makes its results alone: the chunks of logits, its largest part, are missing.",
)
BUFFERS = Replacement(
    "chunk buffers",
    _MODULE,
    "_ChunkContext.build",
    "Which buffers it takes goes by the device of its input, which is none here.",
)
SIZES = Replacement(
    "chunk sizes",
    "torch.nn",
    "LinearCrossEntropyOptions._adjust",
    "How large its chunks are goes by the device of its input, which is none here.",
)


class _Named(str):
    """Where tensors without values are made, called by the name of the device that they stand for."""

    type: str


class _Described:
    """What is asked of an input before the loop begins."""

    def __init__(self, tensor: Any, device: str) -> None:
        self.shape, self.dtype = tensor.shape, tensor.dtype
        self.device = _Named("meta")
        self.device.type = device


@contextmanager
def visible(device: str) -> Iterator[None]:
    """For as long as steps are simulated on ``device``, ``cuda`` or ``cpu``.

    Raises:
        PeftLabError: the installed torch has no such loss.
    """
    import torch
    from torch.nn.modules import linear_cross_entropy as own

    build: Any = BUFFERS.original()
    accumulate: Any = own._linear_cross_entropy_batch_chunked_accumulator
    adjust: Any = SIZES.original()

    class Loop(torch.autograd.Function):
        setup_context = staticmethod(own._linear_cross_entropy_batch_chunked_setup_context)
        backward = staticmethod(own._linear_cross_entropy_batch_chunked_backward)

        @staticmethod
        def forward(*args: Any) -> Any:
            *inputs, _, of_input, of_weight, of_bias = args
            return accumulate(*inputs, of_input, of_weight, of_bias)

    def built(tensor: Any, *args: Any, **options: Any) -> Any:
        context = build(_Described(tensor, device), *args, **options)
        context.input = tensor
        return context

    def sized(options: Any, *args: Any, **more: Any) -> Any:
        return adjust(options, *args, **{**more, "device": torch.device(device)})

    with LOOP.by(Loop.apply), BUFFERS.by(built), SIZES.by(sized):
        yield
