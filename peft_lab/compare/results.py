"""What a comparison found, as one document that the page, the command line and the shipped file share.

Bytes are integers, seconds floats, metrics shares. Figures over seeds are means with ``_std`` beside them, the sample
standard deviation, ``None`` with fewer than two seeds. ``peak_bytes`` is the largest over seeds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from peft_lab.compare import pareto, spread
from peft_lab.compare.plan import Cell, ComparisonPlan
from peft_lab.compare.sentence import says
from peft_lab.compare.store import Comparison, Standing
from peft_lab.compare.wording import command_of
from peft_lab.errors import RunError
from peft_lab.methods import get_method
from peft_lab.runs import inference_forgetting, record
from peft_lab.runs.spec import entry_of
from peft_lab.runs.store import Run
from peft_lab.tasks import get_task

Record = Mapping[str, Any]


def document(
    comparison: Comparison, standing: Standing | None = None, axes: tuple[str, str] = pareto.DEFAULT
) -> dict[str, Any]:
    """Everything about a comparison, under way or finished.

    Keys: id, status, command, created, plan, metric {name, title, rows}, inference_unit, machines, packages, device,
    dtype, done, total, rows (:func:`_row`), pareto_axes, pareto (methods on the front), pairs (:class:`spread.Pair`),
    says.

    Raises:
        RunError: a plan or record that cannot be read. UnknownName: an axis.
    """
    plan = comparison.plan
    standing = standing or comparison.standing(plan)
    records = {cell: _record(standing.runs[cell]) for cell in standing.done}
    task = get_task(plan.request.task)
    rows = [_row(plan, slug, standing, records) for slug in plan.request.methods]
    one: Record = next(iter(records.values()), {})
    found: dict[str, Any] = {
        "id": comparison.id,
        "status": standing.status,
        "command": command_of(plan.request),
        "created": time.strftime("%Y-%m-%d", time.gmtime(comparison.created)),
        "plan": _described(plan),
        "metric": {
            "name": task.metric,
            "title": task.metric.replace("_", " ").capitalize(),
            "rows": one["metric"]["rows"] if one else 0,
        },
        "inference_unit": task.each
        if task.kind == "classification"
        else inference_forgetting.UNIT[task.kind],
        "machines": comparison.machines,
        "packages": _versions(records.values()),
        "device": one.get("device"),
        "dtype": one.get("dtype"),
        "done": len(standing.done),
        "total": len(plan.cells),
        "rows": rows,
        "pareto_axes": {"x": axes[0], "y": axes[1]},
        "pareto": pareto.front(rows, *axes),
        "source": "measured",
    }
    return with_conclusions(found)


def with_conclusions(found: dict[str, Any]) -> dict[str, Any]:
    """The document with what follows from its rows: ``pairs`` and ``says``. For a document from a file too: what it
    shows is then worked out by this version's rules."""
    scores = {row["method"]: row["metric_values"] for row in found["rows"]}
    pairs = spread.pairs(scores, found["metric"]["rows"])
    compared = [
        {"better": p.better, "worse": p.worse, "difference": p.difference, "noise": p.noise, "apart": p.apart}
        for p in pairs
    ]
    return {**found, "pairs": compared, "says": says(found, pairs)}


def _described(plan: ComparisonPlan) -> dict[str, Any]:
    request, spec = plan.request, plan.cells[0].spec
    return {
        "model": request.model,
        "task": request.task,
        "methods": list(request.methods),
        "steps": request.steps,
        "batch": request.batch,
        "seeds": list(request.seeds),
        "eval_rows": request.eval_rows,
        "max_length": spec.max_length,
        "values": {slug: _plain(values) for slug, values in request.values.items()},
    }


def _record(run: Run) -> Record:
    try:
        found = run.record()
    except RunError:
        found = {}  # its events, from which the file was made, still tell
    return found or record.result(run)  # a run that was killed left no file


def _versions(records: Sequence[Record] | Any) -> dict[str, list[str]]:
    """Versions of the packages that made the runs; more than one where a comparison went on after an update."""
    found: dict[str, list[str]] = {}
    for each in records:
        for name, version in each["packages"].items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return found


