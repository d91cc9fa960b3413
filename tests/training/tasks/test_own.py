"""A learner's file: rows, conversations or tagged words, or one sentence that names the fault and its line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.training.tasks import apart, own
from peft_lab.training.tasks.apart import load_file
from peft_lab.training.tasks.base import Row, same_text
from peft_lab.training.tasks.own import OwnTask, parse
from peft_lab.training.tasks.tags import OWN_WORD, spans, tagged, tags_in
from tests.prose import says

GOOD = [(f"sentence number {n}", "good" if n % 2 else "bad") for n in range(20)]


def csv_of(pairs: list[tuple[str, str]], header: str = "text,label") -> bytes:
    return "\n".join([header, *(f'"{text}",{label}' for text, label in pairs)]).encode()


def jsonl_of(pairs: Sequence[tuple[object, object]], names: tuple[str, str] = ("text", "label")) -> bytes:
    return "\n".join(json.dumps(dict(zip(names, pair, strict=True))) for pair in pairs).encode()


def refusal(data: bytes, name: str = "mine.csv") -> str:
    with pytest.raises(BadInput) as caught:
        parse(data, name)
    assert caught.value.field == "file"
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (csv_of(GOOD), "mine.csv"),
        (csv_of(GOOD).replace(b"\n", b"\r\n"), "MINE.CSV"),
        (b"\xef\xbb\xbf" + csv_of(GOOD), "mine.csv"),
        (csv_of(GOOD, "Text , LABEL"), "mine.csv"),
        (csv_of(GOOD).replace(b",", b";"), "mine.csv"),
        (csv_of(GOOD).replace(b",", b"\t"), "mine.csv"),
        (b"\n" + csv_of(GOOD) + b"\n\n,\n", "mine.csv"),
        (csv_of([(text, f"{label},7") for text, label in GOOD], "text,label,id"), "mine.csv"),
        (jsonl_of(GOOD), "mine.jsonl"),
        (jsonl_of(GOOD).replace(b"\n", b"\r\n\r\n") + b"\n", "mine.jsonl"),
    ],
)
def test_the_same_rows_in_many_files(data: bytes, name: str) -> None:
    task = parse(data, name)
    assert isinstance(task, OwnTask)
    assert (task.name, task.kind, task.model_kinds, task.labels) == (
        "own", "classification", ("encoder",), ("bad", "good")
    )  # fmt: skip
    splits = task.load()
    assert {(row.text, row.target) for row in (*splits.train, *splits.test)} == set(GOOD)
    assert splits == parse(csv_of(GOOD[::-1]), "other.csv").load()
    assert {row.target for row in splits.test} == {"good", "bad"}
    assert len(splits.test) == 4
    assert task.score([row.target for row in splits.test], splits.test)["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("data", "name", "parts"),
    [
        (b"", "a.csv", ["empty"]),
        (b" \r\n\n", "a.jsonl", ["empty"]),
        (b"x" * (own.MAX_BYTES + 1), "a.csv", ["5,000,001 B", "at most 5,000,000 B"]),
        (codecs.BOM_UTF32_BE + "text".encode("utf-32-be"), "a.csv", ["UTF-32", "UTF-8"]),
        (b"PK\x03\x04rest", "a.csv", ["xlsx", "CSV UTF-8"]),
        (b"text,label\na\0b,c\n", "a.csv", ["binary", "position 12", "UTF-8"]),
        ("text,label\na,b".encode("utf-16"), "a.csv", ["UTF-16", "UTF-8"]),
        ("text,label\n\ncafé,b".encode("latin-1"), "a.csv", ["UTF-8", "0xE9", "line 3"]),
        (csv_of(GOOD), "a.xlsx", ["'a.xlsx'", ".csv", ".jsonl"]),
        (csv_of(GOOD, "sentence,label"), "a.csv", ["sentence,label", "text,label or prompt,completion"]),
        (csv_of(GOOD, "text,label,prompt,completion"), "a.csv", ["two kinds", "Keep either"]),
        (jsonl_of(GOOD) + b'\n{"text": "a", ', "a.jsonl", ["Line 21", "not JSON", "column"]),
        (b'[\n{"text": "a", "label": "b"}\n]', "a.jsonl", ["Line 1", "one whole object"]),
        (b'{"text": 1}\n' + b"[" * 200_000, "a.jsonl", ["Line 2", "too deep"]),
        (b'{"text": ' + b"1" * 5000 + b"}", "a.jsonl", ["Line 1", "too long"]),
        (b'{"text": 1, "Text": 2}', "a.jsonl", ["Line 1", "twice"]),
        (csv_of([*GOOD, (" ", "good"), ("x", "good"), ("", "good")]), "a.csv", ["'text'", "blank", "rows 22, 24."]),
        (jsonl_of([*GOOD, ("x", 0.5)]), "a.jsonl", ["'label'", "a whole number", "line 21"]),
        (jsonl_of([*GOOD, (["x"], "good")]), "a.jsonl", ["'text'", "neither", "line 21"]),
        (jsonl_of([*GOOD, ("\ud800", "good")]), "a.jsonl", ["surrogate", "line 21"]),
        (csv_of([*GOOD, ("x" * 4001, "good")]), "a.csv", ["'text'", "4,000", "row 22"]),
        (csv_of([*GOOD, ("x", "good" * 20)]), "a.csv", ["'label'", "60", "row 22"]),
        (csv_of(GOOD) + b"\na,b,c", "a.csv", ["Row 22", "3 cells", "2 columns", "quotes"]),
        (csv_of(GOOD) + b'\n"never closed,good', "a.csv", ["Row 22", "CSV"]),
        (csv_of(GOOD[:7]), "a.csv", ["7 rows", "at least 8"]),
        (b"text,label\n" + b"x" * 140_000, "a.csv", ["Row 2", "131,072 characters"]),
        (csv_of([(f"t{n % 3}", "good") for n in range(9)]), "a.csv", ["3 different texts", "at least 8"]),
        (csv_of([(text, "good") for text, _ in GOOD]), "a.csv", ["'good'", "2 different labels"]),
        (csv_of([(f"t{n}", f"l{n // 2}") for n in range(60)]), "a.csv", ["30 different labels", "at most 20"]),
        (b"a" + b",b" * 300_000 + b"\n1,2", "a.csv", ["300,001 columns", "at most 1,000"]),
        (json.dumps({f"k{n}": n for n in range(1001)}).encode(), "a.jsonl", ["1,001 columns", "k0, k1, k2"]),
        (
            csv_of([*GOOD, ("x", "good\u200b")]), "a.csv",
            ["'good\\u200b'", "Write them alike"],
        ),
        (
            csv_of([*GOOD, ("x", "caf\u00e9"), ("y", "cafe\u0301")]), "a.csv",
            ["'cafe\\u0301'", "'caf\\xe9'"],
        ),
        (
            csv_of([*GOOD, ("x", "not good"), ("y", "not\u00a0good")]), "a.csv",
            ["'not good' and 'not\\xa0good'"],
        ),
        (csv_of([*GOOD, ("once", "rare")]), "a.csv", ["'rare'", "1 text", "at least 2"]),
        (
            csv_of([(f"{face} film {n}", face) for n in range(9) for face in "\N{GRINNING FACE}\N{POUTING FACE}"]),
            "a.csv", ["0 texts", "emoji count"],
        ),
    ],
)  # fmt: skip
def test_each_refusal_says_what_is_wrong(data: bytes, name: str, parts: list[str]) -> None:
    message = refusal(data, name)
    for part in parts:
        assert part in message


def test_load_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes(csv_of(GOOD))
    assert load_file(file) == parse(csv_of(GOOD), "mine.csv") == load_file(str(file))
    for path in (tmp_path / "none.csv", tmp_path, "a\0b.csv"):
        with pytest.raises(BadInput, match=r"cannot be read|no images"):
            load_file(path)
    with file.open("wb") as stream:
        stream.truncate(own.MAX_BYTES + 1)
    with pytest.raises(BadInput, match="at most 5,000,000 B"):
        load_file(file)


CELL = st.text(max_size=8)
LINES = st.lists(st.tuples(CELL, st.sampled_from(["a", "b", "1", "", '"'])), max_size=30)
FILES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    LINES.map(lambda pairs: csv_of(pairs)),
    LINES.map(lambda pairs: csv_of(pairs, "prompt;completion")),
    st.lists(st.tuples(CELL | st.integers() | st.none(), CELL), max_size=30).map(
        lambda pairs: jsonl_of(pairs)
    ),
    st.recursive(
        st.none() | st.floats() | CELL, lambda inner: st.lists(inner) | st.dictionaries(CELL, inner)
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=100)
@given(data=FILES, name=st.sampled_from(["a.csv", "a.jsonl"]) | st.text())
@example(data=b"text,label\n" + b'"' * 10, name="a.csv")
@example(data=b"\xef\xbb\xbf\xff", name="a.csv")
@example(data=b'{"\\ud800": 1}', name="a.jsonl")
@example(data=b"prose " * 1000, name="a.csv")
def test_any_bytes_are_a_task_or_a_bad_input(data: bytes, name: str) -> None:
    try:
        task = parse(data, name)
    except BadInput as refused:
        message = str(refused)
        assert message.isprintable()
        assert len(message) < 400 + 2 * len(name)
        return
    splits = task.load()
    train, test = ({same_text(row.text) for row in part} for part in (splits.train, splits.test))
    assert train and test and not train & test
    assert task.rows() >= own.MIN_ROWS
    assert all(row.text.strip() and row.target.strip() for row in (*splits.train, *splits.test))
    assert (
        set(task.labels) == {row.target for row in (*splits.train, *splits.test)} or task.kind == "generation"
    )


# ----------------------------------------
# Conversations in a learner's file: read whole, or refused in one sentence that names the line.


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


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ([ASKS, {**SAYS, "role": "robot"}], ["Message 2 in line 11", "'robot'", "system, user, assistant"]),
        ([ASKS, {**SAYS, "role": None}], ["Message 2 in line 11", "no role"]),
        ([ASKS, {**SAYS, "content": " \n"}], ["Message 2 in line 11", "answer needs"]),
        ([{**ASKS, "content": "\u200b"}, SAYS], ["Message 1 in line 11", "message needs"]),
        ([ASKS, {**SAYS, "content": [{"type": "text"}]}], ["Message 2 in line 11", "no text"]),
        ([ASKS, {**SAYS, "content": "x" * 4001}], ["Message 2 in line 11", "4,000 characters"]),
        ([ASKS, {**SAYS, "content": "\ud83d"}], ["Message 2 in line 11", "surrogate"]),
        ([ASKS, {**SAYS, "tool_calls": [{}]}], ["Message 2 in line 11", "'tool_calls'"]),
        ([ASKS, "yes"], ["Message 2 in line 11", "not an object"]),
        ([ASKS], ["line 11", "assistant"]),
        ([SAYS], ["line 11", "before any message"]),
        ([ASKS, SAYS, ASKS], ["line 11", "user's", "no answer"]),
        ([], ["line 11", "list of messages"]),
        ([ASKS, SAYS] * 51, ["line 11", "102 messages", "at most 100"]),
    ],
)
def test_what_is_wrong_with_one(changed: Any, parts: list[str]) -> None:
    message = refusal(file_of(changed), "a.jsonl")
    assert all(part in message for part in parts), message


# ----------------------------------------
# A learner's tagged words: CoNLL and JSON Lines read alike, or refused in one sentence that names the line.


Sentence = tuple[list[str], list[str]]
NAMES = ("Ann", "Bob", "Carl", "Dora", "Eve", "Finn", "Gus", "Hal", "Ines", "Jon")
TAGGED: list[Sentence] = [
    (["Dr.", name, "left", "New", "York", "and/or", "L.A."],
     ["O", "B-PER", "O", "B-LOC", "I-LOC", "O", "B-LOC"]) for name in NAMES
]  # fmt: skip


def jsonl(sentences: Sequence[Any]) -> bytes:
    return "\n".join(
        json.dumps(dict(zip(("tokens", "tags"), each, strict=True))) for each in sentences
    ).encode()


def conll(sentences: Sequence[Any], gap: str = "\t", end: str = "\n") -> bytes:
    blocks = [
        "".join(f"{word}{gap}{tag}{end}" for word, tag in zip(*each, strict=True)) for each in sentences
    ]
    return end.join(blocks).encode()


def read(task: own.OwnTask) -> list[Sentence]:
    """The sentences of a task, in the order of the file."""
    splits = task.load()
    rows = sorted((*splits.train, *splits.test), key=lambda row: row.line)
    return [(row.text.split(), tags_in(row.target)) for row in rows]


OLD = b"-DOCSTART- -X- -X- O\n\n" + conll(
    [(words, [f"NNP I-NP {tag}" for tag in tags]) for words, tags in TAGGED], " "
)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (jsonl(TAGGED), "mine.jsonl"),
        (conll(TAGGED), "mine.conll"),
        (conll(TAGGED, " "), "MINE.TXT"),
        (b"\xef\xbb\xbf" + conll(TAGGED, end="\r\n") + b"\r\n\r\n\r\n", "mine.txt"),
        (OLD, "eng.train.txt"),  # CoNLL-2003: four columns
    ],
)
def test_the_same_sentences_in_many_files(data: bytes, name: str) -> None:
    task = own.parse(data, name)
    assert (task.kind, task.model_kinds, task.metric, task.max_new_tokens, task.note) == (
        "tagging", ("encoder",), "span_f1", 0, "",
    )  # fmt: skip
    assert task.labels == ("O", "B-LOC", "I-LOC", "B-PER") and read(task) == TAGGED
    splits = task.load()
    assert len(splits.test) == 2
    assert task.score([row.target for row in splits.test], splits.test)["span_f1"] == 1.0
    assert task.score([row.text for row in splits.test], splits.test)["span_f1"] == 0.0
    assert apart.load(data, name) == task


@pytest.mark.parametrize(
    ("given_", "wanted", "rewritten"),
    [
        ("I-PER I-PER O I-LOC", "B-PER I-PER O B-LOC", 2),  # IOB1
        ("B-PER I-LOC I-LOC O", "B-PER B-LOC I-LOC O", 1),
        ("B-PER E-PER O S-LOC", "B-PER I-PER O B-LOC", 2),  # BIOES
        ("B-PER L-PER U-LOC U-LOC", "B-PER I-PER B-LOC B-LOC", 3),  # BILOU
    ],
)
def test_other_schemes_are_read_as_bio_and_said(given_: str, wanted: str, rewritten: int) -> None:
    words = ["Ann", "Bell", "left", "Rome"]
    task = own.parse(conll([*TAGGED, (words, given_.split())]), "a.conll")
    assert read(task)[-1] == (words, wanted.split())
    assert task.note.startswith(f"{rewritten} tag") and task.note in task.description
    assert says(task.note, "BIO")


BAD = [*TAGGED[:1], (["Ann", "left"], ["B-PER", "NOUN"])]


@pytest.mark.parametrize(
    ("data", "name", "parts"),
    [
        (conll(BAD), "a.conll", ["'NOUN'", "line 10"]),
        (jsonl(BAD), "a.jsonl", ["'NOUN'", "token 2", "line 2"]),
        (jsonl([(["Ann"], [3])]), "a.jsonl", ["number 3", "token 1 in line 1"]),
        (jsonl([(["Ann"], ["B-a/I-b"])]), "a.jsonl", ["'B-a/I-b'"]),
        (jsonl([(["Ann"], [f"B-{'x' * 61}"])]), "a.jsonl", ["60 characters", "line 1"]),
        (jsonl([([], [])]), "a.jsonl", ["0 tokens", "line 1"]),
        (jsonl([*TAGGED, (["Ann", "left"], ["O"])]), "a.jsonl", ["2 tokens and 1 tags", "line 11"]),
        (jsonl([("Ann", "O")]), "a.jsonl", ["lists", "line 1"]),
        (jsonl([(["Ann", " "], ["O", "O"])]), "a.jsonl", ["blank", "token 2 in line 1"]),
        (jsonl([(["\ud800"], ["O"])]), "a.jsonl", ["not a text", "line 1"]),
        (b"Ann B-PER\nleft\n", "a.conll", ["Line 2", "one column"]),
        (b"Some words of prose.\n", "notes.txt", ["'prose.'", "line 1"]),
        (conll([*TAGGED, (["x" * 4001], ["O"])]), "a.conll", ["line 81", "4,000"]),
        (conll([(words, ["O"] * 7) for words, _ in TAGGED]), "a.conll", ["0 sentences", "at least 2"]),
        (jsonl([([name], [f"B-t{n}"]) for n in range(51) for name in (f"{n}",)]), "a.jsonl", ["51", "at most 50"]),
        (jsonl([*TAGGED, (["x"], ["B-PER\u200b"])]), "a.jsonl", ["\\u200b", "alike"]),
        (b"tokens,tags\nAnn,O\n", "a.csv", ["CSV", ".jsonl"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(data: bytes, name: str, parts: list[str]) -> None:
    assert says(refusal(data, name), *parts)


WORDS = st.text(min_size=1, max_size=6).filter(
    lambda word: len(word.split()) == 1 and word == word.strip() and word.isprintable()
)
TAGS = st.sampled_from(["O", "O", "B-a", "I-a", "B-b/c", "I-b/c", "S-a", "E-b/c", "U-a", "L-a"])
SENTENCES = st.lists(
    st.lists(st.tuples(WORDS, TAGS), min_size=1, max_size=5).map(lambda pairs: [*map(list, zip(*pairs, strict=True))]),
    min_size=1, max_size=12,
)  # fmt: skip


@given(SENTENCES)
def test_any_sentences_are_read_word_by_word_from_both_formats(sentences: list[Any]) -> None:
    """Words are as in the file, tags are BIO, repeated texts are in one part, and both formats agree."""
    try:
        task = own.parse(jsonl([*TAGGED, *sentences]), "a.jsonl")
    except BadInput as error:
        assert "alike" in str(error) or "blank" in str(error)
        return
    for (words, tags), (wanted, were) in zip(read(task), [*TAGGED, *sentences], strict=True):
        assert words == wanted and set(tags) <= set(task.labels)
        assert [tag == "O" for tag in tags] == [tag == "O" for tag in were]
        assert [tag.partition("-")[2] for tag in tags] == [tag.partition("-")[2] for tag in were]
        begun = [tag for before, tag in zip(["O", *tags], tags, strict=False) if tag[2:] != before[2:]]
        assert not any(tag.startswith("I-") for tag in begun)
        row = Row(" ".join(words), tagged(" ".join(words), tags, OWN_WORD))
        assert task.score([row.target], [row])["span_f1"] == 1.0
    splits = task.load()
    train, test = ({same_text(row.text) for row in part} for part in (splits.train, splits.test))
    assert not train & test and any(spans(tags_in(row.target)) for row in splits.test)
    if not any("-DOCSTART-" in words for words, _ in sentences):
        assert read(own.parse(conll([*TAGGED, *sentences]), "a.conll")) == read(task)
