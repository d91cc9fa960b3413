"""Parse the files of a fine-tune and derive what the checks read: loss curves in figures, tensors by kind. Nothing is
unpickled, nothing is run.

A file that cannot be read is refused in one sentence that names it.
"""

from __future__ import annotations

import ast
import csv
import io
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from statistics import fmean, pstdev
from typing import Any

from peft_lab.core.disk import parse_json
from peft_lab.core.errors import BadInput
from peft_lab.models.catalogue import known_base
from peft_lab.models.shapes import HEADS, ModelShape
from peft_lab.takeaway.ship.adapter import (
    CONFIG,
    LARGEST_TEXT,
    STATE,
    WANTED,
    WEIGHTS,
    Adapter,
    StoredTensor,
    read_json,
    read_tensors,
)  # fmt: skip
from peft_lab.training.tasks import records

# ----------------------------------------
# Training logs as rows: Trainer's ``trainer_state.json``, lines of JSON, CSV, and console output.


_ALIASES = {
    "train_loss_step": "loss", "training_loss": "loss", "train/loss": "loss", "train_loss": "loss",
    "train/grad_norm": "grad_norm", "lr": "rate", "learning_rate": "rate", "train/learning_rate": "rate",
    "global_step": "step", "train/global_step": "step", "eval/loss": "eval_loss", "val_loss": "eval_loss",
    "validation_loss": "eval_loss", "eval_gen_len": "gen_len",
}  # fmt: skip
#: One row of console output: a Python dictionary, as Trainer prints it.
_PRINTED = re.compile(r"\{'[^{}]*\}")
_WORDS = re.compile(r"(?:Error|Warning|Exception|Traceback|WARN)\b|trainable params")


@dataclass(frozen=True)
class LoggedRow:
    """What was logged at one moment; ``None`` for the rest. Losses are in nats, and may be NaN or infinite."""

    step: float | None = None
    loss: float | None = None
    grad_norm: float | None = None
    rate: float | None = None
    eval_loss: float | None = None
    gen_len: float | None = None


_NAMES = tuple(item.name for item in fields(LoggedRow))


def read_log(name: str, text: str) -> tuple[tuple[LoggedRow, ...], tuple[str, ...] | None]:
    """Return rows and, from a console's log, its other lines; ``None`` if the format has no such lines. Raises
    BadInput: the text has none of the formats, or no loss."""
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
    """Return ``max_steps`` of a ``trainer_state.json``; ``None`` for other logs, or if it is not above 0."""
    try:
        found: Any = parse_json(text) if text.lstrip().startswith("{") else None
    except ValueError:
        return None
    steps = _number(found.get("max_steps")) if isinstance(found, dict) else None
    return steps if steps and math.isfinite(steps) and steps > 0 else None


def _checked(name: str, rows: Iterable[LoggedRow]) -> tuple[LoggedRow, ...]:
    kept = tuple(row for row in rows if row.loss is not None or row.eval_loss is not None)
    if not kept:
        raise BadInput(
            f"{name} contains no loss. Give a log with 'loss' in each row, and 'step' if possible.", "log"
        )
    return kept


