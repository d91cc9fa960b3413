"""``recommend``: the decision tree without the page. Unanswered questions get their usual answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from peft_lab.advise.flips import Flip, flips
from peft_lab.advise.plan import told_by
from peft_lab.advise.recipes.recipe import RecipeSetting
from peft_lab.advise.recipes.replications import replications
from peft_lab.advise.recommend import Recommendation, recommend, served
from peft_lab.advise.room import room_of
from peft_lab.advise.situation import FOUND, WORDS, Situation, parse
from peft_lab.advise.tree import QUESTIONS
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.cli.options import option, split_assignment
from peft_lab.core import units
from peft_lab.core.units import band, label, written_figure

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
        document(situation, advice, changes), as_json, human=lambda: _human(situation, advice, changes)
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


def _human(situation: Situation, advice: Recommendation, changes: Sequence[Flip]) -> list[Any]:
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
