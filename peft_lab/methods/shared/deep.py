r"""Deep prompts on encoders: trained keys and values before every layer's own (Liu et al. 2021, arXiv 2110.07602,
section 3.2).

    softmax(q [P_K; K]^T / sqrt(d)) [P_V; V]        P_K, P_V: heads x n x d_head in every layer

PEFT writes such a prefix into the key/value cache, which models of the BERT type do not have in transformers 5. Here it
goes through transformers' own extension point: an attention function that puts the layer's trained keys and values in
front and then calls the library's. The text keeps its positions and its first token.
Torch and transformers are imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from peft_lab.models.shapes import ModelShape, ModuleGroup

if TYPE_CHECKING:
    import torch

NAME = "sdpa_with_deep_prompts"  # of the attention function, in transformers' registry
CHILD = "deep_prompt"  # of an attention module: its trained keys and values
ATTENTION = "attention.self"  # how the path of an attention module ends on the models this works on


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **options: Any
) -> Any:
    """Attention over a layer's trained keys and values, then the text's own; every position may look at the former.

    Args:
        query, key, value: (rows, heads, length, head size). mask: (rows, 1, length, length), true or 0 where a position
            may be looked at; ``None`` when all may.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    prompt = module.deep_prompt
    own = {"key": key, "value": value}
    for name, tensor in own.items():
        trained = prompt[name].to(tensor.dtype).expand(len(tensor), -1, -1, -1)
        own[name] = torch.cat((trained, tensor), dim=2)
    if mask is not None:
        seen = mask.new_full((*mask.shape[:-1], prompt["key"].shape[1]), mask.dtype == torch.bool)
        mask = torch.cat((seen, mask), dim=-1)
    return sdpa_attention_forward(module, query, own["key"], own["value"], mask, **options)


def fits(shape: ModelShape) -> bool:
    """Whether a model's attention is built as this needs it: BERT, RoBERTa, ELECTRA and their kin."""
    return any(group.path.endswith(f"{ATTENTION}.key") for group in shape.groups)


def attention(shape: ModelShape) -> ModuleGroup:
    """The keys' maps of all layers, as a group."""
    return next(group for group in shape.groups if group.path.endswith(f"{ATTENTION}.key"))


def layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """The attention modules in the order of the layers, with their paths."""
    for path, module in model.named_modules():
        if path.endswith(ATTENTION):
            yield path, module


def add_prompts(model: Any, tokens: int, start: str, ids: Sequence[int] = ()) -> list[str]:
    """Give every layer ``tokens`` trained keys and values. Returns the new parameters' names.

    Args:
        start: ``zero``, ``random`` (normal, deviation 1) or ``text``: the keys and values of ``ids`` in the frozen
            model, repeated or cut to ``tokens``.
    """
    import torch

    found = keys_and_values(model, ids) if start == "text" else {}
    for path, module in layers(model):
        size = (module.num_attention_heads, tokens, module.attention_head_size)
        prompt = {}
        for name in ("key", "value"):
            if start == "text":
                prompt[name] = found[path][name][:, torch.arange(tokens) % len(ids)]
            else:
                make = torch.randn if start == "random" else torch.zeros
                prompt[name] = make(size, device=module.key.weight.device)
        module.deep_prompt = torch.nn.ParameterDict(prompt)
    use(model)
    return [name for name, _ in model.named_parameters() if f".{CHILD}." in name]


def use(model: Any) -> None:
    """Have the model compute its attention by :func:`attend`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def keys_and_values(model: Any, ids: Sequence[int]) -> dict[str, dict[str, torch.Tensor]]:
    """Every layer's keys and values of a text, of shape (heads, length, head size) in float32, by the layer's path."""
    import torch

    found: dict[str, dict[str, torch.Tensor]] = {}
    hooks = []
    for path, module in layers(model):
        for name in ("key", "value"):

            def keep(module: Any, _: Any, output: torch.Tensor, path: str = path, name: str = name) -> None:
                size = model.get_submodule(path).attention_head_size
                found.setdefault(path, {})[name] = output[0].float().unflatten(-1, (-1, size)).transpose(0, 1)

            hooks.append(getattr(module, name).register_forward_hook(keep))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model.base_model(input_ids=torch.tensor([list(ids)], device=model.device))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return found
