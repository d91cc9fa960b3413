"""Options that several commands share, options made from forms, functions that read them, other tools' config files."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer
from rich.markup import escape

from peft_lab.advise.foreign.parsing import FIELD, MOST_NOTEBOOK
from peft_lab.advise.foreign.reading import Reading, read
from peft_lab.cli import output
from peft_lab.core import disk, units
from peft_lab.core.errors import BadInput, UnknownName, echoed
from peft_lab.core.field import Field, Values
from peft_lab.core.form import Form
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.shared import adapters_library as library
from peft_lab.models.shapes import ModelEntry
from peft_lab.runs import store
from peft_lab.runs.store import Run

_LARGEST_CONFIG = 4 << 20  # bytes; a real one has a few thousand


def option(names: str, metavar: str | None, about: str) -> Any:
    """Return a typer option by its names, such as ``--model -m``; switches have no metavar."""
    return typer.Option(*names.split(), metavar=metavar, help=about)


Json = Annotated[bool, option("--json", None, "Print one JSON document instead of a table.")]
_MODEL = option("--model -m", "NAME", "Catalogue name, Hugging Face id or local path.")
Model = Annotated[str, _MODEL]
OneModel = Annotated[str | None, _MODEL]
Methods = Annotated[
    list[str] | None,
    option("--method", "SLUG", "A method. Repeat the option or separate methods with commas."),
]
Sets = Annotated[
    list[str] | None, option("--set", "KEY=VALUE", "A method's setting; repeatable; commas separate a list.")
]
AdapterConfigs = Annotated[
    list[Path] | None,
    option(
        "--adapter-config", "FILE", "An adapter_config.json of PEFT or of the adapters library; repeatable."
    ),
]
LengthsFile = Annotated[
    Path | None, option("--lengths", "FILE", "A file with the token count of each row, one per line.")
]


@dataclass(frozen=True)
class AdapterConfigFile:
    """An ``adapter_config.json``: its path and content; ``None`` (null) means no adapter."""

    path: Path
    content: Mapping[str, Any] | None


def split_slugs(texts: Sequence[str]) -> list[str]:
    """Return ``["lora,ia3", "bitfit"]`` as three slugs, each once, in order, without looking the names up."""
    return list(dict.fromkeys(slug.strip() for text in texts for slug in text.split(",") if slug.strip()))


def choose_methods(texts: Sequence[str], option: str = "--method") -> list[MethodSpec]:
    """Return the methods ``option`` names. Raises UnknownName, or BadInput if it is given without one."""
    slugs = split_slugs(texts)
    if texts and not slugs:
        raise BadInput(f"{option} has no method. Known: {', '.join(all_methods())}.", "method")
    return [get_method(slug) for slug in slugs]


def split_assignment(
    text: str, name: str = "set", example: str = "r=16", empty: bool = True
) -> tuple[str, str]:
    """Return ``key=value`` as a pair. Raises BadInput without ``=``, a key, or a value (unless ``empty``)."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not (empty or value.strip()):
        raise BadInput(f"--{name} '{echoed(text)}' is invalid. Give KEY=VALUE, such as {example}.", name)
    return key.strip(), value


def parse_sets(texts: Sequence[str], methods: Sequence[MethodSpec]) -> dict[str, dict[str, Any]]:
    """Return the knob values given by ``--set``, per method slug; with several methods a knob applies to those that
    have it. Raises UnknownName for a knob that none of them has, BadInput for a value that it does not take, or a
    knob set twice."""
    values: dict[str, dict[str, Any]] = {method.slug: {} for method in methods}
    seen: set[str] = set()
    for text in texts:
        key, value = split_assignment(text)
        if key in seen:
            raise BadInput(f"'{echoed(key)}' is set twice. Give it once; commas separate a list.", key)
        seen.add(key)
        takers = [method for method in methods if any(knob.name == key for knob in method.knobs)]
        if not takers and not methods:
            why = "sets a method's knob; the settings of an adapter config are in its file"
            raise BadInput(f"--set {echoed(key)} {why}.", key)
        if not takers:
            known = dict.fromkeys(knob.name for method in methods for knob in method.knobs)
            title = methods[0].title
            if not known:
                raise BadInput(f"{title} has no knobs. Leave --set {echoed(key)} out.", key)
            what = f"{title} knob" if len(methods) == 1 else "knob of these methods"
            raise UnknownName(what, key, known, key)
        for method in takers:
            values[method.slug][key] = method.knob(key).parse(value)
    return values


