"""``plan``: trainings that fit on one or many GPUs, ranked, with time, cost and files; ``recommend``: the decision
tree without the page, whose unanswered questions get their usual answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from peft_lab.advise.flips import Flip, flips
from peft_lab.advise.foreign.fitting import as_written, job_of
from peft_lab.advise.foreign.reading import Reading
from peft_lab.advise.plan import StepPlan, told_by
from peft_lab.advise.plans import nearest, ranking
from peft_lab.advise.plans.configs import Written, write
from peft_lab.advise.plans.nearest import ask, mend, options_of, said_of, together
from peft_lab.advise.plans.ranking import Candidate, Planned
from peft_lab.advise.plans.steps import (
    MEANS,
    ORDER,
    link_of,
    loading,
    told_adapters,
    uncounted,
    unmeasured,
)
from peft_lab.advise.plans.wanted import Lengths, Wanted, lengths_in, rows_of
from peft_lab.advise.recipes.recipe import RecipeSetting
from peft_lab.advise.recipes.replications import replications
from peft_lab.advise.recommend import Recommendation, recommend, served
from peft_lab.advise.room import room_of
from peft_lab.advise.situation import FOUND, HOUR, WORDS, Situation, parse
from peft_lab.advise.tree import QUESTIONS
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import form_options, option, option_of, split_assignment
from peft_lab.cli.output import ProgressBars
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.core.field import as_text
from peft_lab.core.inspector import get_pool
from peft_lab.core.units import band, label, several, written_figure
from peft_lab.models.catalogue import resolve

#: Fields of the form that are options; --lengths gives the packed rows.
_OPTIONS = tuple(name for name in Wanted.fields() if name not in ("model", "packed"))


@command("plan")
@form_options(Wanted, _OPTIONS, needed=("gpu",), parse=False)
def plan_command(
    given: dict[str, str],
    file: options.ConfigFile = None,
    model: options.OneModel = None,
    lengths: options.LengthsFile = None,
    packing: Annotated[
        bool, option("--packing", None, "Pack several short rows into one; needs --lengths.")
    ] = False,
    out: Annotated[Path | None, option("--out", "DIR", "A folder for the best plan's files.")] = None,
    as_json: options.Json = False,
) -> None:
    """Plan a training run on one or more GPUs: what fits, how long it takes, what it costs, and its files."""
    reading = options.read_foreign(file)
    texts = {"model": options.model_of(reading, model), **_of_file(reading, given)}
    if packing and lengths is None:
        raise BadInput("--packing needs the lengths of the rows. Give --lengths FILE.", "packing")
    known = lengths_in(lengths)
    if known is not None:
        texts = {**known.fields(), **texts}
    request = ask(texts)
    wanted, wrong = request.wanted, request.problems()
    if wrong:
        raise _corrected(texts, wrong[0].field)
    if packing and known is not None:
        wanted = _packed(wanted, known)
    if out is not None:
        options.make_folder(out)  # before minutes of simulating
    if reading is not None:
        reading = reading.on({"devices": wanted.devices})
    own_step = None if reading is None else _as_written(reading, wanted)
    candidates = tried(wanted)
    ranked = ranking.rank(wanted, candidates)
    if not ranked:
        for line in _refused(candidates):
            output.note(line)
        raise BadInput(nearest.nearest(wanted, _evaluate).told(), "gpu")
    written = [get_pool().submit(0, write, asdict(wanted), one).result() for one in ranked]
    notes = []
    late, quick = nearest.too_late(wanted, ranked), nearest.quickest(ranked)
    if late and quick is not None:  # no plan is sure to meet the deadline: say what would
        notes.append(nearest.Nearest(late, nearest.meeting(wanted, quick, _evaluate)).told())
    if out is not None:
        notes += _save(out, ranked[0], written[0])
    more = {} if reading is None else {**reading.as_dict(), "as_written": own_step}
    about = options.tables_of(reading, own_step)
    document = [
        {**one.as_dict(), "files": files.files, "files_missing": files.missing, **more}
        for one, files in zip(ranked, written, strict=True)
    ]
    if as_json:
        for line in notes:
            output.note(line)
    output.show(document, as_json, human=lambda: [*about, *_human(wanted, ranked, candidates), *notes])


def _of_file(reading: Reading | None, given: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of the request that a file decides, under those that are given."""
    named = ("objective", "seq", "devices", "rows", "optimizer") if reading else ()
    found = {name: as_text(reading.settings[name]) for name in named if reading and name in reading.settings}
    if "seq" in found and "seq" not in given:
        found["row_tokens"] = str(min(int(found["seq"]), Wanted.row_tokens))
    return found | dict(given)


def _as_written(reading: Reading, wanted: Wanted) -> dict[str, Any] | None:
    """Return the training as the file has it; None if the file has no method or no batch."""
    situation = wanted.situation()
    if not reading.method or "batch" not in reading.settings:
        return None
    chosen = options.choose(resolve(wanted.model), [reading.method], reading.sets, None)
    job = job_of(reading, wanted.model, chosen.methods[0][1], {"devices": wanted.devices, "seq": wanted.seq})
    return as_written(reading, job, situation.hardware, link_of(situation), wanted.rows, wanted.row_tokens)


