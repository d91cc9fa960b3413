"""A run on screen: progress and curves while it goes, its results when it has ended, its answers beside the base's."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from peft_lab import units
from peft_lab.errors import PeftLabError
from peft_lab.runs import going_on, record, respond, simulated
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunView, Status
from peft_lab.training.scores import Answer
from peft_lab.trajectory.format import Answer as Recorded
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.parts import part
from peft_lab.ui.components.waiting import come_back, is_open
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sections.turn import turn
from peft_lab.ui.runs.shown import go_on, trajectory_of
from peft_lab.ui.runs.shown import stop as ask_to_stop
from peft_lab.units import Source

REFRESH = 0.5  # seconds between looks at a run that is going


def live(run: Run, slug: str) -> None:
    """The run as it stands; refreshed by itself until it has ended, then once more with the whole page."""
    going = not run.view().status.final

    def standing() -> None:
        seen = run.view()
        with st.container(key=f"{slug}-standing"):
            _status(run, seen, slug)
        _curves(run, seen, slug)
        _now(run, seen)
        _results(run, seen)
        if going and seen.status.final:
            st.rerun()

    part(standing, every=REFRESH if going else None)


def _status(run: Run, seen: RunView, slug: str) -> None:
    text, stop = st.columns([4, 1], vertical_alignment="center")
    with text:
        if seen.status is Status.QUEUED:
            turn(run, slug)
        else:
            st.markdown(_line(seen))
    if not seen.status.final:
        asked = run.asked_to_stop()
        stop.button(
            "Stopping…" if asked else "Stop",
            key=f"{slug}-stop",
            disabled=asked,
            width="stretch",
            on_click=ask_to_stop,
            args=(run.id,),
        )
    elif (kept := going_on.step_of(run)) is not None:
        stop.button(
            "Go on",
            key=f"{slug}-go-on",
            width="stretch",
            on_click=go_on,
            args=(run.id,),
            help=f"From step {kept} of {seen.steps}, as if it had not ended.",
        )
    if seen.status in (Status.FAILED, Status.LOST):
        st.error(plain(seen.message))


def _line(seen: RunView) -> str:
    """One sentence on where the run stands."""
    step = f"step {seen.step} of {seen.steps}" if seen.step else f"taking the first of {seen.steps} steps"
    speed = (
        f" · {seen.steps_per_second:.2g} steps/s · {seen.tokens_per_second:,.0f} tokens/s"
        if seen.steps_per_second and seen.tokens_per_second
        else ""
    )
    if seen.status is Status.STARTING:
        return f"**Starting** · {plain(seen.message or 'starting a process')}"
    if seen.status is Status.RUNNING:
        left = f" · {units.roughly(seen.eta)} left" if seen.eta else ""
        return f"**Training** · {step}{speed}{left}"
    if seen.status is Status.EVALUATING:
        return f"**Trained** · scoring the {seen.evaluating} model on what was held out · {seen.progress:.0%} done"
    if seen.status is Status.DONE:
        took = f"{seen.steps} steps in {units.seconds(seen.seconds)}"
        return f"**Done** · {took}{speed} {figures.badge(Source.MEASURED)}"
    if seen.status is Status.STOPPED:
        # The message is a sentence of its own: "Stopped after 3 of 60 steps; ..."
        return f"**Stopped** {plain(seen.message.removeprefix('Stopped').strip())}"
    return "**Failed**" if seen.status is Status.FAILED else "**Lost**"


def _curves(run: Run, seen: RunView, slug: str) -> None:
    if seen.status is Status.QUEUED:
        return
    steps = list(range(1, len(seen.losses) + 1))
    figure = charts.curves(
        {"loss": (steps, seen.losses)}, "optimizer step", "training loss (nats)", height=260, until=seen.steps
    )
    st.plotly_chart(figure, key=f"{slug}-loss", config=charts.CONFIG)


def _now(run: Run, seen: RunView) -> None:
    """While there is no final answer: what the model says now to a held-out row, beside what it said before."""
    found = trajectory_of(run) if not seen.probes_after else None
    if found is None or found.example is None or not found.answers:
        return
    figures.table(("", "One held-out row"), [("Input", found.example.text), *said(found.answers)])
    st.markdown(figures.badge(Source.MEASURED))


def said(answers: Sequence[Recorded]) -> list[tuple[str, str]]:
    """The first and the latest of a run's answers, each with its step: one that was not asked at the start, for lack of
    time, is not what the base says.

    >>> said([Recorded(3, "1.4", 0.0)])
    [('Now, step 3', '1.4')]
    """
    first, latest = answers[0], answers[-1]
    told = (
        [(f"{'Step' if first.step else 'Before, step'} {first.step}", first.text)] if first != latest else []
    )
    return [*told, (f"{'Now' if latest.step else 'Before'}, step {latest.step}", latest.text)]


def _results(run: Run, seen: RunView) -> None:
    rows = []
    if seen.after:
        task = run.spec.task_object()
        for name, after in seen.after.metrics.items():
            before = f"{seen.before.metrics[name]:.1%}" if seen.before else "…"
            marked = name.replace("_", " ") + (
                " (main score)" if name == task.metric and len(seen.after.metrics) > 1 else ""
            )
            rows.append((f"{marked}, {seen.after.rows:,} held-out {task.each}s", before, f"{after:.1%}"))
        rows.append(
            (
                "held-out loss (nats)",
                f"{seen.before.loss:.3f}" if seen.before else "…",
                f"{seen.after.loss:.3f}",
            )
        )
    if rows:
        figures.table(("Held out", "Base", "Tuned"), rows, numeric=(1, 2))
    if seen.probes_after:
        answers(list(seen.probes_before), list(seen.probes_after))
    if seen.memory.get("peak_bytes"):
        _memory(seen)


def answers(base: list[Answer], tuned: list[Answer]) -> None:
    """Both models' answers to the same sentences, one under the other so that they compare."""
    rows = []
    for index, after in enumerate(tuned):
        rows.append(("Input", after.text))
        rows.append(("Base", answer_text(base[index]) if index < len(base) else "…"))
        rows.append(("Tuned", answer_text(after)))
    figures.table(("", "A sentence"), rows)