def _row(
    plan: ComparisonPlan, slug: str, standing: Standing, records: Mapping[Cell, Record]
) -> dict[str, Any]:
    """One method. Figures are ``None`` until a run has given them, ``why`` says why a row has none."""
    spec = get_method(slug)
    cells = [cell for cell in plan.cells if cell.method == slug]
    mine = {cell: records[cell] for cell in cells if cell in records}
    first: Record = next(iter(mine.values()), {})
    total = plan.totals.get(slug)
    trainable = first.get("trainable")
    metric = [each["metric"]["after"] for each in mine.values() if each["metric"]["after"] is not None]
    row = {
        "method": slug,
        "title": spec.title,
        **_state(plan, slug, cells, standing),
        "seeds": [cell.seed for cell in mine],
        "runs": [standing.runs[cell].id for cell in mine],
        "trainable": trainable,
        "head": first.get("head"),
        "total": total,
        "percent": 100 * trainable / total if trainable is not None and total else None,
        "metric_values": metric,
        "metric_mean": spread.mean(metric),
        "metric_std": spread.deviation(metric),
        "metric_before": spread.mean(
            [each["metric"]["before"] for each in mine.values() if each["metric"]["before"] is not None]
        ),
        **_over_seeds("seconds", [each["seconds"] for each in mine.values()]),
        "peak_bytes": max(
            (each["memory"]["peak_bytes"] for each in mine.values() if each["memory"]), default=None
        ),
        "stored_bytes": first.get("stored_bytes"),
        **_inference([each["inference"] for each in mine.values() if each.get("inference")]),
        "mergeable": spec.mergeable,
        **_forgetting(
            [each["unrelated"] for each in mine.values() if each.get("unrelated")],
            bool(mine),
            entry_of(plan.request.model).kind,
        ),
        "learning_rate": cells[0].spec.learning_rate if cells else None,
        "head_learning_rate": cells[0].spec.head_learning_rate if cells else None,
        "values": _plain(cells[0].spec.values) if cells else {},
        "loss": _curve([each["loss"] for each in mine.values()]),
    }
    return row


def merging(row: Mapping[str, Any]) -> str:
    """Whether a row's method can be merged, in words; one that adds nothing to the model needs no merge."""
    if not get_method(row["method"]).adds:
        return "needs none"
    return "yes" if row["mergeable"] else "no"


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _state(plan: ComparisonPlan, slug: str, cells: Sequence[Cell], standing: Standing) -> dict[str, str]:
    if slug in plan.refused:
        return {"status": "does not apply", "why": plan.refused[slug]}
    done = sum(cell in standing.done for cell in cells)
    failed = [cell for cell in cells if cell in standing.failed]
    if failed:
        return {
            "status": "failed" if not done else "partly failed",
            "why": _message(standing.runs[failed[0]]),
        }
    if done == len(cells):
        return {"status": "done", "why": ""}
    return {"status": "partial" if done else "pending", "why": ""}


def _message(run: Run) -> str:
    return run.view().message


def _over_seeds(name: str, values: Sequence[float]) -> dict[str, float | None]:
    return {name: spread.mean(values), f"{name}_std": spread.deviation(values)}


def _inference(found: Sequence[Record]) -> dict[str, Any]:
    return {
        "base_inference_seconds": spread.mean([each["base_seconds"] for each in found]),
        **_over_seeds("added_seconds", [each["added_seconds"] for each in found]),
    }


def _forgetting(found: Sequence[Record], ended: bool, kind: str) -> dict[str, Any]:
    change = [each["after"]["loss"] - each["before"]["loss"] for each in found if each["before"]]
    return {
        "forgetting_before": spread.mean([each["before"]["loss"] for each in found if each["before"]]),
        "forgetting_after": spread.mean([each["after"]["loss"] for each in found]),
        **_over_seeds("forgetting_change", change),
        "forgetting_tokens": found[0]["after"]["tokens"] if found else None,
        "forgetting_task": found[0]["after"]["task"] if found else None,
        "forgetting_why": inference_forgetting.no_loss(kind) if ended and not found else "",
    }


def _curve(losses: Sequence[Sequence[float]]) -> dict[str, list[float | None]]:
    """Training loss by step, mean and spread over seeds."""
    steps = list(zip(*losses, strict=False))
    return {
        "mean": [spread.mean(step) for step in steps],
        "std": [spread.deviation(step) for step in steps],
    }
