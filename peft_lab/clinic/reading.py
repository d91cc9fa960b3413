"""The files of a fine-tune as data: configs, logs, adapter folders. Nothing is unpickled, nothing is run.

Whatever cannot be read is refused in one sentence that names the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peft_lab import disk
from peft_lab.clinic.logs import Row, planned_steps, read_log
from peft_lab.clinic.tensors import Tensor, read_tensors
from peft_lab.errors import BadInput

LARGEST = 2 << 30  # bytes of an adapter file
LARGEST_TEXT = 64 << 20  # bytes of a config or a log
CONFIG, WEIGHTS, STATE = "adapter_config.json", "adapter_model.safetensors", "trainer_state.json"
TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json")
WANTED = (CONFIG, WEIGHTS, STATE, *TOKENIZER)
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer's files say: two special tokens, and the largest id with one added; ``None``: not said."""

    pad: str | None
    eos: str | None
    length: int | None


@dataclass(frozen=True)
class Material:
    """Everything that was given; ``None`` for what was not.

    Attributes:
        adapter: ``adapter_config.json``. arguments: of the training, by the names the script has for them.
        rows: what was logged, oldest first. messages: the lines of a console log that are no rows.
        planned: steps that the run was to have, as its log says. tensors: of the adapter file, by name. stored: its
            size in bytes.
    """

    adapter: Mapping[str, Any] | None = None
    arguments: Mapping[str, Any] | None = None
    rows: tuple[Row, ...] | None = None
    messages: tuple[str, ...] | None = None
    planned: float | None = None
    tensors: Mapping[str, Tensor] | None = None
    stored: int | None = None
    tokens: Tokens | None = None
    given: tuple[str, ...] = field(default=())

    def argument(self, *names: str) -> Any:
        """The first of these training arguments that was given."""
        found = self.arguments or {}
        return next((found[name] for name in names if found.get(name) is not None), None)


def read_json(name: str, content: bytes) -> Any:
    """A JSON file. Raises :class:`BadInput`."""
    if len(content) > LARGEST_TEXT:
        raise BadInput(f"{name} is too large to be a config or a log of text.")
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text.") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} is not valid JSON: {str(error)[:120]}.") from error


def with_config(material: Material, name: str, content: bytes) -> Material:
    """Add an ``adapter_config.json`` (it has a ``peft_type``) or training arguments.

    Raises:
        BadInput: no JSON object.
    """
    found = read_json(name, content)
    if not isinstance(found, dict):
        raise BadInput(
            f"{name} does not hold a JSON object, so it is neither an adapter config nor arguments."
        )
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


def with_adapter(material: Material, files: Mapping[str, bytes]) -> Material:
    """Add what lies in an adapter folder, by file name. Its own log counts where no other was given.

    Raises:
        BadInput: no ``adapter_model.safetensors``, weights that are a pickle, files that cannot be read.
    """
    refuse(files)
    tensors = read_tensors(WEIGHTS, files[WEIGHTS])
    found = replace(
        material,
        tensors=tensors,
        stored=len(files[WEIGHTS]),
        tokens=_tokens(files) or material.tokens,
        given=(*material.given, WEIGHTS),
    )
    if CONFIG in files and found.adapter is None:
        found = with_config(found, CONFIG, files[CONFIG])
    if STATE in files and found.rows is None:
        found = with_log(found, STATE, files[STATE])
    return found


def refuse(names: Iterable[str]) -> None:
    """Raises :class:`BadInput` for a folder without weights that can be read safely."""
    names = sorted(names)
    if WEIGHTS in names:
        return
    pickled = [name for name in names if name.endswith(PICKLES) and name != "training_args.bin"]
    if pickled:
        raise BadInput(
            f"{pickled[0]} is a pickle, which can run code when it is opened, so it is not read; save the adapter "
            "with save_pretrained(..., safe_serialization=True).",
            "adapter",
        )
    raise BadInput(f"The adapter folder holds no {WEIGHTS}.", "adapter")


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of an adapter folder that are read. Raises :class:`BadInput`."""
    names = [entry.name for entry in os.scandir(disk.folder(folder, "adapter")) if entry.is_file()]
    refuse(names)
    return {
        name: disk.take(folder / name, LARGEST if name == WEIGHTS else LARGEST_TEXT, "adapter")
        for name in names
        if name in WANTED
    }


def _tokens(files: Mapping[str, bytes]) -> Tokens | None:
    config = _object(files, "tokenizer_config.json")
    special = _object(files, "special_tokens_map.json")
    whole = _object(files, "tokenizer.json")
    apart = _object(files, "added_tokens.json")
    if not (config or special or whole or apart):
        return None
    named = {**special, **config}
    ids = [int(key) for key in _mapping(config, "added_tokens_decoder") if str(key).isdigit()]
    ids += [each for each in apart.values() if type(each) is int]
    added = whole.get("added_tokens")
    ids += [
        each["id"]
        for each in (added if isinstance(added, list) else ())
        if isinstance(each, dict) and type(each.get("id")) is int
    ]
    vocabulary = _mapping(_mapping(whole, "model"), "vocab")
    ids += [each for each in vocabulary.values() if type(each) is int]
    return Tokens(
        _token(named.get("pad_token")), _token(named.get("eos_token")), max(ids) + 1 if ids else None
    )


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    found = read_json(name, files[name]) if name in files else {}
    if not isinstance(found, dict):
        raise BadInput(f"{name} does not hold a JSON object.")
    return found


def _mapping(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = found.get(key)
    return inner if isinstance(inner, dict) else {}


def _token(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
