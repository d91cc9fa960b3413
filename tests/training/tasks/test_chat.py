"""Conversations in a learner's file: read whole, or refused in one sentence that names the line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.training.tasks import apart, own
from peft_lab.training.tasks.base import Row, word_f1
from tests.prose import says

Messages = list[dict[str, Any]]
ASKS, SAYS = {"role": "user", "content": "How deep?"}, {"role": "assistant", "content": "Nine fathoms."}


def conversation(number: int) -> Messages:
    return [
        {"role": "user", "content": f"question {number}"},
        {"role": "assistant", "content": f"answer {number}"},
    ]


def file_of(*changed: Any, rows: int = 10, column: str = "messages") -> bytes:
    """Good conversations and then the given ones, which begin in line 11."""
    lines = [{column: conversation(number)} for number in range(rows)]
    return "\n".join(map(json.dumps, [*lines, *({column: each} for each in changed)])).encode()


def refusal(data: bytes, name: str = "mine.jsonl") -> str:
    with pytest.raises(BadInput) as caught:
        own.parse(data, name)
    message = str(caught.value)
    assert caught.value.field == "file" and message.endswith(".") and "\n" not in message
    return message


def test_conversations_are_a_task_of_their_own() -> None:
    long = [
        {"role": "system", "content": "Be brief."},
        ASKS,
        SAYS,
        {"role": "user", "content": "And now?"},
        SAYS,
    ]
    task = own.parse(file_of(long), "mine.jsonl")
    assert (task.kind, task.model_kinds, task.metric) == ("chat", ("causal-lm",), "word_f1")
    splits = task.load()
    rows = {row.line: row for row in (*splits.train, *splits.test)}
    assert sorted(rows) == list(range(1, 12)) and len(splits.test) == 2
    assert rows[1] == Row("question 0", "answer 0", (("user", "question 0"),))
    assert rows[11].conversation == tuple((each["role"], each["content"]) for each in long)
    assert rows[11].text.splitlines()[0] == "system: Be brief."
    assert "And now?" not in task.samples[0] and all("\n" not in each for each in task.samples)


def test_the_names_of_sharegpt() -> None:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    shared = [
        [{"from": names[each["role"]], "value": each["content"]} for each in conversation(number)]
        for number in range(10)
    ]
    data = "\n".join(json.dumps({"conversations": each}) for each in shared).encode()
    assert own.parse(data, "a.jsonl").load() == own.parse(file_of(), "a.jsonl").load()


def test_lines_and_turns_come_back_from_the_process_that_reads() -> None:
    apart._known.clear()
    data = file_of([{"role": "system", "content": ""}, ASKS, SAYS, ASKS, SAYS])
    found, wanted = apart.load(data, "mine.jsonl").load(), own.parse(data, "mine.jsonl").load()
    assert found == wanted
    assert [row.line for row in found.train] == [row.line for row in wanted.train]


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ([ASKS, {**SAYS, "role": "robot"}], ["Message 2 in line 11", "'robot'", "system, user, assistant"]),
        ([ASKS, {**SAYS, "role": ""}], ["Message 2 in line 11", "no role"]),
        ([ASKS, {**SAYS, "role": None}], ["Message 2 in line 11", "no role"]),
        ([ASKS, {**SAYS, "role": ["user"]}], ["Message 2 in line 11", "no role"]),
        ([ASKS, {"content": "x"}], ["Message 2 in line 11", "no role"]),
        ([ASKS, {**SAYS, "content": " \n"}], ["Message 2 in line 11", "answer needs"]),
        ([{**ASKS, "content": "\u200b"}, SAYS], ["Message 1 in line 11", "message needs"]),
        ([ASKS, {**SAYS, "content": None}], ["Message 2 in line 11", "no text"]),
        ([ASKS, {**SAYS, "content": [{"type": "text"}]}], ["Message 2 in line 11", "no text"]),
        ([ASKS, {**SAYS, "content": "x" * 4001}], ["Message 2 in line 11", "4,000 characters"]),
        ([ASKS, {**SAYS, "content": "\ud83d"}], ["Message 2 in line 11", "surrogate"]),
        ([ASKS, {**SAYS, "tool_calls": [{}]}], ["Message 2 in line 11", "'tool_calls'"]),
        ([ASKS, {**SAYS, "weight": 0}], ["Message 2 in line 11", "'weight'"]),
        ([ASKS, "yes"], ["Message 2 in line 11", "not an object"]),
        ([ASKS], ["line 11", "assistant"]),
        ([SAYS], ["line 11", "before any message"]),
        ([ASKS, SAYS, ASKS], ["line 11", "user's", "no answer"]),
        ([], ["line 11", "list of messages"]),
        ("hello", ["line 11", "list of messages"]),
        (None, ["line 11", "list of messages"]),
        ([ASKS, SAYS] * 51, ["line 11", "102 messages", "at most 100"]),
    ],
)
def test_what_is_wrong_with_one(changed: Any, parts: list[str]) -> None:
    message = refusal(file_of(changed))
    assert all(part in message for part in parts), message


def test_what_is_wrong_with_the_file() -> None:
    assert "JSON Lines (.jsonl)" in refusal(b"messages\n" + b"a\n" * 10, "a.csv")
    assert "two kinds" in refusal(b'{"messages": [], "conversations": []}')
    assert "two kinds" in refusal(b'{"messages": [], "prompt": "a", "completion": "b"}')
    assert says(refusal(file_of() + b'\n{"messages": [{"role"'), 11, "JSON")
    assert "10 different" not in refusal(file_of(rows=3)) and "3 rows" in refusal(file_of(rows=3))
    repeated = "\n".join([json.dumps({"messages": [ASKS, SAYS]})] * 12).encode()
    assert says(refusal(repeated), "12 rows", 1)


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"role": st.sampled_from([*own.ROLES, "tool", "", None]) | VALUES, "content": WORDS | VALUES}
    ),
)


@given(st.lists(MESSAGES, max_size=6) | VALUES)
def test_whatever_is_in_a_line_is_a_conversation_or_one_sentence(value: Any) -> None:
    data = file_of(value)
    try:
        task = own.parse(data, "mine.jsonl")
    except BadInput as refused:
        assert "ine 11" in str(refused) and str(refused).endswith(".") and "\n" not in str(refused)
        return
    row = next(row for part in (task.load().train, task.load().test) for row in part if row.line == 11)
    assert [{"role": role, "content": words} for role, words in row.conversation] == [
        {"role": each["role"], "content": each["content"].strip()} for each in value
    ]


@given(st.binary(max_size=60))
def test_bytes_that_are_no_json_name_their_line(noise: bytes) -> None:
    data = file_of() + b"\n{" + noise.replace(b"\n", b"").replace(b"\r", b"")
    message = refusal(data)
    assert "11" in message or "binary" in message


@given(st.lists(st.sampled_from("abc")).map(" ".join), st.lists(st.sampled_from("abc")).map(" ".join))
def test_shared_words(said: str, target: str) -> None:
    found = word_f1(said, target)
    assert found == pytest.approx(word_f1(target, said)) and 0 <= found <= 1
    assert (found == 1) == (sorted(said.split()) == sorted(target.split()))
    mine, its = said.split(), target.split()
    shared = sum(min(mine.count(word), its.count(word)) for word in set(mine))
    if shared:
        precision, recall = shared / len(mine), shared / len(its)
        assert found == pytest.approx(2 * precision * recall / (precision + recall))
