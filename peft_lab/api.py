"""The commands as functions: each returns what its command prints, as rows, as a table and as pandas.

    >>> import peft_lab
    >>> counted = peft_lab.count("gpt2", "lora", settings={"r": 8})
    >>> counted.rows[0]["trainable"]
    294912

A function runs its command in this process, so its ``document`` is what ``--json`` prints. Where a command has an
option, the function takes it by name with underscores (``peak(..., seq=2048)`` is ``memory --seq 2048``); ``peft-lab
COMMAND --help`` lists them. Torch and transformers are loaded at the first call that needs them, mostly in worker
processes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Result:
    """What a command found.

    Attributes:
        command: its words. document: as ``--json`` prints it. notes: remarks and what was left out, a line each.
        text, html: the tables of the terminal.
    """

    command: tuple[str, ...]
    document: Any
    notes: tuple[str, ...]
    text: str
    html: str

    @property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """Return the document's rows; of a document without rows, itself."""
        return tuple(self.document) if isinstance(self.document, list) else (self.document,)

    def frame(self) -> pandas.DataFrame:
        """Return the rows as a table of pandas; nested values are columns with dots (``step_seconds.value``)."""
        import pandas

        return pandas.json_normalize([dict(row) for row in self.rows])

    def __getitem__(self, key: Any) -> Any:
        return self.document[key]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return "\n".join([self.text.rstrip(), *self.notes])

    def _repr_html_(self) -> str:
        return self.html


def count(
    model: Any, method: Any = None, *, settings: Mapping[str, Any] | None = None, **options: Any
) -> Result:
    """Count the trainable and all parameters of methods on a model, without weights; the command ``count``.

    Args:
        model: a catalogue name, Hugging Face id or folder, or a transformers config.
        method: a slug such as ``"lora"``; a PEFT config (``LoraConfig(...)``), a mapping of one or the file of one; or
            ``None`` for every method that applies. settings: of the method.

    Raises:
        BadInput: no such model, method or setting.

    >>> config = {"peft_type": "LORA", "r": 8, "target_modules": ["c_attn"], "fan_in_fan_out": True}
    >>> count("gpt2", config).rows[0]["trainable"]
    294912
    """
    return _run("count", model, method, settings, options)


def peak(
    model: Any, method: Any = None, *, settings: Mapping[str, Any] | None = None, **options: Any
) -> Result:
    """Simulate the peak memory of a training step, without weights; the command ``memory``.

    Args:
        model, method, settings: as in :func:`count`. options: ``batch``, ``seq``, ``dtype``, ``precision``,
            ``optimizer``, ``checkpointing``, ``devices``, ``sharding``, ``fits`` and the others of ``memory``; also
            ``lengths``, the tokens of each row or a file of them, for what a run over such rows reserves.

    Raises:
        BadInput: as :func:`count`, and for a step that cannot be simulated.
    """
    return _run("memory", model, method, settings, options)


def step_seconds(
    model: Any, method: Any = "lora", *, gpu: str, settings: Mapping[str, Any] | None = None, **options: Any
) -> Result:
    """Estimate the seconds of a training step on a GPU (``step_seconds`` of each row); ``memory --gpu``.

    Args:
        gpu: a card by name, such as ``"l40s"``. The others as in :func:`peak`.
    """
    return _run("memory", model, method, settings, {"gpu": gpu, **options})


def plan(model: Any, *, gpu: str, **options: Any) -> Result:
    """Plan a training on one or more GPUs: what fits, its hours and its files; the command ``plan``.

    Args:
        model: as in :func:`count`, or the file of another tool's config (``axolotl.yaml``). gpu: a card by name.
        options: ``devices``, ``rows``, ``row_tokens``, ``hours``, ``objective`` and the others of ``plan``.

    Raises:
        BadInput: nothing fits, with what would.
    """
    return _run("plan", model, None, None, {"gpu": gpu, **options})


def recommend(**answers: Any) -> Result:
    """Recommend a method for a situation, with reasons; the command ``recommend``. ``answers``: its ``--answer``."""
    return _ask(
        ["recommend", *(word for key, one in answers.items() for word in ("--answer", f"{key}={one}"))]
    )


def passport(adapter: str | Path, base: str | Path | None = None) -> Result:
    """Say what each engine does with an adapter: a run, a folder, a zip or a Hugging Face id; the command ``ship``."""
    return _ask(["ship", str(adapter), *([] if base is None else ["--base", str(base)])])


def diagnose(
    *, config: str | Path | None = None, log: str | Path | None = None, adapter: str | Path | None = None
) -> Result:
    """Rank the likely causes of a failed training from its config, log and adapter; the command ``diagnose``."""
    given = {"config": config, "log": log, "adapter": adapter}
    return _ask(["diagnose", *_words({name: one for name, one in given.items() if one is not None})])


# ----------------------------------------


def _run(
    command: str, model: Any, method: Any, settings: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Result:
    """Run a command on a model and a method, whose configs are written to files for it."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        words = [command, *_model(model, scratch)]
        if isinstance(method, str) and not method.endswith(".json"):
            words += ["--method", method]
        elif method is not None:
            words += ["--adapter-config", str(_config(method, scratch))]
        for name, value in (settings or {}).items():
            words += ["--set", f"{name}={_text(value)}"]
        lengths = options.get("lengths")
        if lengths is not None and not isinstance(lengths, str | Path):
            (scratch / "lengths.txt").write_text("\n".join(map(str, lengths)), "utf-8")
            options = {**options, "lengths": scratch / "lengths.txt"}
        return _ask([*words, *_words(options)])


def _model(model: Any, scratch: Path) -> list[str]:
    """Return the words that name a model: its config is written as a folder, and a tool's config is an argument."""
    if hasattr(model, "to_json_file"):
        (scratch / "model").mkdir()
        model.to_json_file(scratch / "model" / "config.json")
        return ["--model", str(scratch / "model")]
    return [str(model)] if Path(model).is_file() else ["--model", str(model)]


def _config(method: Any, scratch: Path) -> Path:
    """Return the file of a PEFT config."""
    if isinstance(method, str | Path):
        return Path(method)
    if hasattr(method, "save_pretrained"):
        method.save_pretrained(scratch)
    else:
        (scratch / "adapter_config.json").write_text(json.dumps(dict(method)), "utf-8")
    return scratch / "adapter_config.json"


def _words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words: ``True`` is the option alone, ``False`` leaves it out."""
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [] if value is False else [option, _text(value)]
    return words


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _ask(words: list[str]) -> Result:
    """Run a command in this process, and return what it would have printed."""
    from peft_lab import cli
    from peft_lab.cli import output
    from peft_lab.core.asking import OPERATOR, Asker, acting_for

    cli.quieten_libraries()
    with output.collected() as taken, acting_for(Asker(OPERATOR)):
        cli.run(words)
    return Result(tuple(words), taken.document, tuple(taken.notes), taken.text, taken.html)
