"""The frozen model's dropout while a few vectors train. Also written, word for word, into exported scripts."""

from __future__ import annotations

from typing import Any


def without_dropout(model: Any) -> None:
    """Switch the dropout of a frozen base off.

    Dropout keeps weights that are trained from relying on each other; here no matrix is trained, and it would only
    blur the little that reaches a dozen vectors in a short training. Torch is imported inside.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(
            getattr(module, "dropout", None), float
        ):  # T5's attention hands its share to a function
            module.dropout = 0.0