def _from_json(text: str) -> list[LoggedRow] | None:
    """Return the rows of one JSON document, or of lines of JSON objects; ``None`` for other text."""
    try:
        found: Any = parse_json(text)
        if isinstance(found, dict):
            found = found.get("log_history", [found])
    except ValueError:
        try:
            found = [parse_json(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            return None
    if not isinstance(found, list):
        return []
    return [_row(each) for each in found if isinstance(each, dict)]


def _from_csv(name: str, text: str) -> list[LoggedRow] | None:
    table = csv.DictReader(io.StringIO(text))
    rows: list[LoggedRow] = []
    try:
        heads = {_name(head) for head in table.fieldnames or ()}
    except csv.Error:
        return None
    if not heads & {"loss", "eval_loss"}:
        return None
    try:
        for line in table:
            rows.append(_row(line))  # noqa: PERF401  the error below states how many there are
    except csv.Error as trouble:  # the header is row 1
        raise BadInput(f"Row {len(rows) + 2:,} of {name} {records.unreadable(trouble)}.", "log") from None
    return rows


def _from_console(name: str, text: str) -> tuple[tuple[LoggedRow, ...], tuple[str, ...]]:
    rows, messages = [], []
    for line in text.splitlines():
        printed = _PRINTED.search(line)
        row = _row(_literal(printed[0])) if printed else LoggedRow()
        if row.loss is not None or row.eval_loss is not None:
            rows.append(row)
        elif line.strip():
            messages.append(line.strip())
    if not rows and not _WORDS.search(text) and not name.endswith((".log", ".out")):
        raise BadInput(
            f"{name} is not a training log. Give trainer_state.json, JSON Lines, CSV with a 'loss' column, or a "
            "trainer's console output.",
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


def _row(entry: Mapping[Any, Any]) -> LoggedRow:
    values: dict[str, float] = {}
    if "train_runtime" in entry:  # Trainer's last line: its train_loss is the mean of the run, not of a step
        return LoggedRow()
    for head, value in entry.items():
        name, number = _name(head), _number(value)
        if name in _NAMES and number is not None:
            values.setdefault(name, number)
    return LoggedRow(**values)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer's files state: two special tokens, and the largest id plus one; ``None`` if not stated."""

    pad: str | None
    eos: str | None
    length: int | None


@dataclass(frozen=True)
class Material:
    """All inputs; ``None`` for those not given.

    Attributes:
        adapter: ``adapter_config.json``. arguments: of the training, by the names the script has for them.
        rows: what was logged, oldest first. messages: the lines of a console log that are not rows.
        planned: the planned number of steps, from the log. tensors: of the adapter file, by name. stored: the file's
            size in bytes.
    """

    adapter: Mapping[str, Any] | None = None
    arguments: Mapping[str, Any] | None = None
    rows: tuple[LoggedRow, ...] | None = None
    messages: tuple[str, ...] | None = None
    planned: float | None = None
    tensors: Mapping[str, StoredTensor] | None = None
    stored: int | None = None
    tokens: Tokens | None = None
    given: tuple[str, ...] = field(default=())

    def argument(self, *names: str) -> Any:
        """Return the first of these training arguments that was given; ``None`` if none was."""
        found = self.arguments or {}
        return next((found[name] for name in names if found.get(name) is not None), None)


def with_config(material: Material, name: str, content: bytes) -> Material:
    """Add an ``adapter_config.json`` (it has a ``peft_type``) or training arguments. Raises BadInput: the file holds no
    JSON object."""
    found = read_json(name, content)
    if not isinstance(found, dict):
        raise BadInput(f"{name} contains no JSON object. Give an adapter config or training arguments.")
    if "peft_type" in found:
        return replace(material, adapter=found, given=(*material.given, name))
    return replace(material, arguments={**(material.arguments or {}), **found}, given=(*material.given, name))


def with_log(material: Material, name: str, content: bytes) -> Material:
    """Add a log. Raises :class:`BadInput`."""
    if len(content) > LARGEST_TEXT:
        raise BadInput(f"{name} is too large to be a training log.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text, so it is not a training log.") from error
    rows, messages = read_log(name, text)
    return replace(
        material,
        planned=planned_steps(text) or material.planned,
        rows=(*(material.rows or ()), *rows) if rows or material.rows else material.rows,
        messages=material.messages if messages is None else (*(material.messages or ()), *messages),
        given=(*material.given, name),
    )


def with_adapter(material: Material, adapter: Adapter) -> Material:
    """Add an adapter. Its own config and log count only if no others were given. Raises BadInput: a file cannot be
    read."""
    files = {name: adapter.take(name) for name in WANTED if name in adapter.names}
    found = replace(
        material,
        tensors=read_tensors(WEIGHTS, files[WEIGHTS]),
        stored=len(files[WEIGHTS]),
        tokens=_tokens(files) or material.tokens,
        given=(*material.given, WEIGHTS),
    )
    if CONFIG in files and found.adapter is None:
        found = with_config(found, CONFIG, files[CONFIG])
    if STATE in files and found.rows is None:
        found = with_log(found, STATE, files[STATE])
    return found


def _tokens(files: Mapping[str, bytes]) -> Tokens | None:
    names = ("tokenizer_config", "special_tokens_map", "tokenizer", "added_tokens")
    config, special, whole, apart = (_object(files, f"{name}.json") for name in names)
    if not (config or special or whole or apart):
        return None
    added = whole.get("added_tokens")
    listed = [each.get("id") for each in added if isinstance(each, dict)] if isinstance(added, list) else []
    vocabulary = _mapping(_mapping(whole, "model"), "vocab")
    ids = [each for each in (*apart.values(), *listed, *vocabulary.values()) if type(each) is int]
    ids += [int(key) for key in _mapping(config, "added_tokens_decoder") if str(key).isdigit()]
    named = {**special, **config}
    length = max(ids) + 1 if ids else None
    return Tokens(_token(named.get("pad_token")), _token(named.get("eos_token")), length)


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    found = read_json(name, files[name]) if name in files else {}
    if not isinstance(found, dict):
        raise BadInput(f"{name} contains no JSON object.")
    return found


def _mapping(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = found.get(key)
    return inner if isinstance(inner, dict) else {}


def _token(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


FEWEST = 6  # losses; with fewer a curve is not judged
#: Name parts of tensors such as LoRA's B or IA³'s vectors, and the value they start from.
STARTS = {"lora_B": 0.0, "lora_embedding_B": 0.0, "lora_E": 0.0, "ia3_l": 1.0}
EMBEDDINGS = ("embed_tokens", "word_embeddings", "wte", "lm_head", "trainable_tokens", "token_adapter")


@dataclass(frozen=True)
class Curve:
    """Training losses, in nats: where they begin and end.

    Attributes:
        start: mean of the first tenth (at least one loss). end: of the last fifth. best: lowest mean of a fifth.
        top: the largest loss. noise: standard deviation of the differences of successive losses, over √2.
    """

    losses: tuple[float, ...]
    start: float
    end: float
    best: float
    top: float
    noise: float

    @property
    def fall(self) -> float:
        """Return the share of the first loss that is gone at the end; negative if the loss rose."""
        return 1 - self.end / self.start if self.start else 0.0


@dataclass(frozen=True)
class Features:
    """Features derived from the material."""

    of: Material

    def _logged(self, name: str) -> tuple[float, ...]:
        """Return one figure of all rows that have it, in the order they were logged."""
        return tuple(value for row in self.of.rows or () if (value := getattr(row, name)) is not None)

    def line(self, pattern: str) -> str | None:
        """Return the first line of the console's output that a regular expression matches; ``None`` if none does."""
        return next((line for line in self.of.messages or () if re.search(pattern, line)), None)

    @cached_property
    def losses(self) -> tuple[float, ...]:
        return self._logged("loss")

    @cached_property
    def curve(self) -> Curve | None:
        """Return the curve's figures; ``None`` for fewer than :data:`FEWEST` losses, or if one is not a number."""
        losses = self.losses
        if len(losses) < FEWEST or not all(map(math.isfinite, losses)):
            return None
        width = max(2, len(losses) // 5)
        means = [fmean(losses[at : at + width]) for at in range(len(losses) - width + 1)]
        noise = pstdev(after - before for before, after in itertools.pairwise(losses)) / math.sqrt(2)
        start = fmean(losses[: max(1, len(losses) // 10)])
        return Curve(losses, start, means[-1], min(means), max(losses), noise)

    @cached_property
    def norms(self) -> tuple[float, ...]:
        return self._logged("grad_norm")

    @cached_property
    def rates(self) -> tuple[float, ...]:
        return self._logged("rate")

    @cached_property
    def rising(self) -> bool:
        """Return whether every logged rate is above the one before, so that no end of a warm-up was seen."""
        steps = list(itertools.pairwise(self.rates))
        return len(self.rates) >= FEWEST and all(before < after for before, after in steps)

    @cached_property
    def last_step(self) -> float:
        """Return the last logged step; 0 if the rows have none."""
        return max((row.step or 0 for row in self.of.rows or ()), default=0)

    @cached_property
    def steps(self) -> float | None:
        """Return the planned number of steps, by arguments or log; ``None`` if neither states it."""
        planned = self.number("max_steps")
        return planned if planned and planned > 0 else self.of.planned or None

    @cached_property
    def rate(self) -> float | None:
        """Return the configured rate, else the largest logged one."""
        asked = self.number("learning_rate", "lr")
        return max(self.rates, default=None) if asked is None else asked

    @cached_property
    def method(self) -> str:
        """Return ``peft_type`` in lower case; without a config the method in the arguments, empty if there is none."""
        adapter = self.of.adapter
        said = self.of.argument("finetuning_type", "method") if adapter is None else adapter.get("peft_type")
        return str(said or "").lower()

    @cached_property
    def base(self) -> ModelShape | None:
        """Return the shape of the config's base if the catalogue has it: by name, id, or the last part of a path."""
        named = (self.of.adapter or {}).get("base_model_name_or_path")
        entry = known_base(named) if isinstance(named, str) else None
        return None if entry is None else entry.shape

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Return ``target_modules`` if they are a list; else nothing."""
        found = (self.of.adapter or {}).get("target_modules")
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @cached_property
    def starting(self) -> dict[str, tuple[StoredTensor, float]]:
        """Return the tensors that start from one known value (B at 0), with that value."""
        return {
            name: (tensor, start)
            for name, tensor in (self.of.tensors or {}).items()
            for mark, start in STARTS.items()
            if f".{mark}" in name
        }

    @cached_property
    def untouched(self) -> bool:
        """Return whether all tensors of :attr:`starting` still have their initial value."""
        return bool(self.starting) and all(
            tensor.size and tensor.finite == 1 and tensor.low == start == tensor.high
            for tensor, start in self.starting.values()
        )

    @cached_property
    def head(self) -> str | None:
        """Return the name of a task head's tensor; ``None`` if there is none."""
        return next(
            (name for name in self.of.tensors or {} if any(part in HEADS for part in name.split("."))),
            None,
        )

    @cached_property
    def embedded(self) -> bool:
        """Return whether the adapter holds any part of an embedding."""
        return any(part in name for name in self.of.tensors or {} for part in EMBEDDINGS)

    def yes(self, *names: str) -> bool:
        """Return whether one of these training arguments is true."""
        return any((self.of.arguments or {}).get(name) is True for name in names)

    def number(self, *names: str) -> float | None:
        """Return the first of these training arguments that was given; ``None`` if it is not a number."""
        found: Any = self.of.argument(*names)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
