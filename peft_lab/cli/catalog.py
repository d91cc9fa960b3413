"""``methods``, ``models``, ``tasks`` and ``fetch``: what there is to choose from, and bringing it here."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import typer

from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.output import ProgressBars
from peft_lab.core import units
from peft_lab.core.errors import AssetError
from peft_lab.methods import all_methods
from peft_lab.methods.base import Knob, MethodSpec
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import ModelEntry, catalogue, resolve
from peft_lab.models.shapes import ModelKind, ModelShape
from peft_lab.training.tasks import Task, all_tasks


@command("methods")
def methods(
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="Show the defaults for this model.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """The fine-tuning methods and their knobs."""
    shape = resolve(model).shape if model else None
    rows = [_method(method, shape) for method in all_methods().values()]

    def human() -> list[Any]:
        lines = [
            (
                row["slug"],
                row["title"],
                ", ".join(knob["name"] for knob in row["knobs"]),
                ", ".join(row["supports"]),
                row["paper"],
            )
            for row in rows
        ]
        columns = dict.fromkeys(("method", "title", "knobs", "runs on", "paper"), "left")
        return [output.table("Methods", columns, lines)]

    output.show(rows, as_json, human=human)


def _method(method: MethodSpec, shape: ModelShape | None) -> dict[str, Any]:
    defaults = method.defaults(shape) if shape else {}
    kinds: tuple[ModelKind, ...] = get_args(ModelKind)
    return {
        "slug": method.slug,
        "title": method.title,
        "knobs": [_knob(knob, defaults) for knob in method.knobs],
        "supports": [kind for kind in kinds if kind not in method.refuses],
        "paper": str(method.paper),
    }


def _knob(knob: Knob, defaults: dict[str, Any]) -> dict[str, Any]:
    # Without a model there is no default list of modules: null, not an empty list that would be refused.
    default = defaults.get(knob.name, None if knob.kind == "modules" else knob.default)
    return {
        "name": knob.name,
        "kind": knob.kind,
        "default": default,
        "min": knob.min,
        "max": knob.max,
        "choices": list(knob.choices),
        "help": knob.full_help,
    }


@command("models")
def models(as_json: options.Json = False) -> None:
    """The models that can be named. Any Hugging Face id or local path works too."""
    rows = [_model(entry) for entry in catalogue().values()]

    def human() -> list[Any]:
        lines = [
            (
                row["name"],
                row["kind"],
                "yes" if row["live"] else "",
                units.count(row["parameters"]),
                row["source"],
            )
            for row in rows
        ]
        columns = {
            "model": "left",
            "kind": "left",
            "runs live": "left",
            "parameters": "right",
            "source": "left",
        }
        return [
            output.table(
                "Models", columns, lines, "parameters: counted on the model built without its weights"
            )
        ]

    output.show(rows, as_json, human=human)


def _model(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "live": entry.live,
        "parameters": entry.parameters,
        "revision": entry.revision,
        "source": entry.source,
    }


@command("tasks")
def tasks(as_json: options.Json = False) -> None:
    """What models can be taught here. A file of your own is the task 'own' (train --own FILE)."""
    rows = [_task(task) for task in all_tasks()]

    def human() -> list[Any]:
        lines = [
            (
                row["name"],
                row["kind"],
                "not fetched" if row["rows"] is None else units.count(row["rows"]),
                row["metric"],
                row["source"],
                row["license"],
            )
            for row in rows
        ]
        columns = dict.fromkeys(("task", "kind", "rows", "metric", "source", "license"), "left") | {
            "rows": "right"
        }
        return [output.table("Tasks", columns, lines)]

    output.show(rows, as_json, human=human)


def _task(task: Task) -> dict[str, Any]:
    rows: int | None = None
    try:
        rows = task.rows()
    except AssetError as missing:
        output.note(f"{task.name}: {missing}")
    return {
        "name": task.name,
        "kind": task.kind,
        "rows": rows,
        "metric": task.metric,
        "source": task.source,
        "license": task.license,
    }


@command("fetch")
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="What to fetch; everything by default.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Download, verify and unpack weights and data. What is here is hashed, and fetched again if it is damaged."""
    with ProgressBars() as bars:
        results = assets.fetch(
            names or (), lambda name, fraction: bars.update(assets.ASSETS[name].title, fraction)
        )

    def human() -> list[Any]:
        lines = [
            (
                result.name,
                units.size(result.bytes),
                result.sha256[:12],
                units.seconds(result.seconds),
                result.path,
            )
            for result in results
        ]
        heads = {
            "name": "left",
            "on disk": "right",
            "sha256 of the source": "left",
            "took": "right",
            "folder": "left",
        }
        return [output.table("Verified and ready", heads, lines)]

    output.show(results, as_json, human=human)
