"""Conversations in a learner's file: ``messages`` with role and content, or ShareGPT's ``conversations`` with from and
value.

One line of JSON Lines is one conversation. Whatever is wrong with one is one sentence that names its line and message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft_lab.tasks.base import Row
from peft_lab.tasks.lookalikes import is_blank
from peft_lab.tasks.records import Record, bad, shorten

#: The columns that hold conversations, and what their messages call the role and the words.
COLUMNS = {"messages": ("role", "content"), "conversations": ("from", "value")}
ROLES = ("system", "user", "assistant")
#: ShareGPT's names of them.
_SHARED = {"human": "user", "gpt": "assistant"}
#: What would change what is read or trained, and is not followed here.
_NOT_READ = (
    "tool_calls", "function_call", "tool_call_id", "reasoning_content", "thinking", "weight", "train", "training",
)  # fmt: skip
MAX_MESSAGES = 100


def row_of(record: Record, column: str, longest: int) -> Row:
    """The conversation in one line of a file. ``longest``: characters that one message may have.

    Raises BadInput naming line and message.
    """
    where = f"line {record.number:,}"
    value = record.values.get(column)
    if not isinstance(value, list) or not value:
        raise bad(f"The column '{column}' holds no list of messages in {where}.")
    if len(value) > MAX_MESSAGES:
        raise bad(f"There are {len(value):,} messages in {where}; at most {MAX_MESSAGES} are taken.")
    turns = [
        _turn(message, COLUMNS[column], f"Message {number} in {where}", longest)
        for number, message in enumerate(value, start=1)
    ]
    roles = [role for role, _ in turns]
    if "assistant" not in roles:
        raise bad(f"Nothing in {where} is said by the assistant, so there is no answer to learn.")
    if roles[-1] != "assistant":
        raise bad(f"The last message in {where} is the {roles[-1]}'s and has no answer: leave it out.")
    if len(turns) == 1:
        raise bad(f"The answer in {where} answers nothing: a message has to come before it.")
    *before, (_, answer) = turns
    return Row(_readable(before), answer, tuple(before), record.number)


def _turn(message: Any, names: tuple[str, str], where: str, longest: int) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise bad(f"{where} is no object with '{names[0]}' and '{names[1]}'.")
    for name in _NOT_READ:
        if message.get(name) is not None:
            raise bad(f"{where} has '{name}', which is not followed here: leave it out.")
    role = _role(message.get(names[0]), names, where)
    words = message.get(names[1])
    if not isinstance(words, str):
        raise bad(f"{where} has no text as its '{names[1]}'.")
    if is_blank(words) and role != "system":
        raise bad(f"{where} is blank: {'an answer' if role == 'assistant' else 'a message'} needs words.")
    if len(words) > longest:
        raise bad(f"{where} is longer than {longest:,} characters.")
    if any("\ud800" <= char <= "\udfff" for char in words):
        raise bad(f"{where} holds half of a character (a lone surrogate).")
    return role, words.strip()


def _role(found: Any, names: tuple[str, str], where: str) -> str:
    role = _SHARED.get(found, found) if names[0] == "from" and isinstance(found, str) else found
    if role in ROLES:
        return str(role)
    known = [*_SHARED, *ROLES] if names[0] == "from" else list(ROLES)
    said = f"the role '{shorten(found)}'" if isinstance(found, str) and found.strip() else "no role"
    raise bad(f"{where} has {said}; '{names[0]}' is one of {', '.join(known)}.")


def _readable(turns: list[tuple[str, str]]) -> str:
    """A single message as it is, several with who says them."""
    if len(turns) == 1:
        return turns[0][1]
    return "\n".join(f"{role}: {words}" for role, words in turns)