def _corrected(texts: Mapping[str, str], first: str | None) -> BadInput:
    """Return one error for all invalid options, naming each and the values probably meant. Nothing is simulated for it,
    so it comes at once."""
    request = mend(ask(texts))
    message = " ".join(f"{_named(error.field)}{said_of(error, instead)}" for error, instead in request.each)
    if request.several:
        every = together(request.several)
        message += f" Did you mean {every.said} ({options_of(every.changes)})?"
    return BadInput(message, first)


def _named(field: str | None) -> str:
    return f"{option_of(Wanted, field)}: " if field in ("model", *_OPTIONS) else ""


def _packed(wanted: Wanted, lengths: Lengths) -> Wanted:
    """Return the request with several data rows packed into one. Raises BadInput if no two fit."""
    if wanted.rows != len(lengths.tokens):
        raise BadInput(f"The file has {several(len(lengths.tokens), 'row')}. Leave --rows out.", "rows")
    full = rows_of(lengths.tokens, wanted.seq)
    if full == wanted.rows:
        raise BadInput(
            f"No two rows fit into {several(wanted.seq, 'token')}. Leave --packing out or raise --seq.",
            "packing",
        )
    return replace(wanted, packed=full).check()


def tried(wanted: Wanted, lines: bool = True) -> list[Planned]:
    """Evaluate all candidates in parallel, with a progress bar; ``lines``: print its lines without a terminal too."""
    candidates = ranking.candidates(wanted)
    if not candidates:
        raise BadInput("; ".join(ranking.get_refusals(wanted).values()), "model")
    futures = [_submit(wanted, one) for one in candidates]
    with ProgressBars(lines) as bars:
        waiting = set(futures)
        while waiting:
            _, waiting = wait(waiting, return_when="FIRST_COMPLETED")
            bars.update("plans", 1 - len(waiting) / len(futures), f"{len(waiting)} to go")
    return [future.result() for future in futures]


def _submit(wanted: Wanted, candidate: Candidate) -> Future[Planned]:
    return get_pool().submit(0, ranking.evaluate, asdict(wanted), asdict(candidate))


def _evaluate(wanted: Wanted, candidate: Candidate) -> Planned:
    return _submit(wanted, candidate).result()


def _save(folder: Path, best: Planned, written: Written) -> list[str]:
    """Write a plan's files; return lines that name them and say why others are missing. Raises BadInput."""
    with options.writing(folder):
        for name, text in written.files.items():
            (folder / name).write_text(text, "utf-8")
    there = ", ".join(written.files) or "nothing"
    lines = [f"Files of the first plan, {best.title}, in {folder}: {there}."]
    return lines + [f"  No {' or '.join(names)}: {reason}" for reason, names in written.reasons.items()]


def _human(wanted: Wanted, ranked: list[Planned], candidates: list[Planned]) -> list[Any]:
    def planned(one: Planned) -> StepPlan:
        assert one.plan is not None
        return one.plan

    columns: dict[str, output.Column] = {
        "plan": "title",
        ">batch per GPU": lambda one: f"{planned(one).batch:,}",
        ">accumulation steps": lambda one: f"{planned(one).accumulate:,}",
        ">peak per GPU": lambda one: units.size(planned(one).needed_bytes),
        ">free": lambda one: units.percent(100 * planned(one).headroom),
        "time": lambda one: _time(one.hours),
        ">cost": ("cost", lambda cost: f"{cost[0]:,.2f} to {cost[1]:,.2f}"),
        "bottleneck": ("update", lambda update: update.bottleneck),
    }
    data = f"{several(wanted.rows, 'row')} of {several(wanted.row_tokens, 'token')} (at most {wanted.seq:,})"
    where = f"Peaks are simulated for rows of {several(wanted.seq, 'token')}; time is estimated from the same steps."
    best, situation = ranked[0], wanted.situation()
    parts: list[Any] = [
        output.table("Plans that fit, the best first", ranked, columns),
        f"For {data}. {where} {ORDER}",
    ]
    if best.update is not None:
        less = best.change and f" {best.change.text}: {1 - best.change.factor:.0%} less time."
        parts.append(f"{best.title}: {MEANS[best.update.bottleneck]}{less or ''}")
    parts.append(
        f"{best.title}: while the base model is {loading(situation.shape, best.candidate.method, planned(best)).told}."
    )
    parts += [f"  {line}" for line in _refused(candidates)]
    parts += filter(None, (unmeasured(situation.shape, wanted.gpu), uncounted(situation)))
    if not (wanted.precision or wanted.adapter_dtype):
        parts.append(told_adapters(wanted.gpu))
    if wanted.packed:
        parts.append(
            f"{wanted.rows:,} rows fit into {wanted.packed:,} packed rows of {several(wanted.seq, 'token')}."
        )
    for one in ranked:
        if one.saved is not None:
            more = f"{abs(one.saved):.0%} {'less' if one.saved >= 0 else 'more'} time than padded rows at equal batch"
            parts.append(f"  {one.title}, packed: {more}.")
    return parts


