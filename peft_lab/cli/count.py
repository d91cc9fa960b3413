"""``count``: exact parameter counts of methods or adapter configs on any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import option
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.methods.counting.count import CountReport, count, count_config
from peft_lab.models.catalogue import resolve
from peft_lab.models.shapes import ModelEntry

MOST_LABELS = 1_000_000


@dataclass(frozen=True)
class _Counted:
    """A count, and the file of its adapter config; ``None`` for a method."""

    report: CountReport
    file: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        plain = self.report.as_dict()
        return {**plain, "adapter_config": self.file} if self.file else plain


@command("count")
def count_command(
    model: options.Model,
    method: options.Methods = None,
    sets: options.Sets = None,
    adapter_config: options.AdapterConfigs = None,
    task: Annotated[str | None, option("--task", "NAME", "Add this task's head to the count.")] = None,
    labels: Annotated[
        int | None, option("--labels", "N", "Add a classification head with N labels to the count.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Count parameters exactly, without weights. The default is every method that applies to the model."""
    entry = resolve(model)
    named, per_token = options.head_of(task, entry)
    if task is not None and labels is not None:
        raise BadInput("--task sets the number of labels. Leave --labels out.", "labels")
    if labels is not None and not 1 <= labels <= MOST_LABELS:
        raise BadInput(f"--labels must be from 1 to {MOST_LABELS:,}; {labels:,} is not.", "labels")
    labels = named if labels is None else labels
    if labels is not None and adapter_config:
        raise BadInput(
            f"--{'labels' if task is None else 'task'} applies to methods only; an adapter config names its own "
            "task. Leave it out.",
            "task",
        )
    chosen = options.choose(entry, method, sets, adapter_config)
    results, left_out = [], []
    for spec, values in chosen.methods:
        try:
            results.append(_Counted(count(model, spec.slug, values, labels, per_token)))
        except BadInput as error:
            if method:
                raise
            left_out.append(f"left out: {spec.slug}: {error}")  # it was not named
    results += [_count_file(model, file) for file in chosen.files]
    if not results:
        raise BadInput(f"No method applies to {entry.title} with these settings.", "method")
    chosen.tell()
    for remark in (*left_out, *_remarks(results)):
        output.note(remark)
    output.show(
        [result.as_dict() for result in results],
        as_json,
        human=lambda: _human(entry, results, labels is not None),
    )


def _remarks(results: Sequence[_Counted]) -> list[str]:
    """Return notes on differences between formula and count, and on what a count leaves open."""
    return [
        f"note: {result.file or result.report.method}: {text}"
        for result in results
        for text in (result.report.difference, result.report.note)
        if text
    ]


def _count_file(model: str, file: options.AdapterConfigFile) -> _Counted:
    try:
        counted = count(model, "full", {}) if file.content is None else count_config(model, file.content)
        return _Counted(counted, file.path)
    except BadInput as error:
        raise BadInput(f"{file.path}: {error}", error.field) from error


def _human(entry: ModelEntry, results: Sequence[_Counted], with_head: bool) -> list[Any]:
    def formula(result: _Counted) -> str:
        report = result.report
        if report.formula is None:
            return ""
        return units.count(report.formula) + (
            " ✓ equal" if report.formula == report.trainable else " ≠ counted"
        )

    columns: dict[str, output.Column] = {
        "method": lambda one: f"{one.report.method} ({one.file})" if one.file else one.report.method,
        ">trainable": lambda one: units.count(one.report.trainable),
        ">of": lambda one: units.count(one.report.total),
        ">share": lambda one: units.percent(one.report.percent),
        **({">head": lambda one: units.count(one.report.head)} if with_head else {}),
        ">stored": lambda one: units.size(one.report.stored_bytes),
        ">formula": formula,
    }
    shown: list[Any] = [output.table(f"{entry.title}: parameters (counted)", results, columns)]
    if len(results) == 1:
        report = results[0].report
        parts: dict[str, output.Column] = {
            "trained": lambda group: f"{group.module}.{group.name}",
            "part": "role",
            ">modules": ("count", "{:,}".format),
            ">parameters": ("parameters", units.count),
        }
        shown.append(output.table("", report.groups, parts))
        if report.lora_fa:
            freed = units.count(report.lora_fa)
            shown.append(f"PEFT's LoRA-FA optimizer freezes every A and trains {freed} of these parameters.")
    return shown
