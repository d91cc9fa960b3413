"""Read a learner's CSV, JSON Lines or CoNLL file into records, with one clear sentence for whatever is wrong with it.

Limits hold while reading: it stops at too many rows or columns, and only the wanted cells of a row are stored.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from peft_lab.core.disk import parse_json
from peft_lab.core.errors import BadInput, echoed
from peft_lab.training.tasks.base import alike

FIELD = "file"
#: File name endings and the formats they stand for.
SUFFIXES = {".csv": "CSV", ".jsonl": "JSON Lines", ".conll": "CoNLL", ".txt": "CoNLL"}
DELIMITERS = (",", ";", "\t")
_SAVE_AS = "save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')"
_LONGEST_NAME = 120
MAX_ROWS = 20_000
MAX_COLUMNS = 1_000
_ZIP = b"PK\x03\x04"
_MARKED = (  # by the byte order mark; UTF-32's begins as UTF-16's does
    ("UTF-32", (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    ("UTF-16", (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)


@dataclass(frozen=True)
class Record:
    """One row of a file, with the cells of the wanted columns. ``number`` is its row in a spreadsheet (the header is
    row 1), its line in JSON Lines, or its first line in CoNLL."""

    number: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class RecordTable:
    """The records of a file. ``unit``: ``row``, ``line``, or ``word`` for records of one word a line. ``columns``: the
    names."""

    unit: str
    columns: tuple[str, ...]
    records: tuple[Record, ...]


def bad(message: str) -> BadInput:
    """Return the error for a file, as one printable line whatever names of the file it repeats."""
    line = " ".join(message.split())
    return BadInput("".join(char if char.isprintable() else ascii(char)[1:-1] for char in line), FIELD)


def shorten(text: str) -> str:
    """Return a name out of a file, cut to what a message can hold."""
    return echoed(text, _LONGEST_NAME)


def require_unlike(what: str, names: Sequence[str], advice: str) -> None:
    """Check that no two names look the same to a reader. Raises BadInput with the first two that do."""
    if pair := alike(names):
        raise bad(
            f"The {what} '{pair[0]}' and '{pair[1]}' look the same but are written differently, so they would count as "
            f"two. {advice}"
        )


def half_a_character(text: str) -> bool:
    """Return whether a text contains a lone surrogate."""
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)


def read(data: bytes, filename: str, wanted: Container[str]) -> RecordTable:
    """Return the records of a CSV file, of JSON Lines or of CoNLL (one word in each line), with the cells of ``wanted``
    columns. Raises BadInput, as soon as there are too many rows or columns."""
    return reader_of(filename)(decode(data), wanted)


def decode(data: bytes) -> str:
    """Return the text of ``data``, UTF-8 with or without a byte order mark. Raises BadInput for anything else."""
    if not data.strip():
        raise bad("The file is empty.")
    if data.startswith(_ZIP):
        raise bad("This is a zip archive or an Excel workbook (.xlsx), not text. Export it as 'CSV UTF-8'.")
    for name, marks in _MARKED:
        if data.startswith(marks):
            raise bad(f"The file is in {name}: {_SAVE_AS}.")
    if b"\0" in data:
        raise bad(
            f"The file contains binary data (a NUL byte at position {data.index(0):,}), not UTF-8 text."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as trouble:
        line = trouble.object.count(b"\n", 0, trouble.start) + 1
        byte = trouble.object[trouble.start]
        raise bad(f"The file is not UTF-8 (byte 0x{byte:02X} in line {line:,}): {_SAVE_AS}.") from None
    if not text.strip():
        raise bad("The file is empty.")
    return text


def reader_of(filename: str) -> Callable[[str, Container[str]], RecordTable]:
    """Return the function that reads a file of that name. Raises BadInput for an ending not in :data:`SUFFIXES`."""
    readers = {"CSV": _read_csv, "JSON Lines": _read_jsonl, "CoNLL": _read_conll}
    for suffix, title in SUFFIXES.items():
        if filename.lower().endswith(suffix):
            return readers[title]
    known = " or ".join(f"{suffix} ({title})" for suffix, title in SUFFIXES.items())
    raise bad(f"'{shorten(filename)}' cannot be read: its name must end in {known}.")


def _read_csv(text: str, wanted: Container[str]) -> RecordTable:
    header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    delimiter = max(DELIMITERS, key=header.count)  # the first of them where none occurs
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] = ()
    places: list[tuple[int, str]] = []
    records: list[Record] = []
    number = 0
    try:
        for number, cells in enumerate(rows, start=1):
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = tuple(cell.strip().lower() for cell in cells)
                _few(columns[:3], len(columns))
                for name, times in Counter(columns).items():
                    if name and times > 1:
                        raise bad(
                            f"The column '{shorten(name)}' occurs {times} times in the header. Keep one."
                        )
                places = [(place, name) for place, name in enumerate(columns) if name in wanted]
            elif len(cells) > len(columns):
                raise bad(
                    f"Row {number:,} has {len(cells):,} cells but the header has {len(columns):,} columns. Put a text "
                    'that contains the separator in double quotes, "like, this".'
                )
            else:
                values = {name: cells[place] if place < len(cells) else "" for place, name in places}
                _add(records, Record(number, values))
    except csv.Error as trouble:
        raise bad(f"Row {number + 1:,} {unreadable(trouble)}.") from None
    return RecordTable("row", columns, tuple(records))


def unreadable(trouble: csv.Error) -> str:
    """Return what is wrong with a row that the csv module rejects, to follow the row's number."""
    if "field limit" not in str(trouble):
        return f"cannot be read as CSV: {trouble}"
    return (
        f"has a cell of more than {csv.field_size_limit():,} characters, which is the limit. Shorten it, or add the "
        "double quote that may be missing at its end"
    )


