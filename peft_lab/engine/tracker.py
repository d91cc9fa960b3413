"""Record every tensor storage of a run, from its allocation to its release.

A :class:`MemoryRecorder` sees each operation below autograd (:func:`recording`), notes every new storage, and learns of
its end through a weak reference; it never holds a tensor. The same code serves tensors without values (a simulation)
and real ones (a measurement). Its result is a :class:`Trace`, from which peaks, parts, the timeline and the allocator's
reserve are computed afterwards.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from peft_lab.core.later import torch
from peft_lab.engine.kernels import Known, carry_out_known
from peft_lab.engine.work import Op, Stretch, is_over_lists, operation, operations

# ----------------------------------------
# What a run did to memory, as plain data.


#: The event of torch.cuda.empty_cache(), neither a birth nor an end. Far below any ``~i``.
EMPTY_CACHE = -(2**62)


@dataclass(slots=True)
class Storage:
    """One untyped storage.

    Attributes:
        nbytes: size as requested; an allocator rounds it up.
        part: what it is for, if known when it is recorded (``weights``, ``quantisation``, ``adapter``, ``gradients``
            ...); else empty: :func:`peft_lab.engine.account.parts_of` derives it from the lifetime.
        layer: index of the repeated layer whose forward or backward allocated it, or whose parameter it belongs to;
            None outside the layers.
        logits: allocated between the output head's input and the end of its backward.
        joined: how many tensors, one per trained parameter, were joined into it in the optimizer's phase; 0 for all
            others. Its size grows with depth.
        stream: 0 for the computing stream; the others are for communication, and an allocator gives each memory of
            its own.
        module: the module that owns it or whose forward pass allocated it, if known.
    """

    nbytes: int
    part: str = ""
    layer: int | None = None
    logits: bool = False
    joined: int = 0
    stream: int = 0
    module: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """The phase, and the layer being computed (None outside the layers), from event number ``at`` on."""

    at: int
    phase: str
    layer: int | None


@dataclass(frozen=True, slots=True)
class Sent:
    """An exchange between devices in one operation: its ``kind`` (``all-gather`` ...), the bytes of the whole tensor,
    the layer computed then, and how many forward passes had begun (``turn``)."""

    kind: str
    nbytes: int
    phase: str
    layer: int | None
    turn: int


@dataclass
class Trace:
    """Events in order: ``i`` is the birth of ``storages[i]``, ``~i`` its end, EMPTY_CACHE the cache's release.

    ``sent``: exchanges between devices. ``work``: each stretch's operations. ``aside``: bytes of the model in main
    memory, by part and layer. ``walked``: a cache of :func:`peft_lab.engine.account.walk`.
    """

    storages: list[Storage] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    work: list[Stretch] = field(default_factory=list)
    aside: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    walked: list[tuple[int, str, int | None]] = field(default_factory=list, repr=False, compare=False)


# ----------------------------------------
# The work of a traced operation and the tensor it belongs to; computed once for inputs of the same shapes.


def noted(
    known: Known | None, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
) -> Iterable[tuple[Op, Any]]:
    """Return what :func:`peft_lab.engine.work.operations` yields, from the operation's cache entry if it has one."""
    if is_over_lists(func, args):
        return operations(func, args, kwargs, result)
    if known is None:
        return ((operation(func, args, kwargs, result), None),)
    if known.op is None:
        known.op = operation(func, args, kwargs, result)
    return ((known.op, None),)


