"""``compare`` and ``sweep``: many runs, one after another, or on a cluster several at a time.

``compare`` takes methods by seeds on one model and task, ``sweep`` takes its grid from a file. Repeating a command
continues it. Ctrl-C (or a scheduler's SIGTERM) stops the runs under way; finished runs are kept, even after a kill.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_lab.cli import options, output, runs
from peft_lab.cli.application import FAILED, command, stopping
from peft_lab.cli.options import form_options, option, option_of
from peft_lab.cli.output import ProgressBars
from peft_lab.cli.train import training_queue
from peft_lab.core import units
from peft_lab.core.errors import BadInput, echoed
from peft_lab.core.form import Form, choice, number, text, whole
from peft_lab.methods import all_methods
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.studies import carrying
from peft_lab.studies.compare import results, store
from peft_lab.studies.compare.store import Comparison
from peft_lab.studies.on_ray import OnRay
from peft_lab.studies.store import runs_of
from peft_lab.studies.sweeps import plan
from peft_lab.studies.sweeps.store import carry_out_sweep

_MOST = 4096  # processors or GPUs of one training


@dataclass(frozen=True)
class Cluster(Form):
    """Options that choose where the runs are executed: on this machine's queue or a Ray cluster."""

    executor: str = choice(
        "local", "Executor", "Where runs are trained: this machine's queue or a Ray cluster (pip install "
        "'peft-lab[cluster]') whose nodes all see the lab folder under the same path.",
        {"local": "This machine's queue", "ray": "A Ray cluster"},
    )  # fmt: skip
    ray_address: str = text(
        "", "Address",
        "Address of the Ray cluster; by default RAY_ADDRESS, a cluster started here with 'ray start', or this "
        "machine alone.",
        alias="address",
    )  # fmt: skip
    cpus: int = whole(1, "Processors", "With Ray: processors per run.", least=1, most=_MOST)
    gpus: float = number(0.0, "GPUs", "With Ray: GPUs per run, or a fraction of one.", least=0, most=_MOST)

    def rules(self) -> Iterator[BadInput]:
        """Yield an error for each cluster setting that is given without ``--executor ray``."""
        for name, field in self.fields().items():
            if self.executor != "ray" and name != "executor" and getattr(self, name) != field.default:
                yield BadInput(
                    f"{option_of(Cluster, name)} is for a Ray cluster. Add --executor ray.",
                    name,
                )

    def connect(self) -> OnRay | None:
        """Connect to the cluster; ``None`` for this machine's queue. Raises BadInput if that fails."""
        if self.executor != "ray":
            return None
        return OnRay(self.ray_address or None, self.cpus, self.gpus)


ALL = "all"


@command("compare")
@form_options(RunRequest, ("steps", "batch", "eval_rows"))
@form_options(Cluster, Cluster.fields(), into="cluster")
def compare(
    model: options.Model,
    given: dict[str, Any],
    cluster: dict[str, Any],
    task: Annotated[str, option("--task", "NAME", "The task to train on.")],
    methods: Annotated[str, option("--methods", "A,B,C", "Slugs of methods, or 'all'.")] = ALL,
    sets: options.Sets = None,
    seeds: Annotated[
        str, option("--seeds", "0,1,2", "Seeds; every method is trained once per seed.")
    ] = ",".join(map(str, store.SEEDS)),
    track: runs.Track = None,
    as_json: options.Json = False,
) -> None:
    """Compare methods on the same data in the same order; finished runs are never repeated."""
    carrier = Cluster(**cluster).check()
    wanted = _methods(methods)
    values = options.parse_sets(sets or (), [all_methods()[slug] for slug in wanted]) if sets else {}
    made = store.make_plan(
        store.ComparisonRequest(
            model=model,
            task=task,
            methods=wanted,
            seeds=_seeds(seeds),
            **given,
            values={slug: own for slug, own in values.items() if own},
        )
    )
    comparison = store.keep(made)
    for slug, why in made.refused.items():
        output.note(f"does not apply: {slug}: {why}")
    ended, signalled = _carry_out(comparison, carrier.connect())
    document = results.document(comparison)
    output.show(document, as_json, human=lambda: _comparison(document))
    runs.tell_of_all(list(comparison.standing().runs.values()))
    if not ended:
        output.note(f"{comparison.id} stopped: {document['done']} of {document['total']} runs are done")
        raise typer.Exit(128 + signalled if signalled else FAILED)
    if document["done"] < document["total"]:
        for row in document["rows"]:
            if row["status"] in ("failed", "partly failed"):
                output.note(f"error: {row['method']}: {row['why']}")
        raise typer.Exit(FAILED)


def _methods(text: str) -> tuple[str, ...]:
    if text.strip() == ALL:
        return tuple(all_methods())
    return tuple(spec.slug for spec in options.choose_methods([text], "--methods"))


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadInput(
            f"--seeds '{echoed(text)}' is invalid. Give whole numbers separated by commas, such as 0,1,2."
        ) from None


