"""``methods``, ``models``, ``tasks``, ``fetch``, ``atlas`` and ``count``: what there is, and exact parameter counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from peft_lab.atlas import FAMILIES, all_types, get_entry, rows, variants
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import option
from peft_lab.cli.output import ProgressBars
from peft_lab.core import units
from peft_lab.core.errors import AssetError, BadInput
from peft_lab.engine.timing import here
from peft_lab.methods import all_methods
from peft_lab.methods.counting.count import CountReport, count, count_config
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import known_models, resolve
from peft_lab.models.shapes import ModelEntry, ModelKind
from peft_lab.runs import waiting
from peft_lab.training.tasks import all_tasks


@command("methods")
def methods(
    model: Annotated[str | None, option("--model -m", "NAME", "Show the defaults for this model.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the fine-tuning methods and their knobs."""
    shape = resolve(model).shape if model else None
    document = []
    for method in all_methods().values():
        defaults, knobs = method.defaults(shape) if shape else {}, []
        for knob in method.knobs:
            about = output.attributes(knob, "name", "kind", "min", "max", "choices")
            # Without a model there is no default list of modules: null, not an empty list that would be refused.
            usual = defaults.get(knob.name, None if knob.kind == "modules" else knob.default)
            knobs.append({**about, "default": usual, "help": knob.full_help})
        kinds = [kind for kind in get_args(ModelKind) if kind not in method.refuses]
        about = output.attributes(method, "slug", "title")
        document.append({**about, "knobs": knobs, "supports": kinds, "paper": str(method.paper)})
    columns: dict[str, output.Column] = {
        "method": "slug",
        "title": "title",
        "knobs": lambda row: ", ".join(knob["name"] for knob in row["knobs"]),
        "runs on": ("supports", ", ".join),
        "paper": "paper",
    }
    output.show(document, as_json, human=lambda: [output.table("Methods", document, columns)])


@command("models")
def models(as_json: options.Json = False) -> None:
    """List the models of the catalogue. Any Hugging Face id or local path also works."""
    names = ("name", "kind", "live", "parameters", "revision", "source")
    document = [output.attributes(entry, *names) for entry in known_models().values()]
    columns: dict[str, output.Column] = {
        "model": "name",
        "kind": "kind",
        "trains here": lambda row: "yes" if row["live"] else "",
        ">parameters": ("parameters", units.count),
        "source": "source",
    }
    caption = "parameters: counted in the model, which is built without loading its weights"
    output.show(document, as_json, human=lambda: [output.table("Models", document, columns, caption)])


@command("tasks")
def tasks(as_json: options.Json = False) -> None:
    """List the tasks to train on. Your own data is the task 'own' (train --own FILE)."""
    document = []
    for task in all_tasks():
        rows: int | None = None
        try:
            rows = task.rows()
        except AssetError as missing:
            output.note(f"{task.name}: {missing}")
        names = ("name", "kind", "metric", "source", "license")
        document.append({**output.attributes(task, *names), "rows": rows})
    columns: dict[str, output.Column] = {
        "task": "name",
        "kind": "kind",
        ">rows": lambda row: "not downloaded" if row["rows"] is None else units.count(row["rows"]),
        **{name: name for name in ("metric", "source", "license")},
    }
    output.show(document, as_json, human=lambda: [output.table("Tasks", document, columns)])


