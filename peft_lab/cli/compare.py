"""``compare``: methods by seeds on one model and task, one run after another, or on a cluster several at a time; the
same command again goes on.

Ctrl-C (or a scheduler's SIGTERM) stops the run under way and the comparison with it; what is finished stays. A command
that was killed leaves as much.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType
from typing import Annotated, Any

import typer

from peft_lab.cli import options, output, runs
from peft_lab.cli.application import FAILED, command
from peft_lab.cli.forms import form_options
from peft_lab.cli.output import ProgressBars
from peft_lab.cli.train import training_queue
from peft_lab.core import units
from peft_lab.core.errors import BadInput, echoed
from peft_lab.methods import all_methods
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.studies import carrying
from peft_lab.studies.compare import plan, results, store
from peft_lab.studies.compare.store import Comparison
from peft_lab.studies.on_ray import OnRay

# ----------------------------------------
# Who carries out the runs of ``sweep`` and ``compare``: this machine's queue, or a Ray cluster.


class Kind(StrEnum):
    """Who carries the runs out."""

    LOCAL = "local"
    RAY = "ray"


Executor = Annotated[
    # help is rich's markup, in which brackets mean something
    Kind, typer.Option(help=r"This machine's queue, or a Ray cluster (pip install 'peft-lab\[cluster]').")
]  # fmt: skip
Address = Annotated[
    str | None,
    typer.Option(
        help="Of the Ray cluster; without it RAY_ADDRESS, what 'ray start' began here, or this machine alone."
    ),
]
_MOST = 4096  # of one training
Cpus = Annotated[int, typer.Option(help="With Ray: processors for a training.", min=1, max=_MOST)]
Gpus = Annotated[
    float, typer.Option(help="With Ray: GPUs for a training, or a share of one.", min=0, max=_MOST)
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="With Ray: by which fsspec URL runs go to the nodes and come back, such as s3://bucket/lab; without it "
        "all nodes see the lab folder under the same path.",
    ),
]


def chosen_executor(
    executor: Kind, address: str | None, cpus: int, gpus: float, store: str | None = None
) -> OnRay | None:
    """The cluster that is asked for; ``None`` for this machine's queue.

    Raises:
        BadInput: there is no such cluster, or a setting of one without it.
    """
    check(executor, address, cpus, gpus, store)
    return OnRay(address, cpus, gpus, store, output.note) if executor is Kind.RAY else None


def check(executor: Kind, address: str | None, cpus: int, gpus: float, store: str | None) -> None:
    """Refuse settings of a cluster without one, before anything is looked at or kept. Raises BadInput."""
    if executor is Kind.RAY:
        return
    given = {"address": address is not None, "cpus": cpus != 1, "gpus": gpus != 0, "store": store is not None}
    for name, is_given in given.items():
        if is_given:
            raise BadInput(f"--{name} says something about Ray's cluster: add --executor ray.", name)


ALL = "all"


@command("compare")
@form_options(RunRequest, ("steps", "batch", "eval_rows"))
def compare(
    model: options.Model,
    given: dict[str, Any],
    task: Annotated[str, typer.Option("--task", metavar="NAME", help="What to learn.")],
    methods: Annotated[
        str, typer.Option("--methods", metavar="A,B,C", help="Slugs; 'all' for every method there is.")
    ] = ALL,
    sets: options.Sets = None,
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="0,1,2", help="Seeds; each gives one run of every method.")
    ] = ",".join(map(str, plan.SEEDS)),
    axes: Annotated[
        str, typer.Option("--axes", metavar="X,Y", help="The two figures of the Pareto front.")
    ] = ",".join(results.DEFAULT_AXES),
    executor: Executor = Kind.LOCAL,
    address: Address = None,
    cpus: Cpus = 1,
    gpus: Gpus = 0.0,
    store_at: Store = None,
    track: runs.Track = None,
    as_json: options.Json = False,
) -> None:
    """Compare methods on the same data in the same order; finished runs are never repeated."""
    check(executor, address, cpus, gpus, store_at)
    wanted = _methods(methods)
    values = options.parse_sets(sets or (), [all_methods()[slug] for slug in wanted]) if sets else {}
    front = _axes(axes)
    made = plan.make_plan(
        plan.ComparisonRequest(
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
    on_ray = chosen_executor(executor, address, cpus, gpus, store_at)
    ended, signalled = _carried_out(comparison, on_ray)
    found = results.document(comparison, axes=front)
    output.show(found, as_json, human=lambda: comparison_lines(found))
    runs.tell_of_all(list(comparison.standing().runs.values()))
    if not ended:
        output.note(f"{comparison.id} stopped: {found['done']} of {found['total']} runs are done")
        raise typer.Exit(128 + signalled if signalled else FAILED)
    if found["done"] < found["total"]:
        for row in found["rows"]:
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
            f"--seeds takes whole numbers with commas, such as 0,1,2; '{echoed(text)}' is not that."
        ) from None


def _axes(text: str) -> tuple[str, str]:
    names = [part.strip() for part in text.split(",")]
    if len(names) != 2 or names[0] == names[1]:
        raise BadInput(
            f"--axes takes two different figures with a comma; known: {', '.join(results.AXES)}.", "axes"
        )
    return results.get_axis(names[0]).name, results.get_axis(names[1]).name


def _carried_out(comparison: Comparison, cluster: OnRay | None) -> tuple[bool, int]:
    """Carry it out here or on a cluster, drawing progress; return whether it came to its end, and the signal that
    ended it early (0 for none)."""
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


@contextmanager
def stopping(ask_to_stop: Callable[[], None], hint: str = "") -> Iterator[list[int]]:
    """Call ``ask_to_stop`` at the first signal; let a second one end this process, and its run with it.

    The context's value is the list of the signals that came.
    """
    seen: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        seen.append(number)
        output.note(f"stopping after the current step (again to leave at once){hint}")
        ask_to_stop()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def comparison_lines(found: Mapping[str, Any]) -> list[Any]:
    """The document for a person."""
    metric = found["metric"]["title"].lower()
    columns = {"method": "left", "trained": "right", metric: "right", "± seeds": "right", "time": "right"}
    columns |= dict.fromkeys(("peak", "stored", "added inference", "forgetting"), "right")
    columns |= {"merges": "left", "state": "left"}
    plan_ = found["plan"]
    title = f"{plan_['model']}, {plan_['task']}, {plan_['steps']:,} steps, seeds {', '.join(map(str, plan_['seeds']))}"
    table = output.table(
        title,
        columns,
        [_line(row, found["inference_unit"]) for row in found["rows"]],
        "trained: counted; all other figures: measured, means over seeds (peak: the largest)",
    )
    return [table, *found["says"], f"comparison: {found['id']}"]


def _line(row: Mapping[str, Any], unit: str) -> tuple[str, ...]:
    def shown(value: float | None, text: str) -> str:
        return "" if value is None else text.format(value)

    added = row["added_seconds"]
    return (
        row["method"],
        ""
        if row["percent"] is None
        else f"{units.count(row['trainable'])} ({units.percent(row['percent'])})",
        shown(row["metric_mean"], "{:.3f}"),
        shown(row["metric_std"], "{:.3f}"),
        "" if row["seconds"] is None else units.seconds(row["seconds"]),
        "" if row["peak_bytes"] is None else units.size(row["peak_bytes"]),
        "" if row["stored_bytes"] is None else units.size(row["stored_bytes"]),
        "" if added is None else f"{1000 * added:+.2f} ms/{unit}",
        shown(row["forgetting_change"], "{:+.3f}"),
        results.merging(row),
        f"{row['status']}{': ' if row['why'] else ''}{row['why']}",
    )
