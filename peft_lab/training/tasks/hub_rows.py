"""Read rows from a dataset's files in a separate process, with limits on time and memory.

``python -m peft_lab.training.tasks.hub_rows`` reads a request as JSON from stdin. It writes JSON Lines to stdout, and
the numbers of rows taken and available as the last line of stderr.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_lab.core.errors import BadInput, RunError, in_short
from peft_lab.training.tasks import limited
from peft_lab.training.tasks.records import unreadable

FIELD = "own_data"
#: Formats that are read, in order of preference for a split that has several.
ENDINGS = (".parquet", ".jsonl", ".csv")
#: The columns that a task is made of; other columns are ignored.
WANTED = ("text", "label", "prompt", "completion", "messages", "conversations", "tokens", "tags")
#: The limits of an upload (:mod:`peft_lab.training.tasks.own`, :mod:`peft_lab.training.tasks.records`).
MAX_ROWS, MAX_BYTES = 20_000, 5_000_000
CPU_SECONDS, SECONDS, MEMORY = 60, 180.0, 4 * 2**30
_BATCH = 1_000
_REFUSED = 3


@dataclass(frozen=True)
class Rows:
    """Rows as JSON Lines, with the number taken and the number available."""

    data: bytes = field(repr=False)
    taken: int
    available: int


def read(paths: Sequence[Path], columns: Mapping[str, str]) -> Rows:
    """Return the rows of files of one format, at equal steps if there are too many. ``columns``: our column names, by
    the dataset's. Raises BadInput, RunError (the process failed)."""
    request = json.dumps({"paths": [str(path) for path in paths], "columns": dict(columns)})
    try:
        code, data, last = limited.run(__name__, data=request.encode(), seconds=SECONDS)
    except TimeoutError:
        raise BadInput(
            "The dataset takes too long to read. Choose a smaller split, or save a sample as a file.", FIELD
        ) from None
    if code == _REFUSED:
        raise BadInput(last, FIELD)
    if code != 0:
        raise RunError(f"The process that reads the dataset ended: {last}.")
    taken, available = json.loads(last)
    return Rows(data, taken, available)


# -- in the process of its own -----------------------------------------------------------------------------------


def main() -> None:
    """Read the request from stdin, and answer on stdout and stderr."""
    limited.limit(CPU_SECONDS, MEMORY)
    request = json.loads(sys.stdin.read())
    try:
        lines, available = sampled([Path(path) for path in request["paths"]], request["columns"])
    except (BadInput, MemoryError) as refusal:
        full = "The dataset takes too much memory to read. Save a sample as a file."
        sys.stderr.write(f"{refusal if isinstance(refusal, BadInput) else full}\n")
        sys.exit(_REFUSED)
    sys.stdout.buffer.write(b"".join(lines))
    sys.stderr.write(f"{json.dumps([len(lines), available])}\n")


def sampled(paths: Sequence[Path], columns: Mapping[str, str]) -> tuple[list[bytes], int]:
    """Return one line per row taken, and the number of rows. Equal steps keep every label of a sorted dataset."""
    sizes, available = 0, 0
    for line in _lines(paths, columns):
        sizes, available = sizes + len(line), available + 1
    step = max(1, -(-available // MAX_ROWS), -(-sizes // MAX_BYTES))
    while True:
        taken = [line for number, line in enumerate(_lines(paths, columns)) if number % step == 0]
        if sum(map(len, taken)) <= MAX_BYTES or len(taken) == 1:
            return taken, available
        step += 1


def _lines(paths: Sequence[Path], columns: Mapping[str, str]) -> Iterator[bytes]:
    readers = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv}
    for path in paths:
        try:
            for row in readers[path.suffix.lower()](path, columns):
                yield json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        except (BadInput, MemoryError):
            raise
        except Exception as error:  # whatever a damaged file makes its reader raise
            raise BadInput(f"{path.name} cannot be read: {in_short(error, 200)}.", FIELD) from error


def _wanted(names: Sequence[str], columns: Mapping[str, str], file: str) -> dict[str, str]:
    """Return our names of the columns to read, by the dataset's. Raises BadInput if one is missing or none fits."""
    missing = [name for name in columns if name not in names]
    if missing:
        raise BadInput(f"{file} has no column '{missing[0]}'; it has {', '.join(names)[:200]}.", FIELD)
    named = set(columns.values())
    ours = {name: name for name in names if name in WANTED and name not in named} | dict(columns)
    if not ours:
        raise BadInput(
            f"{file} has the columns {', '.join(names)[:200]}. State which to use, as ?text=sentence&label=label, "
            "?prompt=question&completion=answer or ?tags=ner_tags.",
            FIELD,
        )
    return ours


def _parquet(path: Path, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet  # type: ignore[import-untyped]

    with parquet.ParquetFile(path) as file:
        wanted = _wanted(file.schema_arrow.names, columns, path.name)
        classes = _classes(file.schema_arrow.metadata or {})
        for batch in file.iter_batches(batch_size=_BATCH, columns=list(wanted)):
            for row in batch.to_pylist():
                yield {ours: _named(row[theirs], classes.get(theirs)) for theirs, ours in wanted.items()}


def _classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Return the label names of each column, by their number, which ``datasets`` stores in the file's schema; also of
    columns of lists of labels."""
    with suppress(ValueError, AttributeError, KeyError, TypeError):
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        kinds = {name: kind[0] if isinstance(kind, list) else kind for name, kind in features.items()}
        kinds = {name: kind.get("feature") or kind for name, kind in kinds.items()}
        return {
            name: [str(label) for label in kind["names"]]
            for name, kind in kinds.items()
            if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"
        }
    return {}


def _named(value: Any, names: Sequence[str] | None) -> Any:
    if isinstance(value, list) and names is not None:
        return [_named(one, names) for one in value]
    if names is not None and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _jsonl(path: Path, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    wanted: dict[str, str] = {}
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                row = json.loads(line)
                wanted = wanted or _wanted(list(row), columns, path.name)
                yield {ours: row.get(theirs) for theirs, ours in wanted.items()}


def _csv(path: Path, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        read_ = 0  # rows, the header among them
        try:
            wanted = _wanted(list(rows.fieldnames or ()), columns, path.name)
            read_ += 1
            for row in rows:
                read_ += 1
                yield {ours: row.get(theirs) for theirs, ours in wanted.items()}
        except csv.Error as trouble:
            raise BadInput(f"Row {read_ + 1:,} of {path.name} {unreadable(trouble)}.", FIELD) from None


if __name__ == "__main__":
    main()
