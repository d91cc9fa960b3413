"""Cross entropy from the last hidden states, a few rows of logits at a time, so that all of them are never there.

    h  last hidden states (tokens, hidden)      W  output head (vocabulary, hidden)
    for a chunk of rows:  z = h W^T;  loss += log sum exp(z) - z[label];  dh = (softmax(z) - onehot) W  at once
    kept: dh (tokens, hidden), and dW if the head is trained; z is overwritten by the next chunk's

Usually logits take tokens x vocabulary numbers, in 16 and in 32 bits, and their gradient as many. The sum is torch's
own (``torch.nn.functional.linear_cross_entropy``); what is here hands it a language model's hidden states.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Of a config: what a model does to its logits before the loss, which the sum above leaves out.
_ALTERS_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier")
#: Types whose configs need not say it: transformers has a value for them.
_BY_DEFAULT = {
    "gemma2": "final_logit_softcapping",
    "gemma3n_text": "final_logit_softcapping",
    "cohere": "logit_scale",
}


def altered(config: Mapping[str, Any]) -> str:
    """The field of a model's config by which it alters its logits; empty where none does.

    >>> altered({"final_logit_softcapping": 30.0}), altered({"logits_scaling": 1.0})
    ('final_logit_softcapping', '')
    """
    said = next((field for field in _ALTERS_LOGITS if config.get(field) not in (None, 1, 1.0)), "")
    usual = _BY_DEFAULT.get(config.get("model_type", ""), "")
    return said or (usual if usual not in config else "")


def without_logits(model: Any) -> None:
    """Make ``model`` (of transformers, or PEFT's around one) take its loss in chunks and return, in place of logits,
    hidden states (rows, length, hidden). Its parameters keep their names.

    The loss that the model is given raises ValueError where the model does something to its logits before it.

    Raises:
        ValueError: a model whose logits are not simply a linear map of its last hidden states, or whose loss is not
            taken from them.
    """
    import inspect

    import torch
    from transformers.loss.loss_utils import ForCausalLMLoss

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        found = (
            "no head over a vocabulary" if head is None else "an adapter or something else on its output head"
        )
        raise ValueError(f"it has {found}, where chunks need a plain linear map")
    own = "self.loss_function(" not in inspect.getsource(type(base).forward)
    if own or base.loss_function is not ForCausalLMLoss:
        raise ValueError("it takes its loss in a way of its own")
    how = altered(base.config.get_text_config().to_dict())
    if how:
        raise ValueError(f"it alters its logits ({how}) before the loss")

    def passing(hidden: Any) -> Any:
        hidden.left_by_head = hidden._version  # whatever is made of it does not have this, or another version
        hidden.float = lambda: hidden  # some ask for 32 bits, in which the loss adds up anyway
        return hidden

    # As transformers' own: some models hand all over by name, others by place.
    def loss(
        logits: Any,
        labels: Any,
        vocab_size: int | None = None,
        num_items_in_batch: Any = None,
        ignore_index: int = -100,
        shift_labels: Any = None,
        **more: Any,
    ) -> Any:
        if getattr(logits, "left_by_head", None) != logits._version:
            raise ValueError("it does something to its logits before the loss")
        del logits.float  # refers to itself
        if shift_labels is None:
            logits, shift_labels = logits[:, :-1], labels[:, 1:]
        return chunked_loss(logits, head.weight, shift_labels, head.bias, num_items_in_batch, ignore_index)

    vars(head)["forward"] = passing  # the module stays, and with it its name and hooks
    base.loss_function = loss


def chunked_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    bias: torch.Tensor | None = None,
    counted: Any = None,
    ignored: int = -100,
) -> torch.Tensor:
    """Return the mean cross entropy over labels that are not ``ignored``; with ``counted`` the sum divided by that.

    Args:
        hidden: (rows, length, hidden), each the one that predicts the label at its place.
        weight: (vocabulary, hidden). bias: (vocabulary,).
        labels: (rows, length).

    Returns:
        a number without dimensions, whose backward may be run once.
    """
    import torch

    half = hidden.dtype in (torch.float16, torch.bfloat16)
    options = torch.nn.LinearCrossEntropyOptions(acc_dtype=torch.float32 if half else None)
    total: torch.Tensor = torch.nn.functional.linear_cross_entropy(
        hidden.reshape(-1, hidden.shape[-1]),
        weight,
        labels.reshape(-1),
        linear_bias=bias,
        ignore_index=ignored,
        reduction="mean" if counted is None else "sum",
        options=options,
    )
    return total if counted is None else total / counted
