"""``plan``: trainings on one or many GPUs that fit, ranked, with their time, their cost and the files that do them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer

from peft_lab.advise.plans import nearest, ranking
from peft_lab.advise.plans.asked import ask, mend
from peft_lab.advise.plans.configs import Written, write
from peft_lab.advise.plans.lengths import Lengths, read_lengths, rows_of
from peft_lab.advise.plans.nearest import options_of, said_of, together
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.advise.plans.steps import MEANS, ORDER, told_loading, uncounted, unmeasured
from peft_lab.advise.plans.wanted import FURTHER, HOUR, Wanted, look
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.output import ProgressBars
from peft_lab.core import disk, units
from peft_lab.core.errors import BadInput
from peft_lab.core.units import several
from peft_lab.engine.step import OPTIMIZERS
from peft_lab.workers.pool import get_pool

_LARGEST = 256 << 20  # bytes of a file of lengths; a row's text may stand beside its length


@command("plan")
def plan_command(
    model: options.Model,
    gpu: Annotated[str, typer.Option("--gpu", help="A GPU by name, or a size such as 24GB.")],
    devices: Annotated[str, typer.Option("--devices", help="How many of it.")] = "1",
    link: Annotated[str | None, typer.Option("--link", help="What connects them: pcie or nvlink.")] = None,
    rows: Annotated[str | None, typer.Option("--rows", help="Rows of training data.")] = None,
    row_tokens: Annotated[
        str | None, typer.Option("--row-tokens", help="Tokens of a row, on average.")
    ] = None,
    seq: Annotated[str | None, typer.Option("--seq", help="Tokens at which a row is cut.")] = None,
    lengths: Annotated[
        Path | None, typer.Option("--lengths", help="A file with the tokens of each row, one number a line.")
    ] = None,
    packing: Annotated[
        bool, typer.Option("--packing", help="Several short rows fill one; needs --lengths.")
    ] = False,
    objective: Annotated[str | None, typer.Option("--objective", help="What it is trained for.")] = None,
    price: Annotated[
        str | None, typer.Option("--price", help="For one GPU and hour, in any currency.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", help="Hours, or a moment such as 2026-11-27T08:00.")
    ] = None,
    also: Annotated[
        str | None,
        typer.Option("--also", help=f"Further methods to rank, with commas: {', '.join(FURTHER)}."),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option("--optimizer", help=f"AdamW if not said; else one of {', '.join(OPTIMIZERS)}."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A folder for the best plan's files.")] = None,
    as_json: options.Json = False,
) -> None:
    """Plan a training on one or many GPUs: what fits, how long it takes, what it costs, and the files that do it."""
    given = {
        "model": model, "gpu": gpu, "devices": devices, "link": link, "rows": rows, "row_tokens": row_tokens,
        "seq": seq, "objective": objective, "price": price, "deadline": deadline, "also": also,
        "optimizer": optimizer,
    }  # fmt: skip
    told = {name: text for name, text in given.items() if text is not None}
    if packing and lengths is None:
        raise BadInput("How many rows fill one is known from their lengths: give --lengths FILE.", "packing")
    known = None if lengths is None else read_lengths(disk.take_text(lengths, _LARGEST, "lengths"))
    if known is not None:
        told = {**known.fields(), **told}
    wanted, wrong = look(told)
    if wrong:
        raise _instead(told, wrong)
    if packing and known is not None:
        wanted = _packed(wanted, known)
    if out is not None:
        _make(out)  # what cannot be written to is said before minutes of simulating
    found = tried(wanted)
    ranked = ranking.rank(wanted, found)
    if not ranked:
        for line in _refused(found):
            output.note(line)
        raise BadInput(nearest.nearest(wanted, _ask).told(), "gpu")
    written = [get_pool().submit(0, write, asdict(wanted), one).result() for one in ranked]
    if out is not None:
        _save(out, written[0])
    documents = [_document(one, files) for one, files in zip(ranked, written, strict=True)]
    late = _late(wanted, ranked)
    ends = [*([late] if late else []), *([] if out is None else _told(out, ranked[0], written[0]))]
    if as_json:
        for line in ends:
            output.note(line)
    output.show(documents, as_json, human=lambda: [*_human(wanted, ranked, found), *ends])


def _instead(told: Mapping[str, str], wrong: Sequence[BadInput]) -> BadInput:
    """Return one error for all that is wrong, with the options that are meant where that can be told.

    Nothing is simulated for it: what cannot be is answered at once.
    """
    found = mend(ask(told))
    said = " ".join(said_of(error, one) for error, one in found.each)
    if not found.several:
        return BadInput(said, wrong[0].field)
    every = together(found.several)
    return BadInput(
        f"{said} What could be meant: {every.said} ({options_of(every.changes)}).", wrong[0].field
    )


def _late(wanted: Wanted, ranked: list[Planned]) -> str:
    """What to say of a deadline that no plan is sure to meet, and what would; empty where one is."""
    problem, best = nearest.too_late(wanted, ranked), nearest.quickest(ranked)
    if not problem or best is None:
        return ""
    return nearest.Nearest(problem, nearest.meeting(wanted, best, _ask)).told()


def _packed(wanted: Wanted, lengths: Lengths) -> Wanted:
    """The same with rows that share one. Raises BadInput where none do."""
    if wanted.rows != len(lengths.tokens):
        raise BadInput(f"The file has {several(len(lengths.tokens), 'row')}: leave --rows out.", "rows")
    found = rows_of(lengths.tokens, wanted.seq)
    if found == wanted.rows:
        raise BadInput(
            f"No two rows fit into one of {several(wanted.seq, 'token')}: leave --packing out, or raise --seq.",
            "packing",
        )
    return replace(wanted, packed=found).check()


def tried(wanted: Wanted, lines: bool = True) -> list[Planned]:
    """Every candidate, two or more at once, with a bar; ``lines``: or else lines where there is no terminal."""
    asked = ranking.candidates(wanted)
    if not asked:
        raise BadInput("; ".join(ranking.get_refusals(wanted).values()), "model")
    futures = [get_pool().submit(0, ranking.evaluate, asdict(wanted), asdict(one)) for one in asked]
    with ProgressBars(lines) as bars:
        waiting = set(futures)
        while waiting:
            _, waiting = wait(waiting, return_when="FIRST_COMPLETED")
            bars.update("plans", 1 - len(waiting) / len(futures), f"{len(waiting)} to go")
    return [future.result() for future in futures]


def _ask(wanted: Wanted, candidate: Candidate) -> Planned:
    return get_pool().submit(0, ranking.evaluate, asdict(wanted), asdict(candidate)).result()


def _make(folder: Path) -> None:
    """Make it, with a file that is taken away again. Raises BadInput where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritten(folder, error) from None