def read_adapter_config(path: Path) -> AdapterConfigFile:
    """Read an ``adapter_config.json``, given by its path or its folder's. Raises BadInput if the file is missing or
    holds no JSON object."""
    file = path / "adapter_config.json" if os.path.isdir(path) else path  # noqa: PTH112  pathlib's raises OSError
    text = disk.take_text(file, _LARGEST_CONFIG, "adapter_config", "The adapter config ")
    try:
        content = disk.parse_json(text)
    except ValueError as error:
        raise BadInput(f"{file} is not valid JSON: {error}.", "adapter_config") from error
    if content is not None and not isinstance(content, dict):
        raise BadInput(f"{file} contains no JSON object. Give an adapter_config.json.", "adapter_config")
    return AdapterConfigFile(file, content)


# ----------------------------------------
# Options from forms: a command gets an option for each field of a form.
_METAVARS = {"int": "INTEGER", "float": "FLOAT", "choice": "NAME", "modules": "NAMES", "text": "TEXT"}


def form_options(
    form: type[Form],
    names: Iterable[str],
    *,
    into: str = "given",
    needed: Sequence[str] = (),
    parse: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a form's fields to a command as options; it gets the values given, by field, as one argument.

    Values are checked by the fields, not by typer.

    Args:
        names: the fields that become options.
        into: the name of the argument.
        needed: the required fields.
        parse: whether to pass values; otherwise texts, for commands that read the form themselves.
    """
    fields = [form.field(name) for name in names]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(**arguments: Any) -> Any:
            texts = {field.name: arguments.pop(field.name) for field in fields}
            given = {
                name: str(text).lower() if isinstance(text, bool) else text for name, text in texts.items()
            }
            given = {name: text for name, text in given.items() if text is not None}
            if not parse:
                return function(**arguments, **{into: given})
            values, wrong = form.parse(given)
            for name, error in wrong.items():
                raise BadInput(f"{option_of(form, name)}: {error}", name) from None
            return function(**arguments, **{into: values})

        signature = inspect.signature(function, eval_str=True)
        parameters = list[inspect.Parameter]()
        for name, parameter in signature.parameters.items():
            if name == into:
                parameters += [_parameter(field, field.name in needed) for field in fields]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


def _options_of(field: Field) -> list[str]:
    """Return the option names of a field, its alias last."""
    return [f"--{name.replace('_', '-')}" for name in (field.name, field.alias) if name]


def option_of(form: type[Form], name: str) -> str:
    """Return the option of a form's field, by its alias if it has one."""
    return _options_of(form.field(name))[-1]


def _parameter(field: Field, needed: bool) -> inspect.Parameter:
    help_ = (
        f"{field.help} One of {', '.join(filter(None, field.titles))}."
        if field.kind == "choice"
        else field.help
    )
    kind, metavar = (bool, None) if field.kind == "bool" else (str, _METAVARS[field.kind])
    option_ = typer.Option(*_options_of(field), metavar=metavar, help=escape(help_))
    annotation: Any = Annotated[kind if needed else kind | None, option_]
    default = inspect.Parameter.empty if needed else None
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


# ----------------------------------------
# The subjects of a command: methods with their values, adapter configs from files, a run by its id.
@dataclass(frozen=True)
class Subjects:
    """The methods and configs that a command works on."""

    # those that apply to the model, with complete and checked values
    methods: tuple[tuple[MethodSpec, Values], ...]
    files: tuple[AdapterConfigFile, ...]  # adapter configs as they were read
    # warnings, and methods left out with the reason; printed with the result, never with an error
    notes: tuple[str, ...]

    def tell(self) -> None:
        """Print the notes."""
        for note in self.notes:
            output.note(note)


def choose(
    entry: ModelEntry,
    methods: Sequence[str] | None,
    sets: Sequence[str] | None,
    adapter_configs: Sequence[Path] | None,
) -> Subjects:
    """Return the methods and files named by the options; without any, every method that applies. Raises BadInput for a
    name, value or file that cannot work, or if nothing applies."""
    given = tuple(read_adapter_config(path) for path in adapter_configs or ())
    opened = [file for file in given if library.is_library(file.content)]
    files = tuple(file for file in given if file not in opened)
    named = choose_methods(methods or ())
    every = not named and not given
    specs = list(all_methods().values()) if every else named
    values = parse_sets(sets or (), specs)
    chosen: list[tuple[MethodSpec, Values]] = []
    notes: list[str] = []
    for spec in specs:
        problems = spec.problems(entry.shape, values[spec.slug])
        blocked = [problem.message for problem in problems if problem.level == "error"]
        if blocked and every:
            notes.append(f"left out: {spec.slug}: {blocked[0]}")
            continue
        complete = spec.require(entry.shape, values[spec.slug])
        notes += [f"note: {spec.slug}: {problem.message}" for problem in problems]
        chosen.append((spec, complete))
    for file in opened:
        read = library.values_of(file.content or {}, entry.shape)
        spec = get_method("adapters")
        chosen.append((spec, spec.require(entry.shape, read)))
        notes.append(
            f"note: {file.path}: the adapters library's {read['placement']} of width {read['bottleneck']}, counted as "
            "the method adapters."
        )
    if not chosen and not files:
        raise BadInput(f"No method applies to {entry.title} with these settings.", "method")
    return Subjects(tuple(chosen), files, tuple(notes))


def head_of(task: str | None, entry: ModelEntry) -> tuple[int | None, bool]:
    """Return the number of labels of a task's head, ``None`` without one, and whether it labels every token. Raises
    BadInput if there is no such task, or it is not for models of this kind."""
    if task is None:
        return None, False
    from peft_lab.training.tasks import get_task

    known = get_task(task)
    if entry.kind not in known.model_kinds:
        kinds = " or ".join(known.model_kinds)
        raise BadInput(
            f"The task '{task}' needs a model of kind {kinds}; {entry.title} is of kind {entry.kind}.", "task"
        )
    return len(known.labels) or None, known.per_token


def known_run(identity: str) -> Run:
    """Return a run by its id. Raises BadInput if there is none."""
    for run in store.runs():
        if run.id == identity:
            return run
    raise BadInput(
        f"There is no run called '{echoed(identity)}'. List all runs with 'python -m peft_lab runs'.",
        "run",
    )


# ----------------------------------------
# Folders and files that ``--out`` names.
@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn a failure to write to ``--out`` into BadInput."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"PEFT Lab cannot write to --out {out}: {error.strerror or error}.", "out") from error


def require_empty(out: Path, unless: str | None = None) -> None:
    """Raise BadInput if a folder holds files but not ``unless``, which marks a folder to overwrite."""
    if out.is_dir() and any(out.iterdir()) and not (unless and (out / unless).exists()):
        raise BadInput(f"--out {out} contains other files. Give a new or empty folder.", "out")


def make_folder(out: Path) -> None:
    """Create a folder, and check that it is writable and listable. Raises BadInput otherwise."""
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            any(out.iterdir())


# ----------------------------------------
# Another tool's config file, for ``plan`` and ``memory``.


_TOOLS = "A config of Axolotl, LLaMA-Factory, TRL, Unsloth, torchtune, DeepSpeed or accelerate."
ConfigFile = Annotated[Path | None, typer.Argument(metavar="[FILE]", help=_TOOLS, show_default=False)]


def read_foreign(path: Path | None) -> Reading | None:
    """Return a config file as it is read, None without one. Raises BadInput as :func:`read`."""
    return (
        None
        if path is None
        else read(disk.take_text(path, MOST_NOTEBOOK, FIELD, "The config file "), path.name)
    )


def model_of(reading: Reading | None, model: str | None) -> str:
    """Return the model that the option or the file names. Raises BadInput if neither does."""
    named = model or (reading and reading.settings.get("model"))
    if not named:
        where = "--model is missing" if reading is None else f"This {reading.tool} file names no model"
        raise BadInput(f"{where}. Give --model NAME.", "model")
    return str(named)


def tables_of(reading: Reading | None, written: dict[str, Any] | None) -> list[Any]:
    """Return what was read, what was not, and whether the file's own step fits, as tables and a sentence."""
    if reading is None:
        return []
    columns: dict[str, output.Column] = {
        "key": "key",
        "why it is not read": "why",
        "what it may change": "effect",
    }
    understood = [{"key": key, "value": str(value)} for key, value in reading.understood.items()]
    title = f"{reading.tool}: understood"
    shown = [
        output.table(title, understood, {"key": "key", "read as": "value"}),
        output.table("Ignored", [one._asdict() for one in reading.ignored], columns),
    ]
    if written is None:
        return shown
    said = f"As written, each GPU needs {units.size(written['peak_bytes_per_device'])} of "
    said += f"{units.size(written['device_bytes'])}: it {'fits' if written['fits'] else 'does not fit'}."
    if written["change"]:
        least = units.size(written["change"]["peak_bytes_per_device"])
        keys = ", ".join(f"{key}: {json.dumps(value)}" for key, value in written["change"]["set"].items())
        said += f" The smallest change that fits: {keys} ({least})."
    return [*shown, said]
