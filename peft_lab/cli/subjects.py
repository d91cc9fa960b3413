"""What commands are asked about: methods with their values, adapter configs from files, a run by its id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peft_lab.cli import options, output
from peft_lab.cli.options import AdapterConfigFile
from peft_lab.errors import BadInput, echoed
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.knobs import Values
from peft_lab.methods.shared import adapters_library as library
from peft_lab.models.catalogue import ModelEntry
from peft_lab.runs import store
from peft_lab.runs.store import Run


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
    given = tuple(options.read_adapter_config(path) for path in adapter_configs or ())
    opened = [file for file in given if library.is_library(file.content)]
    files = tuple(file for file in given if file not in opened)
    named = options.choose_methods(methods or ())
    every = not named and not given
    specs = list(all_methods().values()) if every else named
    values = options.parse_sets(sets or (), specs)
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
