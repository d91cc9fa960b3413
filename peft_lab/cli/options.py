"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.ask.field import Values
from peft_lab.cli import output
from peft_lab.core import disk
from peft_lab.core.errors import BadInput, UnknownName, echoed
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.shared import adapters_library as library
from peft_lab.models.catalogue import ModelEntry
from peft_lab.runs import store
from peft_lab.runs.store import Run

_LARGEST_CONFIG = 4 << 20  # bytes; a real one has a few thousand

Offload = Annotated[
    bool, typer.Option("--offload", help="What the backward pass needs waits in main memory.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Model = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME", help="Catalogue name, Hugging Face id or local path.")
]
OneModel = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME", help="Catalogue name, Hugging Face id or local path."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="SLUG", help="A method; repeat it or separate several with commas."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting of the method; repeatable, lists with commas."
    ),
]
AdapterConfigs = Annotated[
    list[Path] | None,
    typer.Option(
        "--adapter-config", metavar="FILE", help="Any adapter_config.json, of PEFT or adapters; repeatable."
    ),
]


@dataclass(frozen=True)
class AdapterConfigFile:
    """The content of one ``adapter_config.json`` and where it came from; ``None`` (null): no adapter."""

    path: Path
    content: Mapping[str, Any] | None


def split_slugs(texts: Sequence[str]) -> list[str]:
    """``["lora,ia3", "bitfit"]`` as three slugs, each once, in order; the names are not looked up."""
    return list(dict.fromkeys(slug.strip() for text in texts for slug in text.split(",") if slug.strip()))


def choose_methods(texts: Sequence[str], option: str = "--method") -> list[MethodSpec]:
    """The methods that ``option`` names. Raises UnknownName, or BadInput for an option without a name in it."""
    slugs = split_slugs(texts)
    if texts and not slugs:
        raise BadInput(f"{option} names no method. Known: {', '.join(all_methods())}.", "method")
    return [get_method(slug) for slug in slugs]


def split_assignment(text: str) -> tuple[str, str]:
    """``key=value`` as a pair. Raises BadInput without a ``=`` or without a key."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BadInput(f"--set takes KEY=VALUE, such as r=16; '{echoed(text)}' is not of that form.")
    return key.strip(), value


def parse_sets(texts: Sequence[str], methods: Sequence[MethodSpec]) -> dict[str, dict[str, Any]]:
    """The knob values that ``--set`` gives, per method slug.

    With several methods a knob goes to those that have it, and at least one has to.

    Raises:
        UnknownName: no chosen method has the knob; the nearest is named.
        BadInput: a value that the knob does not take, or a knob set twice.
    """
    values: dict[str, dict[str, Any]] = {method.slug: {} for method in methods}
    seen: set[str] = set()
    for text in texts:
        key, value = split_assignment(text)
        if key in seen:
            raise BadInput(f"'{echoed(key)}' is set twice; give it once, lists with commas.", key)
        seen.add(key)
        takers = [method for method in methods if any(knob.name == key for knob in method.knobs)]
        if not takers:
            raise _unknown_knob(key, methods)
        for method in takers:
            values[method.slug][key] = method.knob(key).parse(value)
    return values


def _unknown_knob(key: str, methods: Sequence[MethodSpec]) -> BadInput:
    if not methods:
        return BadInput(
            f"--set {echoed(key)} changes a knob of a method; an adapter config has its settings in the file.",
            key,
        )
    known = dict.fromkeys(knob.name for method in methods for knob in method.knobs)
    what = f"{methods[0].title} knob" if len(methods) == 1 else "knob of these methods"
    if not known:
        return BadInput(f"{methods[0].title} has no knobs, so '{echoed(key)}' cannot be set.", key)
    return UnknownName(what, key, known, key)


def one_method(slug: str, sets: Sequence[str]) -> tuple[MethodSpec, Values]:
    """One method by slug and its values, for commands that take exactly one."""
    method = get_method(slug)
    return method, parse_sets(sets, [method])[method.slug]


def read_adapter_config(path: Path) -> AdapterConfigFile:
    """Read one ``adapter_config.json``, or that of an adapter folder.

    Raises:
        BadInput: no such file, or no JSON object in it.
    """
    file = path / "adapter_config.json" if os.path.isdir(path) else path  # noqa: PTH112  pathlib's raises OSError
    text = disk.take_text(file, _LARGEST_CONFIG, "adapter_config", "The adapter config ")
    try:
        content = disk.parse_json(text)
    except ValueError as error:
        raise BadInput(f"{file} is not valid JSON: {error}.", "adapter_config") from error
    if content is not None and not isinstance(content, dict):
        raise BadInput(
            f"{file} does not hold a JSON object, so it is not an adapter config.", "adapter_config"
        )
    return AdapterConfigFile(file, content)


# ----------------------------------------
# What commands are asked about: methods with their values, adapter configs from files, a run by its id.


@dataclass(frozen=True)
class Subjects:
    """What is asked about.

    Attributes:
        methods: those that apply to the model, with complete and checked values.
        files: adapter configs as they were read.
        notes: warnings, and which methods were left out and why. Told with the result: an error is to stay alone.
    """

    methods: tuple[tuple[MethodSpec, Values], ...]
    files: tuple[AdapterConfigFile, ...]
    notes: tuple[str, ...]

    def tell(self) -> None:
        for note in self.notes:
            output.note(note)


def choose(
    entry: ModelEntry,
    methods: Sequence[str] | None,
    sets: Sequence[str] | None,
    adapter_configs: Sequence[Path] | None,
) -> Subjects:
    """What the options ask about; with neither methods nor files, every method that applies.

    Raises:
        BadInput: a name, value or file that cannot work, or nothing that applies.
    """
    given = tuple(read_adapter_config(path) for path in adapter_configs or ())
    opened = [file for file in given if library.is_library(file.content)]
    files = tuple(file for file in given if file not in opened)
    named = choose_methods(methods or ())
    every = not named and not given
    specs = list(all_methods().values()) if every else named
    values = parse_sets(sets or (), specs)
    kept: list[tuple[MethodSpec, Values]] = []
    notes: list[str] = []
    for spec in specs:
        problems = spec.problems(entry.shape, values[spec.slug])
        blocked = [problem.message for problem in problems if problem.level == "error"]
        if blocked and every:
            notes.append(f"left out: {spec.slug}: {blocked[0]}")
            continue
        complete = spec.require(entry.shape, values[spec.slug])
        notes += [f"note: {spec.slug}: {problem.message}" for problem in problems]
        kept.append((spec, complete))
    for file in opened:
        read = library.values_of(file.content or {}, entry.shape)
        spec = get_method("adapters")
        kept.append((spec, spec.require(entry.shape, read)))
        notes.append(
            f"note: {file.path}: the adapters library's {read['placement']} of width {read['bottleneck']}, counted as "
            "the method adapters."
        )
    if not kept and not files:
        raise BadInput(f"No method applies to {entry.title} with these settings.", "method")
    return Subjects(tuple(kept), files, tuple(notes))


def known_run(identity: str) -> Run:
    """A run by its id. Raises BadInput where there is none."""
    for run in store.runs():
        if run.id == identity:
            return run
    raise BadInput(
        f"There is no run called '{echoed(identity)}'; 'python -m peft_lab runs' lists those there are.",
        "run",
    )