def answer_text(answer: Answer) -> str:
    """What a model said: text, or the label with its probability."""
    if not answer.scores:
        return answer.answer or "(nothing)"
    return f"{answer.answer} ({answer.scores[answer.answer]:.0%})"


def _memory(seen: RunView) -> None:
    parts = sorted(seen.memory.get("parts", {}).items(), key=lambda item: -item[1])
    listed = " · ".join(f"{name} {units.size(size)}" for name, size in parts if size)
    process = seen.memory.get("process_peak_bytes")
    beside = f" The whole process peaked at {units.size(process)}." if process else ""
    reserved = seen.memory.get("device_reserved_bytes")
    if reserved:
        allocated = units.size(seen.memory["device_allocated_bytes"])
        beside += f" The GPU's allocator handed out at most {allocated} of the {units.size(reserved)} it had reserved."
    st.markdown(
        f"Peak of one step: **{units.size(seen.memory['peak_bytes'])}** ({listed}).{beside} "
        + figures.badge(Source.MEASURED)
    )


def beside_simulation(run: Run, heading: str = "") -> None:
    """The measured step of a finished run, simulated for the same batch without weights, and how far they are apart.

    Nothing, not even the ``heading``, for a run of an earlier version, which did not note its batch.
    """
    try:
        asked = simulated.ask_of_run(record.result(run))
        if asked is None:
            return
        st.markdown(heading)
        if is_open(asked):
            st.markdown("Simulating the measured step…")
            come_back([asked])
            return
        expected = asked.result()
    except PeftLabError as error:
        st.markdown(f"The measured step could not be simulated for comparison: {plain(error)}")
        return
    measured = run.view().memory["peak_bytes"]
    figures.table(
        ("Peak of one step", "Bytes", ""),
        [
            ("Measured", f"{measured:,}", ""),
            ("Simulated without weights", f"{expected:,}", f"{100 * (expected - measured) / measured:+.2f}%"),
        ],
        numeric=(1, 2),
    )
    st.markdown(
        f"{figures.badge(Source.MEASURED)} {figures.badge(Source.SIMULATED)} with the run's settings and a batch of "
        "the same size"
    )


def try_it(run: Run, slug: str) -> None:
    """Any further sentence, answered by both models."""
    with st.form(f"{slug}-ask", border=False):
        text = st.text_area(
            "Another sentence",
            value=state.remembered(slug, "another", ""),
            key=state.widget_key(slug, "another"),
            height=80,
            placeholder="Ask both models something else",
        )
        asked = st.form_submit_button("Ask both models")
    state.remember(slug, "another", text)
    if not asked:
        return
    try:
        with st.spinner("Both models are answering…"):
            pairs = respond.ask(run.id, [text])
    except PeftLabError as error:
        st.markdown(f":red[:material/error: {plain(error)}]")
        return
    answers([Answer(**row["base"]) for row in pairs], [Answer(**row["tuned"]) for row in pairs])
