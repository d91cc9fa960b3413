"""Run the layers and the loss of a simulated step as ``torch.compile`` runs them.

What is saved for the backward pass is torch's own answer: AOTAutograd traces forward and backward on tensors without
values, with inductor's decompositions, and torch's min-cut partition parts them. Which operations become one kernel is
a rule of our own, since inductor plans kernels only for a device at hand: pointwise operations, reductions and copies
between the same products are one. What a kernel makes for itself takes no memory, and is neither written nor read.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

from peft_lab.core.errors import Unsupported, in_short
from peft_lab.core.later import torch
from peft_lab.engine.tracker import MemoryRecorder, tensors_in
from peft_lab.engine.work import Op, bytes_of


@cache
def _fusible() -> frozenset[Any]:
    """Return what torch's partition takes to be fused: what it may compute again, and random numbers."""
    from torch._functorch.partitioners import get_default_op_list

    known, aten = get_default_op_list(), torch.ops.aten
    others = {aten.cat, aten.constant_pad_nd, aten.scatter}  # inductor makes them pointwise
    return frozenset(known.recomputable_ops | known.random_ops) | others


def _owner(node: Any) -> Any:
    """Return the node that made the memory of which this one is a view; itself if it is none."""
    view = node.target is operator.getitem or getattr(node.target, "is_view", False)
    return _owner(node.all_input_nodes[0]) if view else node


class Kernels:
    """A graph of operations below autograd, run kernel by kernel.

    ``level``: of each fused node, how many products, one after another, come before it: one kernel for each level.
    ``written``: the fused nodes read outside their kernel. ``ends``: a kernel's last node, with the kernel's bytes.
    """

    #: Inputs are given as a list, which the call empties.
    _boxed_call = True

    def __init__(self, module: torch.fx.GraphModule, _: Any) -> None:
        self.module = module
        self.level: dict[Any, int] = {}
        after, kernels = dict[Any, int](), defaultdict[int, list[Any]](list)
        for node in module.graph.nodes:
            if "device" in node.kwargs:  # torch traces some losses' gradients for a processor only
                node.kwargs = {**node.kwargs, "device": "meta"}
            after[node] = max((after[one] for one in node.all_input_nodes), default=0)
            fused = getattr(node.target, "overloadpacket", None) in _fusible()
            if fused or (_owner(node) is not node and _owner(node) in self.level):
                self.level[node] = after[node]
                kernels[after[node]].append(node)
            else:
                after[node] += node.op == "call_function" and _owner(node) is node
        self.written = {node for node in self.level if any(self._apart(node, user) for user in node.users)}
        self.ends: dict[Any, int] = {}
        for own in kernels.values():
            made = [node for node in own if _owner(node) is node]
            moved = {
                _owner(one) for node in made for one in node.all_input_nodes if self._apart(_owner(one), node)
            }
            moved |= {_owner(node) for node in self.written.intersection(own)}.intersection(made)
            values = [node.meta.get("val") for node in moved]
            if made:
                self.ends[made[-1]] = sum(bytes_of(one) for one in values if hasattr(one, "untyped_storage"))

    def _apart(self, node: Any, user: Any) -> bool:
        return node not in self.level or self.level[node] != self.level.get(user)

    def __call__(self, inputs: list[Any]) -> Any:
        """Return what the graph returns, and record its kernels."""
        from torch.utils._python_dispatch import _disable_current_modes

        if not _recording:  # it is being traced
            returned = self.module.graph.output_node().args[0]
            return torch.fx.node.map_arg(returned, lambda node: node.meta["val"])
        kernels, recorder = self, _recording[0]

        class Runner(torch.fx.Interpreter):
            def run_node(self, n: Any) -> Any:
                if n not in kernels.level:
                    return super().run_node(n)
                with _disable_current_modes():
                    made = super().run_node(n)
                for tensor in tensors_in(made if n in kernels.written else ()):
                    recorder.see(tensor)
                if kernels.ends.get(n):
                    recorder.did(Op("stream", 0, kernels.ends[n]), made)
                return made

        return Runner(self.module).boxed_run(inputs)


#: Traced functions by the shapes of their arguments; emptied when they are 16.
_traced: dict[str, Callable[..., Any]] = {}
#: What records the step that runs now; empty while a function is traced.
_recording: list[MemoryRecorder] = []


def compiled(
    recorder: MemoryRecorder, key: Any, function: Callable[..., Any], *args: Any, **more: Any
) -> Any:
    """Return ``function(*args, **more)``, computed and differentiated as if it were compiled.

    ``key``: equal for functions that do the same to equal shapes. Raises Unsupported if torch cannot trace this one.
    """
    from torch.utils._pytree import tree_map_only

    def facts(one: torch.Tensor) -> Any:
        return one.shape, one.stride(), one.dtype, one.requires_grad

    name = str(tree_map_only(torch.Tensor, facts, (key, args, more)))
    if name not in _traced:
        if len(_traced) >= 16:
            _traced.clear()
        _recording.clear()
        try:
            _traced[name] = _trace(function, args, more)
        except Exception as error:  # torch raises whatever its tracing meets
            message = f"torch.compile of this step is not simulated, since tracing it failed: {in_short(error, 120)}"
            raise Unsupported(message, "compile") from error
    _recording[:] = [recorder]
    return _traced[name](*args, **more)


def _trace(function: Callable[..., Any], args: Any, more: Any) -> Any:
    from torch._functorch.aot_autograd import aot_function
    from torch._functorch.partitioners import min_cut_rematerialization_partition as cut
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import _disable_current_modes
    from torch.utils._pytree import tree_map_only

    def afresh(one: torch.Tensor) -> torch.Tensor:
        made = torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device="cpu")
        return made.requires_grad_(one.requires_grad)

    made: Any = aot_function(function, Kernels, Kernels, cut, select_decomp_table())  # type: ignore[arg-type]
    with _disable_current_modes(), FakeTensorMode(allow_non_fake_inputs=True):
        args, more = tree_map_only(torch.Tensor, afresh, (args, more))
        made(*args, **more)
    return made


def compile_layers(layers: Any, period: int, recorder: MemoryRecorder) -> None:
    """Compile each layer by itself, as torchtune and torchtitan do. Raises Unsupported if there are none."""
    from torch.nn.utils.stateless import _reparametrize_module

    def of(kind: Any) -> Any:
        class Compiled(kind):  # type: ignore[misc]
            # transformers checkpoints what the outermost class calls its forward pass
            def forward(self, *args: Any, **more: Any) -> Any:
                def run(tensors: dict[str, Any], *inner: Any, **others: Any) -> Any:
                    with _reparametrize_module(self, tensors):
                        return kind.forward(self, *inner, **others)

                if not torch.is_grad_enabled():
                    return kind.forward(self, *args, **more)
                tensors = dict(self.named_parameters()) | dict(self.named_buffers())
                return compiled(recorder, (kind.__name__, self.place), run, tensors, *args, **more)

        return Compiled

    if not layers:
        raise Unsupported("torch.compile is simulated for models with one stack of layers.", "compile")
    kinds = {kind: of(kind) for kind in {type(layer) for layer in layers}}
    for place, layer in enumerate(layers):
        layer.place, layer.__class__ = place % period, kinds[type(layer)]


def compile_loss(model: Any, recorder: MemoryRecorder) -> None:
    """Compile the loss of a transformers model, which casts its logits to 32 bits."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = base.loss_function
    base.loss_function = lambda *args, **more: compiled(recorder, own.__qualname__, own, *args, **more)