def _save(folder: Path, written: Written) -> None:
    """Write the files. Raises BadInput where that cannot be."""
    try:
        for name, text in written.files.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise _unwritten(folder, error) from None


def _unwritten(folder: Path, error: OSError) -> BadInput:
    return BadInput(f"--out {folder} cannot be written: {error.strerror or error}.", "out")


def _told(folder: Path, best: Planned, written: Written) -> list[str]:
    """Which of the first plan's files are in the folder, and why others are not."""
    there = ", ".join(written.files) or "nothing"
    lines = [f"In {folder}, of the first plan, {best.title}: {there}."]
    return lines + [f"  No {' or '.join(names)}: {reason}" for reason, names in written.reasons.items()]


def _document(planned: Planned, written: Written) -> dict[str, Any]:
    return {**planned.as_dict(), "files": dict(written.files), "files_missing": dict(written.missing)}


def _human(wanted: Wanted, ranked: list[Planned], found: list[Planned]) -> list[Any]:
    heads = {
        "plan": "left", "rows at once": "right", "passes": "right", "peak of each": "right", "free": "right",
        "time": "left", "cost": "right", "waits for": "left",
    }  # fmt: skip
    rows = []
    for one in ranked:
        plan, hours, cost = one.plan, one.hours, one.cost
        assert plan is not None
        time = "speed not known" if hours is None else units.span(hours[0] * HOUR, hours[1] * HOUR)
        money = "" if cost is None else f"{cost[0]:,.2f} to {cost[1]:,.2f}"
        rows.append(
            (
                one.title, f"{plan.batch:,}", f"{plan.accumulate:,}", units.size(plan.needed_bytes),
                units.percent(100 * plan.headroom), time, money, one.update.bottleneck if one.update else "",
            )
        )  # fmt: skip
    data = f"{several(wanted.rows, 'row')} of {several(wanted.row_tokens, 'token')}, cut at {wanted.seq:,}"
    where = f"Peaks are simulated at rows of {several(wanted.seq, 'token')}; time is estimated from the same steps."
    parts: list[Any] = [
        output.table("Plans that fit, the best first", heads, rows),
        f"For {data}. {where} {ORDER}",
        *_moves(ranked[0]),
    ]
    if (best := ranked[0]).plan is not None:
        loads = told_loading(wanted.situation().shape, best.candidate.method, best.plan)
        parts += [f"{best.title}: {loads[:1].lower()}{loads[1:]}"] if loads else []
    parts += [f"  {line}" for line in _refused(found)]
    situation = wanted.situation()
    parts += filter(None, (unmeasured(situation.shape), uncounted(situation)))
    if wanted.packed:
        parts.append(f"{wanted.rows:,} rows fit into {wanted.packed:,} of {several(wanted.seq, 'token')}.")
    for one in ranked:
        if one.saved is not None:
            more = f"{abs(one.saved):.0%} {'less' if one.saved >= 0 else 'more'} time than padded rows, as many at once"
            parts.append(f"  {one.title}, packed: {more}.")
    return parts


def _refused(found: Sequence[Planned]) -> list[str]:
    """What was tried and does not work, with the reason."""
    return [f"{title}: {reason}" for title, reason in ranking.refusing(found)]


def _moves(best: Planned) -> list[str]:
    """What the first plan waits for, and the cheapest thing that moves it."""
    if best.update is None:
        return []
    more = ""
    if best.change is not None:
        more = f" {best.change.text}: {1 - best.change.factor:.0%} less time."
    return [f"{best.title}: {MEANS[best.update.bottleneck]}{more}"]
