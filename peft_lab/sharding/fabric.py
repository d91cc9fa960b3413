"""Devices that are not there: a process group that reaches nobody, and what torch asks of a device that has streams.

torch's distributed code asks a module named after the device (``torch.cuda``) for streams and events. Tensors without
values are on the device ``meta``, which has no such module: :class:`Streams` is it for a while. It also tells the
recorder which stream memory is taken in, as an allocator serves each from its own pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft_lab.memory.tracker import Recorder
from peft_lab.replacing import Replacement

META_PARAMETERS = Replacement(
    "meta parameters",
    "torch.distributed.fsdp._fully_shard._fsdp_param_group",
    "FSDPParamGroup._validate_no_meta_params",
    "FSDP2 wants parameters with values before it trains.",
)


class _Event:
    """Nothing is waited for: tensors without values are ready at once."""

    def record(self, *_: Any) -> None:
        pass

    wait = synchronize = record


class _Stream:
    def __init__(self, number: int) -> None:
        self.number = number

    def record_event(self, *_: Any) -> _Event:
        return _Event()

    def wait_stream(self, *_: Any) -> None:
        pass

    wait_event = wait_stream


class Streams:
    """What ``torch.cuda`` is to a CUDA device."""

    Event = _Event

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._streams = [_Stream(0)]

    def Stream(self, **_: Any) -> _Stream:
        """A new stream."""
        self._streams.append(_Stream(len(self._streams)))
        return self._streams[-1]

    @contextmanager
    def stream(self, stream: _Stream) -> Iterator[None]:
        """What is made meanwhile is made in this stream."""
        before, self._recorder.stream = self._recorder.stream, stream.number
        try:
            yield
        finally:
            self._recorder.stream = before

    def current_stream(self, *_: Any) -> _Stream:
        """The one in which things are made now."""
        return self._streams[self._recorder.stream]

    def current_device(self) -> int:
        """This one."""
        return 0

    def device_count(self) -> int:
        """In one machine, as torch guesses what an exchange costs."""
        return 8


@contextmanager
def process_group(devices: int, rank: int = 0) -> Iterator[Any]:
    """A group of so many processes of which this is the one of this rank, and whose others are nobody; gives its mesh.

    Raises:
        ValueError: this process is in a group already.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.debug import _clear_sharding_prop_cache
    from torch.testing._internal.distributed.fake_pg import FakeStore

    def forget() -> None:
        """torch remembers the shapes of a process's parts, and takes itself for the same process for ever."""
        if rank:
            _clear_sharding_prop_cache()

    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=devices)
    forget()
    try:
        yield init_device_mesh("meta", (devices,))
    finally:
        dist.destroy_process_group()
        forget()


@contextmanager
def streams(recorder: Recorder) -> Iterator[None]:
    """The device without values has streams, and FSDP2 takes it for one."""
    import torch

    torch.meta = Streams(recorder)  # type: ignore[attr-defined]
    try:
        with META_PARAMETERS.by(lambda group: None):
            yield
    finally:
        del torch.meta  # type: ignore[attr-defined]
