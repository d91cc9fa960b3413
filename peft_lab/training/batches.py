"""Turn rows into batches: conversations, tokens, labels, packed rows, and an order that groups rows of similar length.

A batch costs as much as its longest row, so rows of similar length share a batch; the order of batches is shuffled. The
same seed gives the same batches.
"""

from __future__ import annotations

import inspect
import random
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from peft_lab.core.errors import BadInput
from peft_lab.models import images
from peft_lab.models.loading import TemplateError
from peft_lab.training.tasks.base import Row, Task
from peft_lab.training.tasks.tags import tags_in, words_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# A chat template says how messages are written, not which tokens are an answer's; few mark them with
# ``{% generation %}``, which transformers' mask and TRL's ``assistant_only_loss`` rely on (without it the mask is empty
# and there is only a warning). So a conversation is rendered up to the start and up to the end of each answer, and both
# texts must be prefixes of the whole. A template that rewrites earlier messages as a conversation grows (such as one
# that drops the thinking of earlier answers) is detected at the row, and the row is refused.


#: For tokenizers without a template. Plain words rather than ChatML's marks: tokens that a base model has never seen
#: would stay untrained, as PEFT freezes the embeddings. The tokenizer's end token closes an answer.
ROLE_LINES = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the start token, as text, that the tokenizer adds to every text (Llama's does, GPT-2's does not): a base
    that has only read texts with it must be tuned on such texts."""
    mark = tokenizer.bos_token
    begins = mark is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return str(mark) if begins else ""


def write_chat(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Sequence[str]], opens: bool = False
) -> str:
    """Return the conversation of (role, text) turns as the model reads it, by the tokenizer's template or else
    :data:`ROLE_LINES`. ``opens``: add the opening of the next answer. Raises TemplateError."""
    messages = [{"role": role, "content": words} for role, words in turns]
    template = None if tokenizer.chat_template else ROLE_LINES
    written: Any = tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=opens
    )
    return str(written) if template is None else opening(tokenizer) + str(written)


def answers_in(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Sequence[str]]
) -> tuple[str, list[tuple[int, int]]]:
    """Return the conversation as one text, and each answer's range in it as (first, end) characters. Raises ValueError
    (the template refuses the conversation, or does not write it the same as it grows)."""
    whole = write_chat(tokenizer, turns)
    spans = []
    for number, (role, _) in enumerate(turns):
        if role == "assistant":
            before, after = (
                write_chat(tokenizer, turns[:number], True),
                write_chat(tokenizer, turns[: number + 1]),
            )
            if not (whole.startswith(after) and after.startswith(before)):
                raise ValueError(
                    f"the model's chat template writes message {number + 1} differently when others follow it, so PEFT "
                    "Lab cannot tell which tokens are the answer. End the conversation after its first answer"
                )
            spans.append((len(before), len(after)))
    return whole, spans


def read_chat(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Sequence[str]]
) -> tuple[list[int], list[bool]]:
    """Return a conversation's token ids, and whether each is learned: those of answers up to their end token. Raises
    ValueError as :func:`answers_in`, or if tokens cannot be mapped to characters."""
    if not tokenizer.is_fast:
        raise ValueError("this model's tokenizer does not show which characters a token stands for")
    whole, spans = answers_in(tokenizer, turns)
    read = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids, places = list(read["input_ids"]), list(read["offset_mapping"])
    marks = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    counted = [False] * len(ids)
    for first, end in spans:
        inside = [at for at, (begin, _) in enumerate(places) if first <= begin < end]
        last = len(inside) - 1
        while last > 0 and ids[inside[last]] not in marks and not whole[slice(*places[inside[last]])].strip():
            last -= 1
        closed = last >= 0 and ids[inside[last]] in marks
        for at in inside[: last + 1] if closed else inside:
            counted[at] = at > 0  # nothing comes before the first token to predict it from
    return ids, counted


def end_of_answer(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the token that ends an answer; ``None`` if the template ends it without one."""
    ids, counted = read_chat(tokenizer, [("user", "a"), ("assistant", "b")])
    last = max((at for at, counts in enumerate(counted) if counts), default=0)
    marks = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return ids[last] if ids and ids[last] in marks else None


