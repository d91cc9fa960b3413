from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.training.tasks import own
from peft_lab.training.tasks.apart import load_file
from peft_lab.training.tasks.base import same_text
from peft_lab.training.tasks.own import OwnTask, parse
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


def test_generation() -> None:
    pairs = [(f"question {n}", f"answer  {n}") for n in range(10)]
    task = parse(jsonl_of(pairs, ("prompt", "completion")), "mine.jsonl")
    assert (task.kind, task.model_kinds, task.labels, task.metric) == (
        "generation", ("causal-lm", "seq2seq"), (), "exact_match"
    )  # fmt: skip
    rows = task.load().test
    assert task.score([" " + row.target.replace("  ", " ") for row in rows], rows) == {"exact_match": 1.0}
    assert task.score(["answer"] * len(rows), rows) == {"exact_match": 0.0}
    assert task.max_new_tokens > 0


def test_cells_over_several_lines_and_other_scripts() -> None:
    pairs = [(f"línea {n}\nсловo, 言葉", "a" if n % 2 else "b") for n in range(12)]
    rows = parse(csv_of(pairs), "mine.csv").load()
    assert {(row.text, row.target) for row in (*rows.train, *rows.test)} == set(pairs)


def test_whole_numbers_and_booleans_are_labels() -> None:
    assert parse(jsonl_of([(f"text {n}", n % 3) for n in range(12)]), "a.jsonl").labels == ("0", "1", "2")
    assert parse(jsonl_of([(f"text {n}", n % 2 == 0) for n in range(12)]), "a.jsonl").labels == (
        "false",
        "true",
    )


def test_repeated_texts_stay_in_one_part() -> None:
    pairs = [(f"Text {n % 10}{'!' * (n // 10)}", "good" if n % 2 else "bad") for n in range(30)]
    splits = parse(csv_of(pairs), "a.csv").load()
    train, test = ({same_text(row.text) for row in part} for part in (splits.train, splits.test))
    assert not train & test and len(splits.test) == 6


