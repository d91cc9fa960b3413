"""A prediction that trains: its runs through the queue with their progress, finished equal ones used again."""

from __future__ import annotations

import streamlit as st

from peft_lab.errors import RunError
from peft_lab.experiments import results
from peft_lab.queue.queue import get_queue
from peft_lab.quiz.predictions import Contest, Prediction, decide_records
from peft_lab.runs import store
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.runs.view import Status
from peft_lab.ui import state
from peft_lab.ui.components.parts import part
from peft_lab.ui.runs.shown import summaries

SCOPE = "contests"
REFRESH = 1.0  # seconds between looks at the runs


def contest(prediction: Prediction) -> list[float] | None:
    """The figures of the runs, or ``None`` while they are under way; the page comes back by itself.

    Raises:
        PeftLabError: a run that could not start, or did not finish.
    """
    assert isinstance(prediction.experiment, Contest)
    runs = _runs(prediction, prediction.experiment)
    views = [run.view() for run in runs]
    failed = next((seen for seen in views if seen.status.final and seen.status is not Status.DONE), None)
    if failed is not None:
        raise RunError(f"A run did not finish ({failed.status}). {failed.message}".strip())
    if all(seen.status is Status.DONE for seen in views):
        outcome = decide_records(prediction, [run.record() for run in runs])
        return [figure.value for figure in outcome.figures]
    _progress(prediction.experiment.labels, runs)
    return None


def forget_runs(prediction: Prediction) -> None:
    """Let the next commitment find or start its runs afresh."""
    state.scope(SCOPE).pop(prediction.id, None)


def _runs(prediction: Prediction, experiment: Contest) -> list[Run]:
    identities = state.remembered(SCOPE, prediction.id, None)
    if identities is None:
        identities = [_finished(spec) or get_queue().submit(spec) for spec in experiment.runs]
        state.remember(SCOPE, prediction.id, identities)
    return [store.get(identity) for identity in identities]


def _finished(spec: RunRequest) -> str | None:
    """A finished run of the same settings."""
    found = results.run_of(spec.complete(), summaries())
    return found.id if found and found.status == Status.DONE else None


def _progress(labels: tuple[str, ...], runs: list[Run]) -> None:
    def progress() -> None:
        views = [run.view() for run in runs]
        for label, seen in zip(labels, views, strict=True):
            st.progress(min(1.0, seen.progress), text=f"**{label}** · {seen.status}")
        broken = any(seen.status.final and seen.status is not Status.DONE for seen in views)
        if broken or all(seen.status.final for seen in views):
            st.rerun()

    part(progress, every=REFRESH)