def ends_of(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token ids at which an answer stops: the tokenizer's end, and the answer's end if it is another."""
    ends = [tokenizer.eos_token_id, end_of_answer(tokenizer)]
    return [int(token) for token in dict.fromkeys(ends) if isinstance(token, int)]


IGNORED = -100  # the label that a cross entropy leaves out
WINDOW = 64  # batches among which rows are sorted by length


@dataclass(frozen=True)
class Encoded:
    """One row as tokens.

    Attributes:
        ids: token ids; for generation the prompt and then the completion with its end token.
        prompt: the number of prompt tokens; all of them when classifying.
        label: index of the label, ``IGNORED`` when generating.
        start: the first decoder token of an encoder-decoder, whose encoder reads the prompt; ``None`` for other models.
        counted: for a conversation, whether each token is an answer's; empty if all after the prompt are.
        pixels: of an image, which has no tokens (:class:`peft_lab.models.images.Pixels`).
        tags: the label of each token, ``IGNORED`` for most, when every word is labelled; there is no prompt then.
    """

    ids: tuple[int, ...]
    prompt: int
    label: int = IGNORED
    start: int | None = None
    counted: tuple[bool, ...] = ()
    pixels: Any = None
    tags: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


def encode(
    task: Task,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    start: int | None = None,
) -> list[Encoded]:
    """Encode rows as at most ``max_length`` tokens, or images as pixels (``tokenizer``: an ``images.Eye``). ``start``:
    an encoder-decoder's first decoder token. Raises ValueError (a label the task does not have), BadInput (no room for
    a prompt, a template refuses a row, or no answer is found)."""
    if task.kind == "chat":
        return [_conversation(tokenizer, row, max_length) for row in rows]
    texts, targets = [row.text for row in rows], [row.target for row in rows]
    if task.images:
        eye: Any = tokenizer
        labels = [task.labels.index(target) for target in targets]
        seen = map(eye.read, task.pictures(texts))
        return [Encoded((), 0, label, pixels=pixels) for pixels, label in zip(seen, labels, strict=True)]
    if task.kind == "classification":
        return encode_labels(tokenizer, texts, [task.labels.index(target) for target in targets], max_length)
    numbered = [[task.labels.index(tag) for tag in tags_in(target)] for target in targets if task.per_token]
    try:
        if task.per_token:
            return encode_tags(tokenizer, texts, numbered, max_length, task.word)
        if start is not None:
            return encode_pairs(tokenizer, texts, targets, max_length, start)
        return encode_completions(tokenizer, texts, targets, max_length)
    except ValueError as error:
        if task.per_token or isinstance(error, TemplateError):
            raise BadInput(f"'{task.name}' cannot be trained on: {error}.", "model") from None
        raise BadInput(str(error), "max_length") from None


def _conversation(tokenizer: PreTrainedTokenizerBase, row: Row, max_length: int) -> Encoded:
    try:
        return encode_chat(tokenizer, row.conversation, max_length)
    except ValueError as error:
        message = f"The conversation in line {row.line:,} cannot be trained on: {error}."
        raise BadInput(message, "own_data") from None


def encode_labels(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], labels: Sequence[int], max_length: int
) -> list[Encoded]:
    """Encode texts to classify, with their label indices; a text that is too long loses its end."""
    tokens = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    return [Encoded(tuple(ids), len(ids), label) for ids, label in zip(tokens, labels, strict=True)]


def word_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, word: str
) -> list[tuple[list[int], list[int | None]]]:
    """Return each text's token ids, and the place of each word's first token; ``None`` for words that are cut off or
    have none. ``word``: a regular expression. Raises ValueError (tokens cannot be mapped to characters)."""
    if not tokenizer.is_fast:
        raise ValueError("this model's tokenizer does not tell which letters a token stands for")
    read = tokenizer(list(texts), truncation=True, max_length=max_length, return_offsets_mapping=True)
    found = []
    for text, ids, offsets in zip(texts, read["input_ids"], read["offset_mapping"], strict=True):
        tokens = list(enumerate(offsets))  # those that a tokenizer adds end at 0
        places = [
            next((at for at, (begin, end) in tokens if begin < last and first < end), None)
            for first, last in words_of(text, word)
        ]
        found.append((ids, places))
    return found


def encode_tags(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    tags: Sequence[Sequence[int]],
    max_length: int,
    word: str,
) -> list[Encoded]:
    """Encode texts, each word's label at its first token; a text that is too long loses its end. ``word``: a regular
    expression. Raises ValueError (tokens have no known place in the text, or none follows the last word)."""
    encoded = []
    for (ids, places), labels in zip(word_tokens(tokenizer, texts, max_length, word), tags, strict=True):
        own = [IGNORED] * len(ids)
        for place, label in zip(places, labels, strict=True):
            if place is not None and own[place] == IGNORED:
                own[place] = label
        if own[-1] != IGNORED:
            raise ValueError("this model's tokenizer does not end a text with an end token")
        encoded.append(Encoded(tuple(ids), 0, tags=tuple(own)))
    return encoded


def encode_completions(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], targets: Sequence[str], max_length: int
) -> list[Encoded]:
    """Encode prompts with their completions. A prompt that is too long loses its start; a completion is never cut.
    Raises ValueError (a completion leaves no room for its prompt)."""
    pairs = list(zip(texts, targets, strict=True))
    prompts = tokenizer([render(tokenizer, text) for text in texts], add_special_tokens=False)["input_ids"]
    ends = tokenizer([completion(tokenizer, *pair) for pair in pairs], add_special_tokens=False)["input_ids"]
    encoded = []
    for prompt, end in zip(prompts, ends, strict=True):
        kept = fitting_prompt(prompt, end, max_length)
        encoded.append(Encoded((*kept, *end), len(kept)))
    return encoded


def fitting_prompt(prompt: list[int], end: Sequence[int], max_length: int) -> list[int]:
    """Return the end of a prompt's tokens that fits beside a completion. Raises ValueError if none does."""
    room = max_length - len(end)
    if room < 1:
        raise ValueError(f"A completion of {len(end)} tokens leaves no room for its prompt in {max_length}.")
    return prompt[-room:]


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    targets: Sequence[str],
    max_length: int,
    start: int,
) -> list[Encoded]:
    """Encode texts for an encoder and the targets of its decoder, both with the tokenizer's end token; a text that is
    too long loses its start. Raises ValueError (a target leaves no room for its text)."""
    encoded = []
    sides = (tokenizer(list(texts))["input_ids"], tokenizer(list(targets))["input_ids"])
    for text, end in zip(*sides, strict=True):
        kept = fitting_prompt(text, end, max_length)
        encoded.append(Encoded((*kept, *end), len(kept), start=start))
    return encoded


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Sequence[str]], max_length: int
) -> Encoded:
    """Encode a conversation, whose answers are learned. One that is too long loses its end. ``turns``: role and text of
    each message. Raises ValueError (no token of an answer is left, or the answers cannot be located)."""
    ids, counted = read_chat(tokenizer, turns)
    if True not in counted[:max_length]:
        raise ValueError(
            f"its first answer begins after token {max_length:,}, where rows are cut, so none of it would be learned"
        )
    first = counted.index(True)
    return Encoded(tuple(ids[:max_length]), first, counted=tuple(counted[:max_length]))


