"""From rows to batches: tokens, labels, and an order in which equal lengths meet.

A batch costs what its longest row costs, so rows of like length go together; which batch comes when is shuffled. The
same seed gives the same batches.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_lab.errors import BadInput
from peft_lab.tasks.base import Row, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that a cross entropy leaves out
WINDOW = 64  # batches among which rows are sorted by length


@dataclass(frozen=True)
class Encoded:
    """One row as tokens.

    Attributes:
        ids: token ids; for generation the prompt and then the completion with its end token.
        prompt: how many of them are the prompt; the whole row when classifying.
        label: index of the label, ``IGNORED`` when generating.
    """

    ids: tuple[int, ...]
    prompt: int
    label: int = IGNORED

    def __len__(self) -> int:
        return len(self.ids)


def encode(
    task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Encoded]:
    """Rows as tokens, at most ``max_length`` of them. A prompt that is too long loses its start, never the completion.

    Raises:
        BadInput: a label the task does not have, or completions that leave no room for a prompt.
    """
    if task.kind == "classification":
        index = {label: number for number, label in enumerate(task.labels)}
        texts = tokenizer([row.text for row in rows], truncation=True, max_length=max_length)["input_ids"]
        return [
            Encoded(tuple(ids), len(ids), index[row.target]) for ids, row in zip(texts, rows, strict=True)
        ]
    prompts = tokenizer([render(tokenizer, row.text) for row in rows], add_special_tokens=False)["input_ids"]
    ends = tokenizer([completion(tokenizer, row) for row in rows], add_special_tokens=False)["input_ids"]
    encoded = []
    for prompt, end in zip(prompts, ends, strict=True):
        room = max_length - len(end)
        if room < 1:
            message = f"A completion of {len(end)} tokens leaves no room for its prompt in {max_length}."
            raise BadInput(message, "max_length")
        kept = prompt[-room:]
        encoded.append(Encoded((*kept, *end), len(kept)))
    return encoded


def render(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The prompt as the model expects it: in its chat format where it has one, else as it is."""
    if not tokenizer.chat_template:
        return text
    # An empty system message keeps templates from adding one of their own, which every row would pay for.
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def completion(tokenizer: PreTrainedTokenizerBase, row: Row) -> str:
    """What follows the prompt, with the token that ends it; after a plain prompt separated by a space."""
    gap = "" if tokenizer.chat_template or row.text[-1:].isspace() else " "
    return f"{gap}{row.target}{tokenizer.eos_token or ''}"


def plan(lengths: Sequence[int], steps: int, batch: int, seed: int) -> list[list[int]]:
    """Row numbers of every batch.

    Each pass over the rows is shuffled anew; within a window of batches rows are sorted by length, cut into batches,
    and those are shuffled.
    """
    chance = random.Random(seed)
    order: list[int] = []
    while len(order) < steps * batch:
        once = list(range(len(lengths)))
        chance.shuffle(once)
        order += once
    batches: list[list[int]] = []
    for start in range(0, steps * batch, WINDOW * batch):
        window = order[start : min(start + WINDOW * batch, steps * batch)]
        window.sort(key=lambda row: lengths[row])
        cut = [window[first : first + batch] for first in range(0, len(window), batch)]
        chance.shuffle(cut)
        batches += cut
    return batches


def collate(rows: Sequence[Encoded], pad: int, device: str) -> dict[str, torch.Tensor]:
    """A batch padded on the right. ``labels`` holds one class per row, or the token to predict at every position.

    Returns:
        input_ids and attention_mask (rows, longest); labels (rows,) or (rows, longest).
    """
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    classes = rows[0].label != IGNORED
    labels = (
        torch.tensor([row.label for row in rows]) if classes else torch.full((len(rows), longest), IGNORED)
    )
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row.ids)
        mask[number, : len(row)] = 1
        if not classes:
            labels[number, row.prompt : len(row)] = torch.tensor(row.ids[row.prompt :])
    made = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: tensor.to(device) for name, tensor in made.items()}


def size_of(batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What a step's memory depends on: rows and length, whether a row is padded, and what the loss picks.

    ``kept``: positions at which the head is applied; ``predicted``: tokens that count. Both are 0 when classifying.
    """
    rows, length = batch["input_ids"].shape
    said = batch["labels"] != IGNORED
    classifies = said.dim() == 1
    wanted = [] if classifies else said.any(dim=0).nonzero().flatten().tolist()
    return {
        "rows": rows,
        "length": length,
        "padded": not bool(batch["attention_mask"].all()),
        "kept": wanted[-1] - wanted[0] + 1 if wanted else 0,
        "predicted": 0 if classifies else int(said.sum()),
    }


def loss_of(model: torch.nn.Module, batch: Mapping[str, torch.Tensor], keep: bool) -> torch.Tensor:
    """Mean cross entropy in float32: over rows, or over the completions' tokens.

    The output head is the largest matrix of a small model, so it is applied only from the first position that predicts
    a completion's token to the last (``keep``: whether the model takes ``logits_to_keep``). Those are counted from the
    end, because virtual tokens may stand before the text.
    """
    import torch

    labels = batch["labels"]
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if labels.dim() == 1:
        return torch.nn.functional.cross_entropy(model(**inputs).logits.float(), labels)
    length = labels.shape[1]
    wanted = (labels != IGNORED).any(dim=0).nonzero().flatten()
    first, last = int(wanted[0]), int(wanted[-1])
    positions = torch.arange(first - 1 - length, last - length, device=labels.device)
    if keep:
        inputs["logits_to_keep"] = positions
    logits = model(**inputs).logits
    if logits.shape[1] != len(positions):
        logits = logits[:, positions]
    targets = labels[:, first : last + 1]
    said = targets != IGNORED
    return torch.nn.functional.cross_entropy(logits[said].float(), targets[said])


def keeps_logits(model: torch.nn.Module) -> bool:
    """Whether the (unwrapped) model takes ``logits_to_keep``."""
    import inspect

    return "logits_to_keep" in inspect.signature(model.forward).parameters
