"""Look inside Prompt Tuning: what the soft tokens became."""

from __future__ import annotations

from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.method.inside import soft
from peft_lab.ui.runs.shown import finished_of, nothing_to_open, pick_run, read_insight


def show(choice: Choice) -> None:
    slug = choice.spec.slug
    runs = [line for line in finished_of(slug) if read_insight(line.id).get("soft_tokens")]
    if not runs:
        nothing_to_open(slug, "what the soft tokens became")
        return
    soft.show_run(slug, read_insight(pick_run(slug, runs, choice.entry.name)))
