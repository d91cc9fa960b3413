"""Training logs as rows: Trainer's ``trainer_state.json``, lines of JSON, CSV, and what a console shows."""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from peft_lab.errors import BadInput
from peft_lab.tasks import records

_ALIASES = {
    "train_loss_step": "loss", "training_loss": "loss", "train/loss": "loss", "train_loss": "loss",
    "train/grad_norm": "grad_norm", "lr": "rate", "learning_rate": "rate", "train/learning_rate": "rate",
    "global_step": "step", "train/global_step": "step", "eval/loss": "eval_loss", "val_loss": "eval_loss",
    "validation_loss": "eval_loss", "eval_gen_len": "gen_len",
}  # fmt: skip
#: One row of a console: a Python dictionary on a line of its own, as Trainer prints it.
_PRINTED = re.compile(r"\{'[^{}]*\}")
_WORDS = re.compile(r"(?:Error|Warning|Exception|Traceback|WARN)\b|trainable params")


@dataclass(frozen=True)
class Row:
    """What was logged at one moment; ``None`` for what was not. Losses are in nats, and may be no numbers."""

    step: float | None = None
    loss: float | None = None
    grad_norm: float | None = None
    rate: float | None = None
    eval_loss: float | None = None
    gen_len: float | None = None


_NAMES = tuple(item.name for item in fields(Row))


def read_log(name: str, text: str) -> tuple[tuple[Row, ...], tuple[str, ...] | None]:
    """Rows and, from a console's log, its other lines; ``None`` where the format has no such lines.

    Raises:
        BadInput: none of the formats, or one of them without a loss.
    """
    stripped = text.strip()
    if not stripped:
        raise BadInput(f"{name} is empty.", "log")
    if stripped[0] in "{[":
        found = _from_json(stripped)
        if found is not None:
            return _checked(name, found), None
    if "," in stripped.splitlines()[0] and not _PRINTED.search(stripped):
        table = _from_csv(name, stripped)
        if table is not None:
            return _checked(name, table), None
    return _from_console(name, stripped)


def planned_steps(text: str) -> float | None:
    """``max_steps`` of a ``trainer_state.json``; ``None`` in other logs, and where it is not above 0."""
    try:
        found: Any = json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None
    steps = _number(found.get("max_steps")) if isinstance(found, dict) else None
    return steps if steps and math.isfinite(steps) and steps > 0 else None


def _checked(name: str, rows: Iterable[Row]) -> tuple[Row, ...]:
    kept = tuple(row for row in rows if row.loss is not None or row.eval_loss is not None)
    if not kept:
        raise BadInput(f"{name} holds no loss: a log has rows with 'loss', and best with 'step' too.", "log")
    return kept


def _from_json(text: str) -> list[Row] | None:
    """Rows of one JSON document, or of a JSON object a line; ``None`` for other text."""
    try:
        found: Any = json.loads(text)
        if isinstance(found, dict):
            found = found.get("log_history", [found])
    except (ValueError, RecursionError):
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            return None
    if not isinstance(found, list):
        return []
    return [_row(each) for each in found if isinstance(each, dict)]


def _from_csv(name: str, text: str) -> list[Row] | None:
    table = csv.DictReader(io.StringIO(text))
    rows: list[Row] = []
    try:
        heads = {_name(head) for head in table.fieldnames or ()}
    except csv.Error:
        return None
    if not heads & {"loss", "eval_loss"}:
        return None
    try:
        for line in table:
            rows.append(_row(line))  # noqa: PERF401  how many there are is told
    except csv.Error as trouble:  # the header is row 1
        raise BadInput(f"Row {len(rows) + 2:,} of {name} {records.unreadable(trouble)}.", "log") from None
    return rows


def _from_console(name: str, text: str) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    rows, messages = [], []
    for line in text.splitlines():
        printed = _PRINTED.search(line)
        row = _row(_literal(printed[0])) if printed else Row()
        if row.loss is not None or row.eval_loss is not None:
            rows.append(row)
        elif line.strip():
            messages.append(line.strip())
    if not rows and not _WORDS.search(text) and not name.endswith((".log", ".out")):
        raise BadInput(
            f"{name} is no training log: neither trainer_state.json, lines of JSON, CSV with a 'loss' column, nor "
            "what a trainer prints.",
            "log",
        )
    return tuple(rows), tuple(messages)


def _literal(text: str) -> Mapping[str, Any]:
    try:
        found = ast.literal_eval(re.sub(r"\b(nan|inf)\b(?!')", "None", text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    lost = dict.fromkeys(re.findall(r"'(\w+)': -?(?:nan|inf)\b", text), math.nan)
    return {**found, **lost}


def _name(head: Any) -> str:
    text = str(head).strip().lower()
    return _ALIASES.get(text, text)


def _row(entry: Mapping[Any, Any]) -> Row:
    values: dict[str, float] = {}
    summary = (
        "train_runtime" in entry
    )  # Trainer's last line: its train_loss is the mean of the run, not a step's
    for head, value in entry.items():
        name = _name(head)
        number = None if summary else _number(value)
        if name in _NAMES and number is not None and name not in values:
            values[name] = number
    return Row(**values)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
