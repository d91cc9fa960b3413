"""``count``: exact parameter counts of methods or adapter configs on any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.methods.counting.count import CountReport, count, count_config
from peft_lab.models.catalogue import ModelEntry, resolve

MOST_LABELS = 1_000_000


@dataclass(frozen=True)
class _Counted:
    """A report and, where it was asked for by file, the file."""

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
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="Add and report this task's head.")
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option("--labels", metavar="N", help="Add and report a classification head of N labels."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Count parameters, exactly, without any weights. By default every method that applies to the model."""
    entry = resolve(model)
    named = _labels(task, entry)
    if task is not None and labels is not None:
        raise BadInput("--task says how many labels its head has; leave --labels out.", "labels")
    if labels is not None and not 1 <= labels <= MOST_LABELS:
        raise BadInput(f"--labels must be from 1 to {MOST_LABELS:,}; {labels:,} is not.", "labels")
    labels = named if labels is None else labels
    if labels is not None and adapter_config:
        raise BadInput(
            f"--{'labels' if task is None else 'task'} adds a head to methods; an adapter config says itself what it "
            "is for.",
            "task",
        )
    chosen = options.choose(entry, method, sets, adapter_config)
    results, left_out = [], []
    for spec, values in chosen.methods:
        try:
            results.append(_Counted(count(model, spec.slug, values, labels)))
        except BadInput as error:
            if method:
                raise
            left_out.append(f"left out: {spec.slug}: {error}")  # nobody asked for it by name
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
    """Where formula and count differ and why, and what a count leaves open."""
    remarks = []
    for result in results:
        name = result.file or result.report.method
        remarks += [
            f"note: {name}: {text}" for text in (result.report.difference, result.report.note) if text
        ]
    return remarks


def _count_file(model: str, file: options.AdapterConfigFile) -> _Counted:
    try:
        counted = count(model, "full", {}) if file.content is None else count_config(model, file.content)
        return _Counted(counted, file.path)
    except BadInput as error:
        raise BadInput(f"{file.path}: {error}", error.field) from error


def _labels(task: str | None, entry: ModelEntry) -> int | None:
    """How many outputs the task's head has; ``None`` for a task without one."""
    if task is None:
        return None
    from peft_lab.training.tasks import get_task

    found = get_task(task)
    if entry.kind not in found.model_kinds:
        kinds = " or ".join(found.model_kinds)
        raise BadInput(
            f"The task '{task}' is for {kinds} models; {entry.title} is of kind {entry.kind}.", "task"
        )
    return len(found.labels) or None


def _human(entry: ModelEntry, results: Sequence[_Counted], with_head: bool) -> list[Any]:
    columns = {"method": "left", "trainable": "right", "of": "right", "share": "right"}
    columns |= {"head": "right"} if with_head else {}
    columns |= {"stored": "right", "formula": "right"}
    lines = [_line(result, with_head) for result in results]
    shown: list[Any] = [output.table(f"{entry.title}: parameters (counted)", columns, lines)]
    if len(results) == 1:
        groups = [
            (f"{g.module}.{g.name}", g.role, f"{g.count:,}", units.count(g.parameters))
            for g in results[0].report.groups
        ]
        heads = {"trained": "left", "part": "left", "modules": "right", "parameters": "right"}
        shown.append(output.table("", heads, groups))
        fewer = results[0].report.lora_fa
        if fewer:
            shown.append(
                f"With PEFT's LoRA-FA optimizer, which freezes every A: {units.count(fewer)} of these are trained."
            )
    return shown


def _line(result: _Counted, with_head: bool) -> tuple[str, ...]:
    report = result.report
    formula = "" if report.formula is None else units.count(report.formula)
    if report.formula is not None:
        formula += " ✓ equal" if report.formula == report.trainable else " ≠ counted"
    name = f"{report.method} ({result.file})" if result.file else report.method
    head = (units.count(report.head),) if with_head else ()
    share = units.percent(report.percent)
    return (
        name,
        units.count(report.trainable),
        units.count(report.total),
        share,
        *head,
        units.size(report.stored_bytes),
        formula,
    )