def render(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Return the prompt in the model's chat format if it has one, else with its start token, if any."""
    if not tokenizer.chat_template:
        return opening(tokenizer) + text
    # An empty system message keeps templates from adding one of their own, which every row would pay for.
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": text}]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception:  # noqa: BLE001  the templates of Gemma 2 and others raise at any system message
        return str(tokenizer.apply_chat_template(messages[1:], tokenize=False, add_generation_prompt=True))


def completion(tokenizer: PreTrainedTokenizerBase, text: str, target: str) -> str:
    """Return the text that follows the prompt, with its end token; after a plain prompt it begins with a space."""
    gap = "" if tokenizer.chat_template or text[-1:].isspace() else " "
    return f"{gap}{target}{tokenizer.eos_token or ''}"


def plan(lengths: Sequence[int], steps: int, batch: int, seed: int) -> list[list[int]]:
    """Return the row numbers of every batch.

    Each pass over the rows is shuffled anew. Within a window of batches rows are sorted by length and cut into batches,
    which are then shuffled.

    >>> plan([5, 9, 5, 9], steps=2, batch=2, seed=0)  # rows of like length, so that little is padded
    [[2, 0], [1, 3]]
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


def wanted(row: Encoded) -> list[int]:
    """Return the token to predict at each place after the prompt; ``IGNORED`` where none is learned. The loss reads
    each label from the place before it, so a token's own label stands one place late."""
    if row.tags:
        return [IGNORED, *row.tags[:-1]]
    after = row.ids[row.prompt :]
    counted = row.counted[row.prompt :] or (True,) * len(after)
    return [token if counts else IGNORED for token, counts in zip(after, counted, strict=True)]


def collate(rows: Sequence[Encoded], pad: int, device: str) -> dict[str, torch.Tensor]:
    """Collate rows into a batch padded on the right. ``labels``: a class per row, or the token to predict per position.

    Returns:
        input_ids and attention_mask (rows, longest); labels (rows,) or (rows, longest). For an encoder-decoder the
        prompts are the inputs, and decoder_input_ids and labels have the shape (rows, longest completion): at every
        position the previous token, and the token to predict. For images: pixel_values (rows, channels, height, width).
    """
    import torch

    if rows[0].pixels is not None:
        made: dict[str, torch.Tensor] = rows[0].pixels.batch(rows, device)
        return made
    apart = rows[0].start is not None
    read = [row.ids[: row.prompt] if apart else row.ids for row in rows]
    longest = max(len(ids) for ids in read)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    made = {"input_ids": ids, "attention_mask": mask}
    for number, own in enumerate(read):
        ids[number, : len(own)] = torch.tensor(own)
        mask[number, : len(own)] = 1
    if rows[0].label != IGNORED:
        made["labels"] = torch.tensor([row.label for row in rows])
    else:
        wide = max(len(row) - row.prompt for row in rows) if apart else longest
        made["labels"] = torch.full((len(rows), wide), IGNORED)
        for number, row in enumerate(rows):
            first = 0 if apart else row.prompt
            end = torch.tensor(wanted(row))
            made["labels"][number, first : first + len(end)] = end
    if apart:
        before = made["labels"].roll(1, dims=1)
        before[:, 0] = torch.tensor([row.start for row in rows])
        made["decoder_input_ids"] = before.masked_fill(before == IGNORED, pad)
    return {name: tensor.to(device) for name, tensor in made.items()}


class Picked(NamedTuple):
    """The logits that a loss over completions reads.

    Attributes:
        positions: where the output head is applied (kept,), counted from the end, because virtual tokens may precede
            the text: from the first position that predicts a completion's token to the last.
        tokens: indices of the tokens in the loss (predicted,), among those positions of all rows, laid end to end.
        targets: the token to predict at each (predicted,).
    """

    positions: torch.Tensor
    tokens: torch.Tensor
    targets: torch.Tensor


def picked(labels: torch.Tensor, apart: bool = False) -> Picked | None:
    """Return which logits the loss on labels (rows, length) needs; ``None`` when classifying, labels (rows,).
    ``apart``: whether the labels are an encoder-decoder's, whose decoder inputs are already shifted by one."""
    import torch

    if labels.dim() == 1:
        return None
    length = labels.shape[1] - apart
    labelled = (labels != IGNORED).any(dim=0).nonzero().flatten()
    first, last = int(labelled[0]), int(labelled[-1])
    targets = labels[:, first : last + 1].flatten()
    tokens = (targets != IGNORED).nonzero().flatten()
    positions = torch.arange(first - 1 - length, last - length, device=labels.device)
    return Picked(positions, tokens, targets[tokens])


def loss_at(
    model: torch.nn.Module, batch: Mapping[str, torch.Tensor], chosen: Picked | None, keep: bool
) -> torch.Tensor:
    """Return the mean cross entropy in float32, a scalar, over rows or the completions' tokens. The output head is
    applied only where the loss needs it, if the model can (``keep``: it takes ``logits_to_keep``)."""
    import torch

    inputs: dict[str, Any] = {name: tensor for name, tensor in batch.items() if name != "labels"}
    if chosen is None:
        return torch.nn.functional.cross_entropy(model(**inputs).logits.float(), batch["labels"])
    if keep:
        inputs["logits_to_keep"] = chosen.positions
    logits = model(**inputs).logits
    if logits.shape[1] != len(chosen.positions):
        logits = logits[:, chosen.positions]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1)[chosen.tokens].float(), chosen.targets)