def tensors_in(result: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors an operation returned, of any shape: the result itself, or those in a tuple or list."""
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, (tuple, list)):
        for item in result:
            yield from tensors_in(item)


# ----------------------------------------
# The values that code reads from tensors without values: those that need the most memory.


#: Attribute that marks a tensor without values as a mask of infinite or NaN values.
BROKEN = "_says_broken"


def scalar_standin(tensor: torch.Tensor) -> bool | int | float:
    """Return what code reads from a tensor without values: by its type True (False for a BROKEN mask), 1.0 or 0.

    ``tensor`` holds one number, whatever its shape. PEFT reads values to decide whether a module dropout skips this
    step (``rand(1) > p``), whether a norm is finite or a logit infinite: these answers compute, so they need memory.
    """
    if tensor.dtype == torch.bool:
        return not getattr(tensor, BROKEN, False)
    return 1.0 if tensor.is_floating_point() else 0


def without_masks(see: Callable[[torch.Tensor], object], indices: Any) -> list[Any]:
    """Return the indices with every mask replaced by positions, which is what the device does first.

    A mask is taken to select everything, because how much it selects depends on values. ``see`` is called with
    each tensor of positions, of shape (elements of the mask,).
    """
    found: list[Any] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            found.append(index)
            continue
        for _ in range(index.dim()):
            position = torch.zeros(index.numel(), dtype=torch.int64)
            see(position)
            found.append(position)
    return found


#: Operations that join a list of tensors into one.
_JOINS = frozenset({"stack.default", "cat.default"})
#: Operations that return their input itself; torch's implementation without values would return a new tensor.
_IN_PLACE = frozenset({"wait_tensor.default", "_wrap_tensor_autograd.default"})

#: Functions for the bytes that a kernel allocates and frees inside one operation, by operation (see kernels.py).
Scratch = Mapping[Any, Callable[..., int]]
#: Functions to call after an operation, with its result and its arguments, by operation.
Watched = Mapping[Any, Callable[..., None]]


class MemoryRecorder:
    """Build a trace. The caller sets phase and layer by :meth:`enter`, and the attributes ``logits``, ``part``,
    ``stream`` and ``module``, which new storages get. ``host``: the device type whose tensors take no device memory
    (fake.py)."""

    def __init__(self, host: str | None = None) -> None:
        self.trace = Trace()
        self._host = host
        self._known: dict[int, int] = {}
        self._watch: dict[int, weakref.ref[Any]] = {}
        self._phase = ""
        self._layer: int | None = None
        self.logits = False
        self._last_layer: int | None = None
        self._turns = 0
        self.part, self.stream, self.module = "", 0, ""
        #: whether to record the work of operations beside their memory
        self.works = True
        #: the first and the last layer
        self.edges: frozenset[int] = frozenset()

    @property
    def phase(self) -> str:
        """Return the current phase of the step."""
        return self._phase

    @property
    def layer(self) -> int | None:
        """Return the layer being computed; ``None`` outside all layers."""
        return self._layer

    def enter(self, phase: str | None = None, layer: int | None = None) -> None:
        """Set the current phase (unchanged if None) and layer (None: outside the layers)."""
        self._phase = self._phase if phase is None else phase
        self._turns += phase == "forward"
        self._layer = layer
        self._last_layer = None
        self.trace.marks.append(Mark(len(self.trace.events), self._phase, layer))

    def did(self, op: Op, owner: Any = None) -> None:
        """Record an operation. ``owner``: the tensor whose layer it belongs to when it runs outside the layers."""
        layer = self._layer
        if layer is None and owner is not None:
            layer = self.layer_of(owner)
            if layer in self.edges and self._phase != "optimizer":
                layer = None
        work = self.trace.work
        if self._phase == "optimizer":  # layers come in no order, so look back for the layer's stretch
            for stretch in reversed(work):
                if stretch.phase != "optimizer":
                    break
                if stretch.layer == layer:
                    stretch.ops[op] += 1
                    return
        if not work or work[-1].phase != self._phase or work[-1].layer != layer:
            work.append(Stretch(self._phase, layer))
        work[-1].ops[op] += 1

    def empty_cache(self) -> None:
        """Record that the allocator releases its unused segments."""
        self.trace.events.append(EMPTY_CACHE)

    def see(self, tensor: torch.Tensor, part: str = "", layer: int | None = None) -> int:
        """Record a tensor's storage, of any shape, unless it is known; return its number, -1 if it takes no device
        memory."""
        tensor = own_part(tensor)
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._known.get(key)
        if known is not None:
            return known
        if self._elsewhere(tensor):
            if part:  # it belongs to the model and is no intermediate result there
                self.trace.aside[part, layer] += storage.nbytes()
            return -1
        if not storage.nbytes():
            return -1
        index = self._birth(storage.nbytes(), part, self._layer if layer is None else layer)
        self._known[key] = index
        # The callback must not reach the recorder through a cycle with the storage, and the reference has to
        # live as long as the storage does; both hold with a dictionary of references.
        self._watch[key] = weakref.ref(storage, partial(self._gone, key))
        return index

    def _elsewhere(self, tensor: torch.Tensor) -> bool:
        return self._host is not None and own_part(tensor).device.type == self._host  # in main memory

    def _gone(self, key: int, _: Any) -> None:
        del self._watch[key]
        if key in self._known:
            self._end(key)

    def emptied(self, tensor: torch.Tensor) -> None:
        """Record that the storage of a tensor of any shape gave its memory back and lives on without any."""
        key = tensor.untyped_storage()._cdata
        if key in self._known:
            self._end(key)

    def refilled(self, tensor: torch.Tensor, part: str, module: str) -> None:
        """Record that the freed storage of a tensor, of any shape, was allocated again."""
        storage = tensor.untyped_storage()
        if not self._elsewhere(tensor):
            index = self._birth(storage.nbytes(), part, self._layer)
            self.trace.storages[index].module = module
            self._known[storage._cdata] = index

    def sends(self, kind: str, nbytes: int) -> None:
        """Record an exchange with other devices."""
        self.trace.sent.append(Sent(kind, nbytes, self._phase, self._layer, self._turns))

    def see_results(self, func: Any, args: tuple[Any, ...], result: Any) -> None:
        """Record the tensors that an operation returned.

        Outside the layers (optimizer, clipping, an extra loss over adapters) a result gets the layer of its source: a
        moment its parameter's, the i-th of a list of norms that of the i-th gradient. Scalars, and what an optimizer
        copies from main memory, get the layer of the previous result. What the loss computes
        from the last layer's output gets none.
        """
        for position, tensor in enumerate(tensors_in(result)):
            if self._layer is not None:
                self.see(tensor)
                continue
            if self.number(tensor) is not None or self._elsewhere(tensor):
                continue
            index = self.see(tensor, layer=self._layer_of_result(func, args, position, tensor))
            if index >= 0 and self._phase == "optimizer" and func.__name__ in _JOINS:
                self.trace.storages[index].joined = len(args[0])

    def _layer_of_result(
        self, func: Any, args: tuple[Any, ...], position: int, tensor: torch.Tensor
    ) -> int | None:
        joins = func.__name__ in _JOINS
        source = args[0] if args else None
        if isinstance(source, (list, tuple)):
            source = None if joins or position >= len(source) else source[position]
        layer = self.layer_of(source)
        other = source if self._phase == "optimizer" and hasattr(source, "untyped_storage") else None
        sent = other is not None and self.number(other) is None
        if layer is None and not joins and (tensor.numel() == 1 or sent):
            layer = self._last_layer
        self._last_layer = layer
        return None if layer in self.edges and self._phase != "optimizer" else layer

    def storage(self, tensor: torch.Tensor) -> Storage | None:
        """Return what is recorded of a tensor's storage, of any shape; None if it was not seen on the device."""
        number = self.number(tensor)
        return None if number is None else self.trace.storages[number]

    def layer_of(self, tensor: Any) -> int | None:
        """Return the layer of a tensor's storage; None outside the layers, or if it was never seen."""
        made = self.storage(tensor) if isinstance(tensor, torch.Tensor) else None
        return None if made is None else made.layer

    def scratch(self, nbytes: int) -> None:
        """Record memory that lives only inside the operation that just ran."""
        self.trace.events.append(~self._birth(nbytes, "", self._layer))

    def number(self, tensor: torch.Tensor) -> int | None:
        """Return the number of the tensor's storage, None if it was never seen. ``tensor`` of any shape."""
        return self._known.get(own_part(tensor).untyped_storage()._cdata)

    def replaced(self, tensor: torch.Tensor) -> None:
        """Move the ``adapter`` part to the new storage of a trained tensor, of any shape, from the one that has ended:
        CPT gives its parameter a new storage in every pass."""
        number, storages = self.number(tensor), self.trace.storages
        if number is None or number < 0 or storages[number].part not in ("", "activations"):
            return
        here, size = set(self._known.values()), storages[number].nbytes
        for old in reversed(range(number)):
            if storages[old].part == "adapter" and old not in here and storages[old].nbytes == size:
                storages[old].part, storages[number].part = storages[number].part, "adapter"
                return

    def _birth(self, nbytes: int, part: str, layer: int | None) -> int:
        index = len(self.trace.storages)
        made = Storage(nbytes, part or self.part, layer, self.logits, 0, self.stream, self.module)
        self.trace.storages.append(made)
        self.trace.events.append(index)
        return index

    def _end(self, key: int) -> None:
        self.trace.events.append(~self._known.pop(key))

    def stop(self) -> Trace:
        """Return the complete trace and stop recording: later releases are not noted."""
        self._watch.clear()
        self._known.clear()
        return self.trace


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return this device's share of a DTensor, the tensor inside an AsyncCollectiveTensor, and any other tensor, of any
    shape, itself."""
    kind = type(tensor)
    if (
        kind is torch.Tensor or kind is torch.nn.Parameter
    ):  # nearly all; looking up a missing attribute takes longer
        return tensor
    found: torch.Tensor = getattr(tensor, "_local_tensor", tensor)
    return getattr(found, "elem", found)


def recording(
    recorder: MemoryRecorder, scratch: Scratch | None = None, watched: Watched | None = None
) -> Any:
    """Return a dispatch mode (a context manager) that reports every operation's new storages to ``recorder``.

    ``watched``: if given, tensors split over devices (DTensor) may occur, and operations on this device's share are
    recorded.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    inside, told = scratch or {}, watched or {}
    split: frozenset[type] = frozenset()
    if (
        watched is not None
    ):  # types that represent shared tensors and are unwrapped into this device's operations
        from torch.distributed._functional_collectives import AsyncCollectiveTensor
        from torch.distributed.tensor import DTensor

        split = frozenset({DTensor, AsyncCollectiveTensor})
    aten = torch.ops.aten
    read_scalar, copy, to_copy = aten._local_scalar_dense.default, aten.copy_.default, aten._to_copy.default
    puts = (aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
    indexing = {aten.index.Tensor, aten._unsafe_index_put.default, *puts}
    broken = {aten.isinf.default, aten.isnan.default}
    says_broken = broken | {aten.any.default, aten.any.dim}

    class Recording(TorchDispatchMode):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # nothing compiles here, and the check around every operation takes as long as some of them

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if not split.isdisjoint(types):
                return NotImplemented
            kwargs = kwargs or {}
            if func is read_scalar and args[0].is_meta:
                return scalar_standin(args[0])
            device = kwargs.get("device")
            if func is to_copy and split and args[0].is_meta and device is not None and device.type == "cpu":
                return torch.empty_like(args[0], device="cpu")
            if func is copy and split and args[1].is_meta and not args[0].is_meta:
                return args[0]  # the first process's broadcast, which this process already has on its host
            if split and func.__name__ in _IN_PLACE and args[0].is_meta:
                return torch.ops.aten.alias.default(args[0])
            if func in indexing and args[0].is_meta:
                args = (args[0], without_masks(recorder.see, args[1]), *args[2:])
            result, known = carry_out_known(func, args, kwargs)
            if func in says_broken and (func in broken or hasattr(args[0], BROKEN)):
                setattr(result, BROKEN, True)
            recorder.see_results(func, args, result)
            if recorder.works:  # the owner matters outside the layers only
                outside = () if recorder.layer is not None else chain(tensors_in(args), tensors_in(result))
                first = next(iter(outside), None)
                for op, owner in noted(known, func, args, kwargs, result):
                    recorder.did(op, first if owner is None else owner)
            needs = inside.get(func)
            if needs is not None:
                recorder.scratch(needs(*args, **kwargs))
            if told and func in told:
                told[func](result, *args, **kwargs)
            return result

    return Recording()  # type: ignore[no-untyped-call]
