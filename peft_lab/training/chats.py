"""Conversations as tokens: written by the tokenizer's own chat template, with the answers marked.

A template says how messages are written, not which tokens an answer has; few mark it (``{% generation %}``, which
transformers' mask and TRL's ``assistant_only_loss`` rely on: where it is missing that mask is empty and only a warning
says so). So a conversation is written up to each answer, with what opens it, and up to the answer's end, and both have
to be beginnings of the whole. A template that rewrites earlier messages as a conversation grows (which drops the
thinking of earlier answers, say) is noticed at the row, and refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: For tokenizers without a template. Plain words rather than ChatML's marks: tokens that a base model has never seen
#: would stay untrained, as PEFT freezes the embeddings. The tokenizer's end token closes an answer.
ROLE_LINES = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the tokenizer begins every text with, as text; templates write it themselves.

    Llama's has such a token, GPT-2's has none: a base that has only ever read texts that begin so is not to be tuned
    on others.
    """
    mark = tokenizer.bos_token
    begins = mark is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return str(mark) if begins else ""


def write_chat(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Sequence[str]], opens: bool = False
) -> str:
    """The conversation as the model reads it, by the tokenizer's template or else :data:`ROLE_LINES`.

    Args:
        turns: role and words of each message. opens: whether what opens the next answer follows.

    Raises:
        TemplateError: the template refuses the conversation (:func:`peft_lab.models.templates.guard`).
    """
    messages = [{"role": role, "content": words} for role, words in turns]
    template = None if tokenizer.chat_template else ROLE_LINES
    written: Any = tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=opens
    )
    return str(written) if template is None else opening(tokenizer) + str(written)


def answers_in(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Sequence[str]]
) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as one text, and from which to before which character each answer stands.

    Raises:
        ValueError: the template refuses the conversation, or does not write it the same as it grows.
    """
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
                    f"the model's chat template writes it differently up to message {number + 1} than as a whole, so "
                    "which tokens are that answer cannot be told; end the conversation after its first answer"
                )
            spans.append((len(before), len(after)))
    return whole, spans


def read_chat(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Sequence[str]]
) -> tuple[list[int], list[bool]]:
    """The tokens of a conversation, and which of them count: those that begin in an answer, up to the token that ends
    it. What a template writes after that, such as a line break, is not the model's to say.

    Raises:
        ValueError: as :func:`answers_in`.
    """
    if not tokenizer.is_fast:
        raise ValueError("this model's tokenizer does not tell which letters a token stands for")
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
    """The token with which an answer ends, ``None`` where the template closes it with none."""
    ids, counted = read_chat(tokenizer, [("user", "a"), ("assistant", "b")])
    last = max((at for at, counts in enumerate(counted) if counts), default=0)
    marks = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return ids[last] if ids and ids[last] in marks else None


def ends_of(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens at which a written answer stops: the tokenizer's end, and that of an answer where it is another."""
    found = [tokenizer.eos_token_id, end_of_answer(tokenizer)]
    return [int(token) for token in dict.fromkeys(found) if isinstance(token, int)]
