"""How large a batch is: what a step's memory depends on, and which of its positions are a text's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft_lab.models import images
from peft_lab.training.batches import IGNORED

if TYPE_CHECKING:
    import torch


def size_of(batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What a step's memory depends on: rows and length, whether a row is padded, and what the loss picks.

    ``batch``: ids of shape (rows, length); labels (rows, length), or (rows) when classifying.

    ``kept``: positions at which the head is applied; ``predicted``: tokens that count. Both are 0 when classifying.
    ``image``: of pictures, which have no length, their channels, height and width.
    ``apart``: whether a decoder of its own has the ``kept`` positions, and an encoder those of ``length``.
    """
    if "pixel_values" in batch:
        rows, channels, *sides = batch["pixel_values"].shape
        return images.size_of_batch(rows, {"num_channels": channels, "image_size": sides})
    rows, length = batch["input_ids"].shape
    labelled = batch["labels"] != IGNORED
    classifies = labelled.dim() == 1
    wanted = [] if classifies else labelled.any(dim=0).nonzero().flatten().tolist()
    return {
        "rows": rows,
        "length": length,
        "padded": not bool(batch["attention_mask"].all()),
        "kept": wanted[-1] - wanted[0] + 1 if wanted else 0,
        "predicted": 0 if classifies else int(labelled.sum()),
        "apart": "decoder_input_ids" in batch,
    }


def writes_at(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Which positions a model gives logits for that belong to a text: the mask of the one stack, or of what a decoder
    of its own reads. Of shape (rows, length), as whole numbers.
    """
    mask = inputs["attention_mask"]
    if "decoder_input_ids" not in inputs:
        return mask
    real = inputs["decoder_input_ids"] != model.config.pad_token_id
    real[:, 0] = True  # the first token is often the one for padding
    return real.to(mask.dtype)