def _carry_out(comparison: Comparison, cluster: OnRay | None) -> tuple[bool, int]:
    """Carry out a comparison here or on a cluster, drawing progress. Return whether it was completed, and the signal
    that ended it early (0 for none)."""
    shown: dict[str, str] = {}  # the bars of runs by their ids

    def draw(done: int, total: int, going: Sequence[Run]) -> None:
        seen = {run.id: run.view() for run in going}
        share = (done + 0.9 * sum(view.progress for view in seen.values())) / total
        what = ""
        for run in going:
            view, spec = seen[run.id], run.spec
            shown[run.id] = f"{spec.method}, seed {spec.seed}"
            at = f", step {view.step} of {view.steps}, loss {view.losses[-1]:.3f}" if view.losses else ""
            what = f"{shown[run.id]}: {view.status}{at}"
            bars.update(shown[run.id], min(view.progress, 0.99))
        for identity in shown.keys() - seen.keys():
            bars.update(shown.pop(identity), 1.0)
        bars.update("Comparing", share, what if len(going) == 1 else f"{done} of {total} runs done")

    try:
        if not comparison.running:
            comparison.begin_afresh()
        with stopping(comparison.ask_to_stop) as signals, ProgressBars() as bars:
            if cluster is None:
                ended = carrying.carry_out_here(comparison, training_queue(), draw)
            else:
                ended = carrying.carry_out(comparison, cluster, cluster.machines(), draw)
    finally:
        if cluster is not None:
            cluster.close()
    return ended, signals[-1] if signals else 0


def _comparison(document: Mapping[str, Any]) -> list[Any]:
    def trained(row: Mapping[str, Any]) -> str | None:
        percent = row["percent"]
        return None if percent is None else f"{units.count(row['trainable'])} ({units.percent(percent)})"

    added = f"{{:+.2f}} ms/{document['inference_unit']}".format
    columns: dict[str, output.Column] = {
        "method": "method",
        ">trained": trained,
        f">{document['metric']['title'].lower()}": ("metric_mean", "{:.3f}".format),
        ">± seeds": ("metric_std", "{:.3f}".format),
        ">time": ("seconds", units.seconds),
        ">peak": ("peak_bytes", units.size),
        ">stored": ("stored_bytes", units.size),
        ">added inference": ("added_seconds", lambda seconds: added(1000 * seconds)),
        ">forgetting": ("forgetting_change", "{:+.3f}".format),
        "merges": results.merging,
        "state": lambda row: f"{row['status']}{': ' if row['why'] else ''}{row['why']}",
    }
    made = document["plan"]
    title = f"{made['model']}, {made['task']}, {made['steps']:,} steps, seeds {', '.join(map(str, made['seeds']))}"
    caption = (
        "trained: counted. All other figures: measured, means over seeds (peak: the largest of all seeds)"
    )
    table = output.table(title, document["rows"], columns, caption)
    return [table, *document["says"], f"comparison: {document['id']}"]


@command("sweep")
@form_options(Cluster, Cluster.fields(), into="cluster")
def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A YAML or JSON file with model, task, methods and grid.")
    ],
    cluster: dict[str, Any],
    track: runs.Track = None,
    as_json: options.Json = False,
) -> None:
    """Train every setting of a file; finished runs are never repeated, interrupted ones continue."""
    chosen = Cluster(**cluster).check()
    wanted = plan.read_sweep(file)
    carrier: carrying.Executor = chosen.connect() or carrying.Local(training_queue())
    with stopping(hint="; run the same command to continue") as signals, ProgressBars() as bars:

        def draw(done: int, total: int, going: Sequence[Run]) -> None:
            shares = [run.view().progress for run in going]
            bars.update("Sweep", (done + 0.9 * sum(shares)) / total, f"{done} of {total} runs done")

        try:
            rows = carry_out_sweep(wanted.specs, carrier, draw, lambda: bool(signals), wanted.early)
        finally:
            carrier.close()
    output.show({"rows": rows}, as_json, human=lambda: [_sweep(rows)])
    runs.tell_of_all([run for run in runs_of(wanted.specs) if run])
    if signals:
        raise typer.Exit(128 + signals[-1])
    lacking = [row for row in rows if row["status"] != Status.DONE and not row["ended_early"]]
    for row in lacking:
        output.note(f"error: {row['method']}, seed {row['seed']}: {row['message'] or row['status']}")
    if lacking:
        raise typer.Exit(FAILED)


def _sweep(rows: Sequence[Mapping[str, Any]]) -> Any:
    values = [row["values"] for row in rows]
    varied = [
        name
        for name in dict.fromkeys(name for own in values for name in own)
        if len({str(own.get(name)) for own in values if name in own}) > 1
    ]
    columns: dict[str, output.Column] = {
        "method": "method",
        **{f">{name}": ("values", methodcaller("get", name)) for name in varied},
        ">seed": "seed",
        ">loss": lambda row: f"{row['loss'][-1]:.3f}" if row["loss"] else "",
        ">metric": ("metric", lambda metric: "" if metric["after"] is None else f"{metric['after']:.3f}"),
        ">time": ("seconds", units.seconds),
        ">peak": ("peak_bytes", units.size),
        "state": lambda row: (
            f"ended early, rung {row['ended_early']['rung']}" if row["ended_early"] else row["status"]
        ),
    }
    return output.table("Sweep", rows, columns, "measured: loss of the last step, metric, time and peak")