@command("fetch")
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="What to download; everything by default.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Download, verify and unpack weights and data. Files already here are verified and replaced if damaged.

    With everything here, this processor's speed is measured once, to estimate training times.
    """
    results = fetched(names or ())
    columns: dict[str, output.Column] = {
        "name": "name",
        ">on disk": ("bytes", units.size),
        "sha256 of the source": ("sha256", lambda text: text[:12]),
        ">took": ("seconds", units.seconds),
        "folder": "path",
    }
    output.show(results, as_json, human=lambda: [output.table("Verified and ready", results, columns)])


def fetched(names: Sequence[str] = (), calibrate: bool = False) -> list[assets.FetchResult]:
    """Return what is here now, after fetching what was missing; then measure the processor's speed, once, if all was
    asked for, or ``calibrate``. Raises AssetError."""
    with ProgressBars() as bars:
        results = assets.fetch(names, lambda name, done: bars.update(assets.ASSETS[name].title, done))
        problem = None
        if (calibrate or not names) and not here.complete():
            bars.update("Speed of this processor", 0.0, "measuring")
            problem = waiting.begin_calibrating().exception()
            bars.update("Speed of this processor", 1.0, "not measured" if problem else "")
    if problem is not None:  # what was asked for is here all the same
        output.note(f"This processor's speed was not measured: {problem}")
    return results


# ----------------------------------------
# ``atlas``: every type that PEFT knows, with what is counted, probed, simulated and published about it.
ATLAS_MODEL = "llama-3.2-3b"


@command("atlas")
def atlas(
    name: Annotated[
        str | None,
        typer.Argument(metavar="TYPE", help="A PEFT type or a variant of LoRA, such as vera or rslora."),
    ] = None,
    model: options.Model = ATLAS_MODEL,
    as_json: options.Json = False,
) -> None:
    """List every PEFT type with its update, parameter count, capabilities and costs."""
    entry = resolve(model)
    chosen = list(all_types().values()) if name is None else [get_entry(name)]
    document: list[dict[str, Any]] = []
    with ProgressBars(lines=False) as bars:
        for done, one in enumerate(chosen):
            bars.update("Counting", done / len(chosen), one.title)
            below = () if one.variant else variants(one.type)
            varied = [rows.row(variant, entry.name) for variant in below]
            document.append({**rows.row(one, entry.name), "variants": varied})
    if name is None:
        output.show(document, as_json, human=lambda: [_types(entry.title, document)])
    else:
        output.show(document, as_json, human=lambda: _one_type(document[0]))


def _trainable(row: dict[str, Any]) -> str:
    count = row["count"]
    if count["trainable"] is None:
        return "–"
    return units.count(count["trainable"]) + (" ✓" if count["equal"] else "")


def _types(title: str, document: list[dict[str, Any]]) -> Any:
    def able(row: dict[str, Any]) -> str:
        number = sum(value is True for value in row["capabilities"].values())
        return f"{number} of {len(rows.CAPABILITIES)}"

    columns: dict[str, output.Column] = {
        "Type": lambda row: f"  {row['title']}" if row["variant"] else row["title"],
        "Family": lambda row: FAMILIES[row["family"]][0],
        "Update": "update",
        ">Trained": _trainable,
        ">Can": able,
        "Trains on": ("trains_on", ", ".join),
    }
    every = [row for top in document for row in (top, *top["variants"])]
    return output.table(f"Trained parameters on {title}; ✓ equal to a closed form", every, columns)


def _one_type(row: dict[str, Any]) -> list[Any]:
    """Return one type as sentences, then a table of its capabilities with the reasons."""
    count = row["count"]
    formula = f" ({row['formula']})" if row["formula"] else ""
    lines = [
        f"{row['title']}: {row['update']}",
        f"{FAMILIES[row['family']][0]}. {row['differs']} {row['when']}",
        f"Paper: {row['paper']['cite']} {row['paper']['url']} (checked in: {row['paper']['checked']})",
        f"Trained on {count['model']}: {_trainable(row)}{formula}",
        *filter(None, (row["stand_in"], count.get("why"))),
    ]
    marks = {True: "yes", False: "no", None: "not measured"}
    cells = [
        (title, marks[row["capabilities"][name]], row["why"].get(name))
        for name, (title, _) in rows.CAPABILITIES.items()
    ]
    return ["\n".join(lines), output.table("Measured in PEFT", cells, ("Capability", "", "Reason"))]


MOST_LABELS = 1_000_000


#: A count, and the file of its adapter config; None for a method.
Counted = tuple[CountReport, Path | None]


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
    results, notes = list[Counted](), list[str]()
    for spec, values in chosen.methods:
        try:
            results.append((count(model, spec.slug, values, labels, per_token), None))
        except BadInput as error:
            if method:
                raise
            notes.append(f"left out: {spec.slug}: {error}")  # it was not named
    for file in chosen.files:
        try:
            given = file.content
            counted = count(model, "full", {}) if given is None else count_config(model, given)
        except BadInput as error:
            raise BadInput(f"{file.path}: {error}", error.field) from error
        results.append((counted, file.path))
    if not results:
        raise BadInput(f"No method applies to {entry.title} with these settings.", "method")
    chosen.tell()
    for report, path in results:
        notes += [
            f"note: {path or report.method}: {text}" for text in (report.difference, report.note) if text
        ]
    for note in notes:
        output.note(note)
    output.show(
        [{**report.as_dict(), **({"adapter_config": path} if path else {})} for report, path in results],
        as_json,
        human=lambda: _human(entry, results, labels is not None),
    )


def _human(entry: ModelEntry, results: Sequence[Counted], with_head: bool) -> list[Any]:
    def formula(report: CountReport) -> str:
        same = " ✓ equal" if report.formula == report.trainable else " ≠ counted"
        return "" if report.formula is None else units.count(report.formula) + same

    columns: dict[str, output.Column] = {
        "method": lambda one: f"{one[0].method} ({one[1]})" if one[1] else one[0].method,
        ">trainable": lambda one: units.count(one[0].trainable),
        ">of": lambda one: units.count(one[0].total),
        ">share": lambda one: units.percent(one[0].percent),
        **({">head": lambda one: units.count(one[0].head)} if with_head else {}),
        ">stored": lambda one: units.size(one[0].stored_bytes),
        ">formula": lambda one: formula(one[0]),
    }
    shown: list[Any] = [output.table(f"{entry.title}: parameters (counted)", results, columns)]
    if len(results) == 1:
        report = results[0][0]
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
