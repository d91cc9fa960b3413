"""Apply tensor parallelism: every matrix of a layer is split over the devices, which all read the same rows. It works
for tensors with values and without, and exported scripts contain the source of these functions.

transformers' own plan of a model (``tp_plan``) says how each matrix is split (for a Llama as in Megatron-LM, Shoeybi
et al. 2019, arXiv 1909.08053: queries, keys, values, gate and up by columns, so that each device has some
heads, output and down by rows, embeddings and head by the vocabulary). torch's ``parallelize_module`` carries it out.
Every device gathers the full logits, as that plan says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft_lab.methods.base import MethodSpec
    from peft_lab.models.shapes import ModelShape

#: Devices of one node: the sums in every layer need the fast links within one.
NODE = 8
#: Methods tested on two processes with values, by comparing losses with those of one process.
METHODS = ("full", "lora", "prefix", "prompt", "ptuning", "adapters", "ia3", "bitfit")


def why_not(shape: ModelShape, spec: MethodSpec, values: Mapping[str, Any], devices: int) -> str:
    """Explain why a method on a model cannot be split by matrices over that many devices; empty if it can."""
    if spec.slug not in METHODS:
        return (
            f"{spec.title}'s matrices are quantised, and torch cannot split such matrices by rows or columns. Use "
            "LoRA on a 16-bit base."
        )
    if values.get("version", "v1") == "v1" and values.get("encoder_reparameterization_type") == "LSTM":
        return f"torch cannot split the weights of an LSTM. Choose the MLP of {spec.title}."
    if values.get("use_dora"):
        return "DoRA needs the norms of whole rows, but with tensor parallelism no device has whole rows."
    if shape.mixtures:
        return (
            f"Tensor parallelism was not tested on the experts of {shape.title}. Use FSDP2, which splits them by "
            "layers."
        )
    if devices > NODE:
        return (
            f"Tensor parallelism is simulated within one node of up to {NODE} devices, not for {devices:,}."
        )
    for heads, what in ((shape.heads, "heads"), (shape.kv_heads, "heads of keys and values")):
        if heads % devices:
            return (
                f"{shape.title} has {heads} {what}, which cannot be split evenly over {devices} devices. Choose a "
                f"number of devices that divides the number of {what}."
            )
    return ""


def split_styles(model: Any, devices: int) -> dict[str, str]:
    """Return how each module of a transformers model (or one inside PEFT) is split over the devices, by name: a
    style of transformers' plan, or one of the adapter's.

    LoRA on a column-split layer has B split by columns and A whole; on a row-split one A by rows and B whole, so each
    device adds the correction of its part. IA³'s factors are split like the output (column-split layers) or input
    (row-split ones) that they multiply. Trained modules in no plan are whole on each device. Raises ValueError: the
    model cannot be split so, with the reason."""
    import re

    import torch

    columns, rows = ("colwise", "colwise_gather_output"), ("rowwise", "rowwise_split_input")
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    plan = {
        name: style
        for name, style in (inner.tp_plan or {}).items()
        if name.startswith(inner.base_model_prefix)
    }
    if not {"colwise", "rowwise", "rowwise_split_input"} & set(plan.values()):
        raise ValueError(f"transformers has no plan for the matrices of {type(inner).__name__}")
    found: dict[str, str] = {}
    for name, module in inner.named_modules():
        style = inner.tp_plan.get(re.sub(r"\.\d+(?=\.)", ".*", name))
        trained = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        base = module.get_base_layer() if hasattr(module, "get_base_layer") else module
        if style is None:
            if trained and name not in found:
                found[name] = "whole"
        elif style == "replicated_with_grad_allreduce" and not trained:
            continue  # each device has it and uses it on its own heads
        elif style == "embedding_rowwise" and type(module) is torch.nn.Embedding:
            found[name] = style
        elif style not in columns + rows or type(base) is not torch.nn.Linear:
            raise ValueError(f"torch cannot split {name}, a {type(base).__name__}, as '{style}'")
        elif (style == "colwise" and base.out_features % devices) or (
            style == "rowwise" and base.in_features % devices
        ):
            raise ValueError(f"{name} cannot be split evenly over {devices} devices")
        elif base is module:
            found[name] = style
        elif hasattr(module, "ia3_l"):
            found[f"{name}.base_layer"] = style
            split = (style == "rowwise") if module.is_feedforward else (style == "colwise")
            found[f"{name}.ia3_l"] = ("columns" if module.is_feedforward else "rows") if split else "factors"
        elif not hasattr(module, "lora_A") or any(getattr(module, "lora_variant", {}).values()):
            raise ValueError(f"the adapter at {name} is not a plain LoRA")
        else:
            first, second = ("whole", style) if style in columns else (style, "whole")
            found[f"{name}.base_layer"] = style
            for adapter in module.lora_A:
                found[f"{name}.lora_A.{adapter}"], found[f"{name}.lora_B.{adapter}"] = first, second
    return found


def split_matrices(model: Any, mesh: Any, device: Any) -> Any:
    """Split each matrix over the devices of a one-dimensional mesh; return the model. The rest is on every device.

    All devices must have the same model, and read the same rows. The model may be in main memory: each device takes its
    own part. Raises ValueError: as :func:`split_styles`, or heads that do not divide evenly."""
    from functools import partial

    import torch
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        ParallelStyle,
        RowwiseParallel,
        parallelize_module,
    )

    class Whole(ParallelStyle):
        """Keep a module whole on each device, as a replicated DTensor, so that gradient norms include all devices."""

        def _apply(self, module: Any, device_mesh: Any) -> Any:
            def enters(module: Any, inputs: Any, mesh: Any) -> Any:
                return tuple(
                    DTensor.from_local(each, mesh, [Replicate()], run_check=False) for each in inputs
                )

            def leaves(module: Any, output: Any, mesh: Any) -> Any:
                return output.to_local()

            return distribute_module(module, device_mesh, None, enters, leaves)

    class Read(torch.nn.ParameterDict):
        """A parameter dictionary whose items are this device's part."""

        def __getitem__(self, key: str) -> Any:
            return super().__getitem__(key).to_local()

    class Factors(ParallelStyle):
        """Split factors like the part of a layer's output or input that they multiply."""

        def __init__(self, placement: Any) -> None:
            self.placement = placement

        def _apply(self, module: Any, device_mesh: Any) -> Any:
            for name, factors in list(module.items()):
                own = distribute_tensor(factors, device_mesh, [self.placement], src_data_rank=None)
                module[name] = torch.nn.Parameter(own, factors.requires_grad)
            module.__class__ = Read
            return module

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = inner.config.get_text_config()
    plan = split_styles(model, mesh.size())
    for heads in (config.num_attention_heads, getattr(config, "num_key_value_heads", None) or mesh.size()):
        if heads % mesh.size():
            raise ValueError(f"{heads} heads cannot be split evenly over {mesh.size()} devices")
    styles = {
        "colwise": ColwiseParallel(),
        "colwise_gather_output": ColwiseParallel(output_layouts=Replicate()),
        "rowwise": RowwiseParallel(),
        "rowwise_split_input": RowwiseParallel(input_layouts=Replicate()),
        "embedding_rowwise": RowwiseParallel(input_layouts=Replicate()),
        "whole": Whole(),
        "factors": Factors(Replicate()),
        "rows": Factors(Shard(0)),
        "columns": Factors(Shard(1)),
    }
    ends = inner.get_input_embeddings(), inner.get_output_embeddings()
    shared = ends[1] is not None and ends[0].weight is ends[1].weight
    # Every device starts with the same model, so each takes its part of its own copy, and nothing is sent.
    for name, how in plan.items():
        module = inner.get_submodule(name)
        # Submodules are not split with the layer, and hooks that it already had run last, to read the summed output.
        inside, hooked = dict(module._modules), list(module._forward_hooks)
        module._modules.clear()
        parallelize_module(module, mesh, styles[how], src_data_rank=None)
        module._modules.update(inside)
        for hook in hooked:
            module._forward_hooks.move_to_end(hook)
    for module in getattr(model, "prompt_encoder", torch.nn.ModuleDict()).modules():
        if list(module.parameters(recurse=False)):
            parallelize_module(module, mesh, styles["whole"], src_data_rank=None)

    def waits(module: Any, inputs: Any, output: Any) -> None:
        # torch waits where a sum is first used. A recomputed pass ends before that, and a sum that nothing waits for is
        # never freed.
        if hasattr(output, "trigger_wait"):
            output.trigger_wait()

    def own_heads(made: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a prefix's keys and values, of shape (rows, heads, tokens, width), for this device's heads."""
        cache = made(*args, **kwargs)
        for layer in getattr(cache, "layers", ()):
            for name in ("keys", "values"):
                every = DTensor.from_local(getattr(layer, name), mesh, [Replicate()], run_check=False)
                setattr(layer, name, every.redistribute(placements=[Shard(1)]).to_local())
        return cache

    if hasattr(model, "prompt_encoder"):
        model.get_prompt = partial(own_heads, model.get_prompt)
    for name in plan:
        inner.get_submodule(name).register_forward_hook(waits)  # a module of factors only is never called
    if shared:  # both are split by the vocabulary
        ends[1].weight = ends[0].weight
    for tensor in (*model.parameters(), *model.buffers()):
        if not isinstance(tensor, DTensor):
            tensor.data = tensor.data.to(device)
    return model
