"""Every run of a sweep in a table, each with a link to it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab import units
from peft_lab.recipes.advice import figure as told
from peft_lab.runs.spec import RunSpec
from peft_lab.sweep.landscape import METRIC
from peft_lab.sweeping import picture, trials
from peft_lab.sweeping.trials import Trial
from peft_lab.ui.components import figures
from peft_lab.ui.runs.shown import short_id
from peft_lab.ui.sweeps import choosing
from peft_lab.ui.sweeps.best import address

MOST = 200  # rows: more of them nobody reads, and a browser draws them slowly


def section(found: Sequence[Trial], names: Sequence[str], measured: Sequence[str], spec: RunSpec) -> None:
    st.markdown(f"### Runs {figures.badge('measured')}")
    order = sorted(found, key=lambda trial: _worth(trial, measured[0])) if measured else list(found)
    titles = choosing.titles(spec)
    # What a run scored comes first: a phone shows the first columns, and the others by scrolling.
    columns = ["Run", *(titles[name].partition(",")[0] for name in measured)]
    columns += [*(picture.title(name) for name in names), "Seed", "State", "Steps", "Training"]
    numeric = [*range(1, len(measured) + 1), len(columns) - 2, len(columns) - 1]
    rows = [_cells(trial, names, measured) for trial in order[:MOST]]
    figures.table(
        columns,
        rows,
        numeric,
        links=[address(trial) if trial.run else "" for trial in order[:MOST]],
    )
    if len(order) > MOST:
        st.markdown(
            f"The first {MOST:,} of {len(order):,} runs, the best first. All of them: the command with `--json`."
        )


def _worth(trial: Trial, figure: str) -> tuple[bool, float]:
    """Small where a run is good; those without a result come last."""
    value = trial.figure(figure)
    if value is None:
        return True, 0.0
    return False, -value if figure == METRIC else value


def _cells(trial: Trial, names: Sequence[str], measured: Sequence[str]) -> list[str]:
    scores = [trial.figure(name) for name in measured]
    values = [trials.value_of(trial.spec, name) for name in names]
    return [
        short_id(trial.run).replace("-", "\N{NON-BREAKING HYPHEN}") or "–",
        *(
            "–" if score is None else choosing.written(score, name)
            for score, name in zip(scores, measured, strict=True)
        ),
        *("–" if value is None else figures.whole(told(value)) for value in values),
        str(trial.spec.seed),
        trial.status,
        f"{trial.step:,}" if trial.run else "–",
        "–" if not trial.seconds else units.seconds(trial.seconds),
    ]