def loss_of(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return :func:`loss_at` for the batch's labels, a scalar; ``batch`` as :func:`collate` returns it."""
    chosen = picked(batch["labels"], "decoder_input_ids" in batch)
    return loss_at(model, batch, chosen, keeps_logits(model))


def keeps_logits(model: Any) -> bool:
    """Return whether the model, or the one that PEFT wrapped, takes ``logits_to_keep``."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


# ----------------------------------------
# The size of a batch, on which a step's memory depends, and which of its positions hold text.


def size_of(batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return what a step's memory depends on: rows and length, whether a row is padded, and what the loss reads.

    ``batch``: ids of shape (rows, length); labels (rows, length), or (rows) when classifying.

    ``kept``: positions at which the head is applied; ``predicted``: tokens in the loss. Both are 0 when classifying.
    ``image``: channels, height and width of images, which have no length.
    ``apart``: whether the model is an encoder-decoder; ``length`` is then the encoder's, ``kept`` the decoder's.
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
    """Return the mask of the positions whose logits belong to a text, as whole numbers of shape (rows, length). For an
    encoder-decoder these are the positions that the decoder reads."""
    mask = inputs["attention_mask"]
    if "decoder_input_ids" not in inputs:
        return mask
    real = inputs["decoder_input_ids"] != model.config.pad_token_id
    real[:, 0] = True  # the first token is often the one for padding
    return real.to(mask.dtype)


#     rows      [a a a] [b b] [c c c c]      room 6
#     packed    [c c c c b b] [a a a]
#     positions  0 1 2 3 0 1   0 1 2         attention stays within a run of positions
#
# Rows go into the fullest row that still has room, the longest first (best-fit decreasing, as TRL's strategy "bfd").
# Transformers detects where a row ends by positions that restart at 0, and masks all other rows
# (``masking_utils.find_packed_sequence_indices``), as long as it is given no mask and keeps no cache. Exported scripts
# contain the source of these functions.


#: transformers' names of the model types whose packed rows give the loss and gradients of separate rows
#: (tests/training/test_batches.py). BLOOM takes no positions and OPT makes its own, so their rows would see each other.
TYPES = (
    "cohere", "cohere2", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "granite", "llama", "mistral", "mixtral",
    "olmo", "olmo2", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "stablelm", "starcoder2",
)  # fmt: skip


@dataclass(frozen=True)
class Packed:
    """Rows packed into one."""

    rows: tuple[Encoded, ...]

    def __len__(self) -> int:
        return sum(len(row) for row in self.rows)


def no_cache(model: Any) -> None:
    """Turn off the model's key-value cache: with a cache transformers does not look where packed rows end."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.config.get_text_config().use_cache = False


def fill(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Return the numbers of the rows in each packed row of ``room`` tokens; a longer row has one of its own.

    >>> fill([3, 2, 4], room=6)
    [[2, 1], [0]]
    """
    packs: list[list[int]] = []
    open_: dict[int, list[int]] = {}  # packs by the tokens that they still have room for
    left: list[int] = []  # those numbers of tokens, sorted
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        place = bisect_left(left, lengths[row])
        if place == len(left):
            pack, free = len(packs), max(room, lengths[row])
            packs.append([])
        else:
            free = left[place]
            pack = open_[free].pop()
            if not open_[free]:
                del open_[free], left[place]
        packs[pack].append(row)
        rest = free - lengths[row]
        if rest not in open_:
            open_[rest] = []
            insort(left, rest)
        open_[rest].append(pack)
    return packs


def collate_packed(packs: Sequence[Packed], pad: int, device: str) -> dict[str, torch.Tensor]:
    """Collate packed rows into a batch. Padding at the end is one more row, from which nothing is learned.

    Returns:
        input_ids, position_ids and labels, each of shape (packs, longest), tokens of the longest. There is no mask:
        positions restart at 0 where a row begins. The first token of a row is never predicted.
    """
    import torch

    longest = max(len(pack) for pack in packs)
    ids = torch.full((len(packs), longest), pad)
    labels = torch.full((len(packs), longest), IGNORED)
    positions = torch.zeros((len(packs), longest), dtype=torch.long)
    for number, pack in enumerate(packs):
        at = 0
        for row in pack.rows:
            end = at + len(row)
            ids[number, at:end] = torch.tensor(row.ids)
            labels[number, at + row.prompt : end] = torch.tensor(wanted(row))
            labels[number, at] = IGNORED
            positions[number, at:end] = torch.arange(len(row))
            at = end
        positions[number, at:] = torch.arange(longest - at)
    made = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {name: tensor.to(device) for name, tensor in made.items()}