def _add(records: list[Record], record: Record) -> None:
    if len(records) == MAX_ROWS:
        raise bad(f"The file has more than {MAX_ROWS:,} rows, which is the limit. Keep a sample of it.")
    records.append(record)


def _few(columns: Iterable[str], count: int) -> None:
    if count > MAX_COLUMNS:
        first = shorten(", ".join(columns))
        raise bad(
            f"The file has {count:,} columns ({first}); at most {MAX_COLUMNS:,} are allowed. Remove some."
        )


def _read_jsonl(text: str, wanted: Container[str]) -> RecordTable:
    columns: dict[str, None] = {}
    records: list[Record] = []
    # not splitlines(): JSON strings may hold the Unicode line separators it also splits at
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        if line.strip():
            values = _json_object(line, number)
            columns.update(dict.fromkeys(values))
            _few(islice(columns, 3), len(columns))
            cells = {name: value for name, value in values.items() if name in wanted}
            _add(records, Record(number, cells))
    return RecordTable("line", tuple(columns), tuple(records))


def _read_conll(text: str, wanted: Container[str]) -> RecordTable:
    """Read a word in each line, with its tag in the last column; a blank line or ``-DOCSTART-`` ends a sentence."""
    records: list[Record] = []
    words: list[str] = []
    tags: list[str] = []
    # as in JSON Lines, not splitlines(); the last sentence may end without a blank line
    for number, line in enumerate([*io.StringIO(text, newline=None), ""], start=1):
        cells = line.strip(" \r\n").split("\t" if "\t" in line else None)
        if not line.strip() or cells[0] == "-DOCSTART-":
            if words:
                _add(records, Record(number - len(words), {"tokens": words, "tags": tags}))
            words, tags = [], []
        elif len(cells) < 2:
            raise bad(
                f"Line {number:,} has one column, but a word must be followed by a tab or a space and its tag."
            )
        else:
            words.append(cells[0].strip())
            tags.append(cells[-1].strip())
    return RecordTable("word", ("tokens", "tags"), tuple(records))


def _json_object(line: str, number: int) -> dict[str, Any]:
    try:
        parsed = parse_json(line)
    except json.JSONDecodeError as trouble:
        hint = " Each line of JSON Lines is one whole object." if number == 1 and line.strip() in "[{" else ""
        raise bad(f"Line {number:,} is not JSON: {trouble.msg} at column {trouble.colno}.{hint}") from None
    except ValueError:  # a number of thousands of digits, or as many nested brackets
        raise bad(
            f"Line {number:,} is not readable JSON: a value is too long or nested too deeply."
        ) from None
    if not isinstance(parsed, dict):
        names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
        found = names.get(type(parsed), "a number")
        raise bad(f"Line {number:,} contains {found}, but a JSON object in braces was expected.")
    values = {key.strip().lower(): value for key, value in parsed.items()}
    if len(values) < len(parsed):
        raise bad(f"Line {number:,} names a column twice.")
    return values