def _time(hours: tuple[float, float] | None) -> str:
    return "unknown speed" if hours is None else units.span(hours[0] * HOUR, hours[1] * HOUR)


def _refused(candidates: Sequence[Planned]) -> list[str]:
    """Return the plans that do not work, with the reasons."""
    return [f"{title}: {reason}" for title, reason in ranking.refusing(candidates)]


_HELP = (
    "One answer about your situation: "
    + "; ".join(f"{key}={'|'.join(words)}" for key, words in WORDS.items())
    + ". These keys take numbers: tasks, rows, row_tokens, latency (percent more time), deadline (hours, or a date and "
    "time) and storage (bytes, or 0.5MB). Also: model=NAME, device=NAME, 24GB or 2x24GB, devices=NUMBER, batch=ROWS "
    "(the least per update), seq=TOKENS. PEFT Lab counts or simulates these answers unless you give them: "
    + "; ".join(f"{key}={'|'.join(QUESTIONS[key].answers)}" for key in FOUND)
    + ". Repeatable."
)


@command("recommend")
def recommend_command(
    answer: Annotated[list[str] | None, option("--answer", "KEY=VALUE", _HELP)] = None,
    as_json: options.Json = False,
) -> None:
    """Recommend a method for a situation, with reasons, a runner-up, and what would change the choice."""
    situation, claims = parse(
        split_assignment(text, "answer", "rows=5000", empty=False) for text in answer or ()
    )
    room = room_of(situation)
    advice = recommend(situation, room, claims)
    changes = flips(situation, room, advice)
    output.show(
        document(situation, advice, changes), as_json, human=lambda: _advised(situation, advice, changes)
    )


def document(situation: Situation, advice: Recommendation, changes: Sequence[Flip]) -> dict[str, Any]:
    """Return the recommendation as a JSON document."""
    plan = advice.plan
    made: dict[str, Any] = dict.fromkeys(("plan", "peak_bytes", "device_bytes", "headroom", "seconds"))
    training = None
    if plan is not None:
        training = {key: value for key, value in asdict(plan).items() if key not in ("values", "settings")}
        training["source"] = "simulated"
        made = {
            "plan": {name: _setting(one) for name, one in plan.settings.items()},
            "peak_bytes": plan.needed_bytes,
            "device_bytes": plan.memory_bytes,
            "headroom": plan.headroom,
            "seconds": plan.seconds and dict(zip(("low", "high"), plan.seconds, strict=True)),
        }
    nearest = {name: near.text for name, near in advice.nearest.items()}
    return {
        **output.attributes(advice, "method", "title", "why", "runner_up", "runner_up_text"),
        "flips_if": changes,
        "path": advice.path,
        "config": {} if plan is None else plan.values,
        "training": training,
        "served_by": served(situation, advice),
        "overruled": advice.overruled,
        "situation": asdict(situation) | {"deadline_hours": situation.deadline_hours},
        **made,
        "unknown": [one.text for one in advice.unknown],
        **({"nearest": nearest} if nearest else {}),
    }


def _setting(setting: RecipeSetting) -> dict[str, Any]:
    """Return a setting as a dict, each source with this lab's own measurement of it."""
    row, seen = setting.as_dict(), replications()
    return {**row, "sources": [{**one, "here": seen[one["rule"]].as_dict()} for one in row["sources"]]}


def _advised(situation: Situation, advice: Recommendation, changes: Sequence[Flip]) -> list[Any]:
    parts: list[Any] = [advice.title]
    if advice.plan is not None:
        plan = advice.plan
        knobs = " ".join(f"{name}={_text(value)}" for name, value in plan.values.items())
        step = f"{plan.batch} × {plan.seq} tokens" + (", checkpointed" if plan.checkpointing else "")
        more = f", {plan.accumulate} accumulation steps" if plan.accumulate > 1 else ""
        settings = [
            (label(name), written_figure(one.value), band(one.band), told_by(one))
            for name, one in plan.settings.items()
        ]
        parts += [
            f"  {situation.model}: {knobs}",
            f"  {step}{more}: {units.size(plan.needed_bytes)} of {units.size(plan.memory_bytes)} (simulated)",
            output.table("Plan", settings, ("setting", "value", "band", "from")),
        ]
    path: dict[str, output.Column] = {
        "question": lambda step: QUESTIONS[step.question].full,
        "answer": "label",
        "how": "how",
        "because": "because",
    }
    parts.append(output.table("Path", advice.path, path))
    parts.append(output.table("Why", advice.why, {"reason": "text", "source": "source", "kind": "kind"}))
    if advice.overruled:
        parts += ["Overruled:", *(f"  {why.text}" for why in advice.overruled)]
    if advice.nearest:
        parts.append(f"Closest: {'; '.join(near.text for near in advice.nearest.values())}.")
    if advice.runner_up:
        parts.append(f"Runner-up: {advice.runner_up_text}")
    if advice.unknown:
        parts += ["Unknown:", *(f"  {text}" for text in advice.unknown)]
    if changes:
        parts.append(output.table("What would change the answer", changes, {"if": "text", "then": "title"}))
    return parts


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