@pytest.mark.parametrize(
    ("data", "name", "parts"),
    [
        (b"", "a.csv", ["empty"]),
        (b" \r\n\n", "a.jsonl", ["empty"]),
        (b"\xef\xbb\xbf", "a.csv", ["empty"]),
        (b"x" * (own.MAX_BYTES + 1), "a.csv", ["5,000,001 B", "at most 5,000,000 B"]),
        ("text,label\na,b".encode("utf-32"), "a.csv", ["UTF-32", "UTF-8"]),
        (codecs.BOM_UTF32_BE + "text".encode("utf-32-be"), "a.csv", ["UTF-32", "UTF-8"]),
        (b"PK\x03\x04rest", "a.csv", ["xlsx", "CSV UTF-8"]),
        (b"text,label\na\0b,c\n", "a.csv", ["binary", "position 12", "UTF-8"]),
        ("text,label\na,b".encode("utf-16"), "a.csv", ["UTF-16", "UTF-8"]),
        ("text,label\n\ncafé,b".encode("latin-1"), "a.csv", ["UTF-8", "0xE9", "line 3"]),
        (csv_of(GOOD), "a.xlsx", ["'a.xlsx'", ".csv", ".jsonl"]),
        (csv_of(GOOD), "", ["''", ".csv"]),
        (csv_of(GOOD, "sentence,label"), "a.csv", ["sentence,label", "text,label or prompt,completion"]),
        (csv_of(GOOD, "text,label,prompt,completion"), "a.csv", ["two kinds", "Keep either"]),
        (csv_of(GOOD, "text,text"), "a.csv", ["'text'", "2 times"]),
        (b"just one line of prose", "a.csv", ["just one line of prose", "text,label"]),
        (jsonl_of(GOOD) + b'\n{"text": "a", ', "a.jsonl", ["Line 21", "not JSON", "column"]),
        (b'[\n{"text": "a", "label": "b"}\n]', "a.jsonl", ["Line 1", "one whole object"]),
        (b'["a"]', "a.jsonl", ["Line 1", "a list"]),
        (b"null", "a.jsonl", ["null"]),
        (b'{"text": 1}\n' + b"[" * 200_000, "a.jsonl", ["Line 2", "too deep"]),
        (b'{"text": ' + b"1" * 5000 + b"}", "a.jsonl", ["Line 1", "too long"]),
        (b'{"text": 1, "Text": 2}', "a.jsonl", ["Line 1", "twice"]),
        (csv_of([*GOOD, (" ", "good"), ("x", "good"), ("", "good")]), "a.csv", ["'text'", "blank", "rows 22, 24."]),
        (csv_of([(f"t{n}", "") for n in range(9)]), "a.csv", ["'label'", "blank", "rows 2, 3, 4, 5, 6 and 4 more"]),
        (jsonl_of([*GOOD, ("x", None)]), "a.jsonl", ["'label'", "blank", "line 21"]),
        (jsonl_of([*GOOD, ("x", 0.5)]), "a.jsonl", ["'label'", "a whole number", "line 21"]),
        (jsonl_of([*GOOD, (["x"], "good")]), "a.jsonl", ["'text'", "neither", "line 21"]),
        (jsonl_of([*GOOD, ("\ud800", "good")]), "a.jsonl", ["surrogate", "line 21"]),
        (csv_of([*GOOD, ("x" * 4001, "good")]), "a.csv", ["'text'", "4,000", "row 22"]),
        (csv_of([*GOOD, ("x", "good" * 20)]), "a.csv", ["'label'", "60", "row 22"]),
        (csv_of(GOOD) + b"\na,b,c", "a.csv", ["Row 22", "3 cells", "2 columns", "quotes"]),
        (csv_of(GOOD) + b'\n"never closed,good', "a.csv", ["Row 22", "CSV"]),
        (csv_of(GOOD[:7]), "a.csv", ["7 rows", "at least 8"]),
        (b"text,label", "a.csv", ["0 rows"]),
        (b"text,label\n" + b"x" * 140_000, "a.csv", ["Row 2", "131,072 characters"]),
        (csv_of([(f"t{n % 3}", "good") for n in range(9)]), "a.csv", ["3 different texts", "at least 8"]),
        (csv_of([(text, "good") for text, _ in GOOD]), "a.csv", ["'good'", "2 different labels"]),
        (csv_of([(f"t{n}", f"l{n // 2}") for n in range(60)]), "a.csv", ["30 different labels", "at most 20"]),
        (b"a" + b",b" * 300_000 + b"\n1,2", "a.csv", ["300,001 columns", "at most 1,000"]),
        (json.dumps({f"k{n}": n for n in range(1001)}).encode(), "a.jsonl", ["1,001 columns", "k0, k1, k2"]),
        (csv_of([*GOOD, ("x", "\u200b")]), "a.csv", ["'label'", "blank", "row 22"]),
        (
            csv_of([*GOOD, ("x", "good\u200b")]), "a.csv",
            ["'good[U+200B", "Write them alike"],
        ),
        (
            csv_of([*GOOD, ("x", "caf\u00e9"), ("y", "cafe\u0301")]), "a.csv",
            ["'cafe[U+0301 combining acute accent]'", "'caf[U+00E9"],
        ),
        (
            csv_of([*GOOD, ("x", "not good"), ("y", "not\u00a0good")]), "a.csv",
            ["'not[U+0020 space]good' and 'not[U+00A0 no-break space]good'"],
        ),
        (csv_of([*GOOD, ("once", "rare")]), "a.csv", ["'rare'", "1 text", "at least 2"]),
        (csv_of([*GOOD, (GOOD[0][0], "echo")]), "a.csv", ["'echo'", "0 texts"]),
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


def test_too_many_rows() -> None:
    many = b"text,label\n" + b"".join(b"%d,a\n" % n for n in range(own.MAX_ROWS + 1))
    assert "more than 20,000 rows" in refusal(many)


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


@settings(max_examples=300)
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


def test_a_cell_without_end_is_told_in_our_words() -> None:
    """More than the csv module takes; of a quote that is never closed, too."""
    long = b"x" * 140_000
    expected = (
        "Row 2 has a cell of more than 131,072 characters, which is the limit. Shorten it, or add the double quote "
        "that may be missing at its end."
    )
    assert refusal(b"text,label\n" + long + b",a\n") == expected
    assert refusal(b'text,label\n"' + b"one,a\n" * 30_000) == expected
    assert says(refusal(b'text,label\nfine,a\n"two" lines,b\n'), "Row 3", "CSV")
