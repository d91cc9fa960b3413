"""``recommend``: the decision tree without the page. What is not answered is at its usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from peft_lab.advise.flips import Flip, flips
from peft_lab.advise.plan import told_by
from peft_lab.advise.recipes.recipe import Setting
from peft_lab.advise.recipes.replications import replications
from peft_lab.advise.recommend import Recommendation, recommend
from peft_lab.advise.room import room_of
from peft_lab.advise.situation import FOUND, WORDS, Situation, parse
from peft_lab.advise.tree import QUESTIONS
from peft_lab.cli import options, output
from peft_lab.cli.application import command
from peft_lab.core import units
from peft_lab.core.errors import BadInput, echoed
from peft_lab.core.setting_words import band, label, written_figure

_HELP = (
    "An answer: "
    + "; ".join(f"{key}={'|'.join(words)}" for key, words in WORDS.items())
    + "; numbers for tasks, rows, row_tokens, latency (percent longer), deadline_hours and storage (bytes, or 0.5MB); "
    "model=NAME, device=NAME, 24GB or 2x24GB, devices=HOW MANY, batch=ROWS of an update at least, seq=TOKENS; or "
    "an answer that would otherwise be counted or simulated: "
    + "; ".join(f"{key}={'|'.join(QUESTIONS[key].answers)}" for key in FOUND)
    + ". Repeatable."
)


@command("recommend")
def recommend_command(
    answer: Annotated[list[str] | None, typer.Option("--answer", metavar="KEY=VALUE", help=_HELP)] = None,
    as_json: options.Json = False,
) -> None:
    """Recommend a method for a situation, with reasons, runner-up and what would flip the choice."""
    situation, claims = parse([_pair(text) for text in answer or ()])
    room = room_of(situation)
    found = recommend(situation, room, claims)
    changes = flips(situation, room, found)
    output.show(document(situation, found, changes), as_json, human=lambda: _human(situation, found, changes))


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise BadInput(
            f"--answer takes KEY=VALUE, such as rows=5000; '{echoed(text)}' is not of that form.", "answer"
        )
    return key, value


def document(situation: Situation, found: Recommendation, changes: Sequence[Flip]) -> dict[str, Any]:
    """The JSON document."""
    plan = found.plan
    training = None
    if plan is not None:
        training = {key: value for key, value in asdict(plan).items() if key not in ("values", "settings")}
        training["source"] = "simulated"
    return {
        "method": found.method,
        "title": found.title,
        "why": [asdict(why) for why in found.why],
        "runner_up": found.runner_up,
        "runner_up_text": found.runner_up_text,
        "flips_if": [asdict(flip) for flip in changes],
        "path": [asdict(step) for step in found.path],
        "config": {} if plan is None else dict(plan.values),
        "training": training,
        "overruled": [asdict(why) for why in found.overruled],
        "situation": asdict(situation),
        "plan": None if plan is None else {name: _setting(one) for name, one in plan.settings.items()},
        "peak_bytes": None if plan is None else plan.needed_bytes,
        "device_bytes": None if plan is None else plan.memory_bytes,
        "headroom": None if plan is None else plan.headroom,
        "seconds": None
        if plan is None or plan.seconds is None
        else dict(zip(("low", "high"), plan.seconds, strict=True)),
        "unknown": [one.text for one in found.unknown],
        **({"nearest": {name: near.text for name, near in found.nearest.items()}} if found.nearest else {}),
    }


def _setting(setting: Setting) -> dict[str, Any]:
    """A setting with, for each of its sources, what this lab's sweep saw of it."""
    found = setting.as_dict()
    seen = replications()
    return {
        **found, "sources": [{**each, "here": seen[each["rule"]].as_dict()} for each in found["sources"]]
    }  # fmt: skip


def _human(situation: Situation, found: Recommendation, changes: Sequence[Flip]) -> list[Any]:
    parts: list[Any] = [found.title]
    if found.plan is not None:
        plan = found.plan
        knobs = " ".join(f"{name}={_text(value)}" for name, value in plan.values.items())
        step = f"{plan.batch} × {plan.seq} tokens" + (", checkpointed" if plan.checkpointing else "")
        more = f", {plan.accumulate} steps accumulated" if plan.accumulate > 1 else ""
        parts += [
            f"  {situation.model}: {knobs}",
            f"  {step}{more}: {units.size(plan.needed_bytes)} of {units.size(plan.memory_bytes)} (simulated)",
        ]
        fields = [
            (label(name), written_figure(one.value), band(one.band), told_by(one))
            for name, one in plan.settings.items()
        ]
        heads = {"setting": "left", "value": "left", "band": "left", "from": "left"}
        parts.append(output.table("Plan", heads, fields))
    columns = {"question": "left", "answer": "left", "how": "left", "because": "left"}
    rows = [(QUESTIONS[step.question].full, step.label, step.how, step.because) for step in found.path]
    parts.append(output.table("Path", columns, rows))
    reasons = [(why.text, why.source, why.kind) for why in found.why]
    parts.append(output.table("Why", {"reason": "left", "source": "left", "kind": "left"}, reasons))
    if found.overruled:
        parts += ["Overruled:", *(f"  {why.text}" for why in found.overruled)]
    if found.nearest:
        parts.append(f"Nearest: {'; '.join(near.text for near in found.nearest.values())}.")
    if found.runner_up:
        parts.append(f"Runner-up: {found.runner_up_text}")
    if found.unknown:
        parts += ["What is not known:", *(f"  {text}" for text in found.unknown)]
    if changes:
        flipped = [(flip.text, flip.title) for flip in changes]
        parts.append(output.table("What would change the answer", {"if": "left", "then": "left"}, flipped))
    return parts


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
