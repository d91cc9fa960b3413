"""``memory``: what a training step will need, found by running it on tensors that have shapes but no data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab import units
from peft_lab.cli import options, output, subjects
from peft_lab.cli.application import FAILED, command
from peft_lab.cli.progress import ProgressBars
from peft_lab.cli.subjects import Subjects
from peft_lab.errors import BadInput, SimulationError
from peft_lab.memory.optimizers import OPTIMIZERS
from peft_lab.memory.result import Simulation
from peft_lab.memory.simulate import Setting, simulate, simulate_config
from peft_lab.models import resolve

_PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "other")


@dataclass(frozen=True)
class _Simulated:
    """A simulation and, where it was asked for by file, the file."""

    simulation: Simulation
    file: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        plain = self.simulation.as_dict()
        return {**plain, "adapter_config": self.file} if self.file else plain


@command("memory")
def memory_command(
    model: options.Model,
    batch: Annotated[int, typer.Option("--batch", help="Rows of one step.")],
    seq: Annotated[int, typer.Option("--seq", help="Tokens of one row.")],
    method: options.Methods = None,
    sets: options.Sets = None,
    adapter_config: options.AdapterConfigs = None,
    dtype: Annotated[str, typer.Option("--dtype", help="Precision of the base model.")] = "bfloat16",
    optimizer: Annotated[str, typer.Option("--optimizer", help=f"One of {', '.join(OPTIMIZERS)}.")] = "adamw",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Keep only the layers' inputs and compute the rest again.")
    ] = False,
    generate: Annotated[
        str | None, typer.Option("--generate", metavar="B,NEW", help="Then generate NEW tokens for B rows.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Simulate a training step's memory on a GPU, without weights. By default for every method that applies."""
    entry = resolve(model)
    setting = Setting(batch, seq, optimizer=optimizer, generate=_generation(generate))
    setting.check()
    chosen = subjects.choose(entry, method, sets, adapter_config)
    results, failed = _simulate_all(chosen, _jobs(entry.name, chosen, setting, dtype, checkpointing))
    chosen.tell()
    output.show(
        [one.as_dict() for one in results], as_json, human=lambda: [_table(entry.title, setting, results)]
    )
    if failed:
        raise typer.Exit(FAILED)


Job = tuple[str, Callable[[], Simulation], Path | None]


def _jobs(model: str, chosen: Subjects, setting: Setting, dtype: str, checkpointing: bool) -> Iterator[Job]:
    """Name, simulation and file of everything that was asked about."""
    for spec, values in chosen.methods:
        yield spec.slug, partial(simulate, model, spec.slug, values, setting, dtype, checkpointing), None
    for file in chosen.files:
        job = partial(simulate_config, model, file.content, setting, dtype, checkpointing)
        yield str(file.path), job, file.path


def _simulate_all(chosen: Subjects, jobs: Iterator[Job]) -> tuple[list[_Simulated], bool]:
    """All simulations that work, and whether one did not; its reason is told on stderr.

    Raises:
        BadInput: a config that cannot be applied, with its file. SimulationError: none of them works.
    """
    total = len(chosen.methods) + len(chosen.files)
    results: list[_Simulated] = []
    failed = False
    with ProgressBars(lines=False) as bars:
        for done, (name, job, file) in enumerate(jobs):
            bars.update("Simulating", done / total, name)
            try:
                results.append(_Simulated(job(), file))
            except SimulationError as error:
                if done == total - 1 and not results:
                    raise
                output.note(f"error: {name}: {error}")
                failed = True
            except BadInput as error:
                raise BadInput(f"{file}: {error}" if file else str(error), error.field) from error
    return results, failed


def _generation(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise BadInput(
            f"--generate takes rows and new tokens, such as 50,300; '{text}' is not of that form.", "generate"
        )
    return int(parts[0]), int(parts[1])


def _table(title: str, setting: Setting, results: list[_Simulated]) -> Any:
    columns = {"method": "left", "peak": "right", "reserved": "right", **dict.fromkeys(_PARTS, "right")}
    lines = []
    for one in results:
        row = one.as_dict()
        reserved = "" if row["reserved_bytes"] is None else units.size(row["reserved_bytes"])
        parts = (units.size(row["parts"][part]) for part in _PARTS)
        lines.append((one.file or row["method"], units.size(row["peak_bytes"]), reserved, *parts))
    hosts = [one for one in results if one.simulation.host_bytes]
    paged = (
        f"; {units.size(hosts[0].simulation.host_bytes)} of optimizer states in host memory" if hosts else ""
    )
    caption = f"peak: tensors alive at once; reserved: what PyTorch's CUDA allocator holds for them{paged}"
    heading = f"{title}, {setting.batch} × {setting.seq:,} tokens: memory of a training step (simulated)"
    return output.table(heading, columns, lines, caption)
