"""Train: start a mini fine-tune, watch it live, stop it, and compare base with tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from peft_lab.core import palette, units
from peft_lab.core.errors import AssetError, BadInput, PeftLabError
from peft_lab.core.units import Source
from peft_lab.drawing.trajectory.format import asked_states, shipped_of
from peft_lab.methods import get_method
from peft_lab.runs import admission, checkpoints, record, respond, store
from peft_lab.runs.spec import RunSpec
from peft_lab.runs.store import Run
from peft_lab.runs.view import RunView, Status, scoring
from peft_lab.training.evaluation import ModelAnswer
from peft_lab.ui import state
from peft_lab.ui.components import charts, figures, own_data
from peft_lab.ui.components.charts import Bar, grown_bars
from peft_lab.ui.components.frame import error_line, errors_here, offer_fetch, part
from peft_lab.ui.components.knobs import OWN_TASK, Choice
from peft_lab.ui.components.waiting import come_back, look, shown
from peft_lab.ui.foreign import plain
from peft_lab.ui.method import settings
from peft_lab.ui.method.sample import card, recorded_sample, sample
from peft_lab.ui.method.settings import FIELDS, SAY, task_of, turn
from peft_lab.ui.runs.shown import (
    REFRESH,
    go_on,
    live_run,
    recorded,
    show_run,
    shown_run,
    stale,
    trajectory_of,
)
from peft_lab.ui.runs.shown import stop as ask_to_stop

# ----------------------------------------
# A run on screen: progress and curves while it goes, its results when it has ended, its answers beside the base's.


def live(run: Run, choice: Choice) -> None:
    """Draw the run, refreshed until it ends, then once more with the whole page."""
    slug = choice.spec.slug
    going = not run.view().status.final

    def standing() -> None:
        seen = run.view()
        with st.container(key=f"{slug}-standing"):
            _status(run, seen, choice)
        if seen.status is Status.QUEUED and not seen.losses:
            meanwhile(run.spec)
        sample(trajectory_of(run), run.spec, seen)
        if seen.losses or seen.status in (Status.STARTING, Status.RUNNING):
            loss_curve(seen.losses, slug, seen.steps, seen.steps if seen.status.final else seen.step)
        _results(run, seen)
        if going and seen.status.final:
            st.rerun()

    part(standing, every=REFRESH if going else None)


def _status(run: Run, seen: RunView, choice: Choice) -> None:
    slug = choice.spec.slug
    if seen.status in (Status.FAILED, Status.LOST):
        _failed(run, seen, choice)
        return
    text, stop = st.columns([4, 1], vertical_alignment="center")
    with text:
        if seen.status is Status.QUEUED:
            turn(run, slug)
        else:
            st.markdown(_line(seen))
    if seen.status.final:
        with stop:
            _go_on(run, seen, slug)
        return
    asked = run.asked_to_stop()
    stop.button(
        "Stopping…" if asked else "Stop",
        key=f"{slug}-stop",
        icon=":material/stop:",
        disabled=asked,
        width="stretch",
        on_click=ask_to_stop,
        args=(run.id,),
    )


def meanwhile(spec: RunSpec) -> None:
    """Draw a recorded run of the method while the learner's own waits: of the same model, or else of another."""
    with errors_here():
        found = shipped_of(spec.method, spec.model)
        if found is None:
            return
        losses = found.curve.loss
        st.markdown(
            f"**While you wait, a recorded run:** {plain(found.model.title)}, {units.several(len(losses), 'step')}, "
            f"{plain(found.label)} {figures.badge(Source.MEASURED)}"
        )
        if found.example is not None:
            card(found.example, found.answers, asked_states(len(losses)), len(losses))
        loss_curve(losses, f"{spec.method}-recorded", len(losses))


def _go_on(run: Run, seen: RunView, slug: str) -> None:
    """Draw the button that resumes an ended run, if it saved its state on the way."""
    saved = checkpoints.step_of(run)
    if saved is not None:
        st.button(
            "Continue",
            key=f"{slug}-go-on",
            width="stretch",
            on_click=go_on,
            args=(run.id,),
            help=f"Continues from step {saved} of {seen.steps}, with the same result as without the interruption.",
        )


def _failed(run: Run, seen: RunView, choice: Choice) -> None:
    """Draw what happened to a run, in the words that it ended with, and what would work."""
    slug, saved = choice.spec.slug, checkpoints.step_of(run)
    kept = "your settings are kept" if saved is None else f"step {saved} is saved"
    begun = f"after step {seen.step}; {kept}" if seen.step else "before the first step; nothing was lost"
    with st.container(border=True, key=f"{slug}-failed"):
        st.markdown(f":red-badge[:material/close: **{str(seen.status).title()}**] :small[{begun}]")
        st.markdown(f"#### {plain(seen.message)}")
        settings.would_work(choice, seen.works)
        _go_on(run, seen, slug)


def _line(seen: RunView) -> str:
    """Return one sentence on the state of a run that did not fail."""
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
        return f"**Trained** · {scoring(seen)}"
    if seen.status is Status.DONE:
        took = f"{seen.steps} steps in {units.seconds(seen.seconds)}"
        return f"**Done** · {took}{speed} {figures.badge(Source.MEASURED)}"
    # The message is a sentence of its own: "Stopped after 3 of 60 steps; ..."
    return f"**Stopped** {plain(seen.message.removeprefix('Stopped').strip())}"


def loss_curve(losses: Sequence[float], name: str, steps: int, reached: int | None = None) -> None:
    """Draw a run's loss by step; what is ``reached`` of its ``steps`` is all by default."""
    st.markdown("#### Loss: :small[how surprised the model is by the right answers]")
    figure = charts.curves(
        {"loss": (list(range(1, len(losses) + 1)), losses)}, "step", "nats", height=220, until=steps
    )
    if reached is not None and reached < steps:
        figure.add_vrect(
            reached, steps, fillcolor=palette.CHART_QUIET, opacity=0.1, line_width=0, layer="below",
            annotation={"text": "still to come"}, annotation_position="top",
        )  # fmt: skip
    charts.draw(figure, f"{name}-loss")


def _results(run: Run, seen: RunView) -> None:
    if seen.after:
        task, before = run.spec.task_object(), seen.before
        rows = []
        for name, after in seen.after.metrics.items():
            main = " (main score)" if name == task.metric and len(seen.after.metrics) > 1 else ""
            marked = f"{name.replace('_', ' ')}{main}, {seen.after.rows:,} held-out {task.each}s"
            rows.append((marked, f"{before.metrics[name]:.1%}" if before else "…", f"{after:.1%}"))
        first = f"{before.loss:.3f}" if before else "…"
        rows.append(("held-out loss (nats)", first, f"{seen.after.loss:.3f}"))
        figures.table(("Held out", "Base", "Tuned"), rows, numeric=(1, 2))
    if seen.probes_after:
        answers(seen.probes_before, seen.probes_after)
    if seen.memory.get("peak_bytes"):
        _memory(seen)


def answers(base: Sequence[ModelAnswer], tuned: Sequence[ModelAnswer]) -> None:
    """Draw both models' answers to the same sentences, one below the other."""
    rows = []
    for index, after in enumerate(tuned):
        rows.append(("Input", after.text))
        rows.append(("Base", answer_text(base[index]) if index < len(base) else "…"))
        rows.append(("Tuned", answer_text(after)))
    figures.table(("", "A sentence"), rows)


def answer_text(answer: ModelAnswer) -> str:
    """Return a model's answer: text, or the label with its probability."""
    if not answer.scores:
        return answer.answer or "(nothing)"
    return f"{answer.answer} ({answer.scores[answer.answer]:.0%})"


def _memory(seen: RunView) -> None:
    parts = sorted(seen.memory.get("parts", {}).items(), key=lambda item: -item[1])
    listed = " · ".join(f"{name} {units.size(size)}" for name, size in parts if size)
    process, reserved = (seen.memory.get(name) for name in ("process_peak_bytes", "device_reserved_bytes"))
    beside = f" The memory of the whole process peaked at {units.size(process)}." if process else ""
    if reserved:
        allocated = units.size(seen.memory["device_allocated_bytes"])
        beside += f" The GPU's allocator handed out at most {allocated} of the {units.size(reserved)} it had reserved."
    st.markdown(
        f"Peak of one step: **{units.size(seen.memory['peak_bytes'])}** ({listed}).{beside} "
        + figures.badge(Source.MEASURED)
    )


def beside_simulation(run: Run) -> None:
    """Draw a finished run's measured step beside its simulation, with the difference; nothing for a run of an earlier
    version, which did not record its batch."""

    def beside(expected: int) -> None:
        measured = run.view().memory["peak_bytes"]
        error = f"{100 * (expected - measured) / measured:+.2f}%"
        rows = [("Measured", f"{measured:,}", ""), ("Simulated without weights", f"{expected:,}", error)]
        figures.table(("Peak of one step", "Bytes", ""), rows, numeric=(1, 2))
        st.markdown(
            f"{figures.badge(Source.MEASURED)} {figures.badge(Source.SIMULATED)} The simulation uses the run's "
            "settings and a batch of the same size."
        )

    with errors_here():
        asked = admission.ask_of_run(record.result(run))
        if asked is not None:
            shown(asked, beside, "Simulating the measured step…", where=run.id)


def try_it(run: Run, slug: str) -> None:
    """Let both models answer another sentence."""
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
    with errors_here():
        with st.spinner("Both models are answering…"):
            pairs = respond.ask(run.id, [text])
        answers(*([ModelAnswer(**row[which]) for row in pairs] for which in ("base", "tuned")))


# ----------------------------------------
# The memory of a run's step three times: as it was simulated, as it was measured, and what full fine-tuning needs.


URGENCY = 2  # after the headline's own figure


def memory_beside(run: Run) -> None:
    """Draw the three bars; the measured one appears during the run."""
    spec = run.spec
    asked = {f"{get_method(spec.method).title}, simulated": settings.ask_run_step(spec, URGENCY)}
    if spec.method != settings.FULL:
        asked["Full fine-tuning, simulated"] = settings.ask_full_step(spec, URGENCY)
    st.markdown("##### Peak of one step")

    def bars() -> None:
        rows = []
        for label, future in asked.items():
            seen = look(future)
            parts, why = (
                ({}, plain(seen.why("Simulating…"))) if seen.answer is None else (seen.answer[0].parts, "")
            )
            rows.append(Bar(label, parts, Source.SIMULATED, why))
        measured = run.view().memory.get("parts", {})
        waiting = "" if measured else "Measured at one of the first steps."
        rows.insert(1, Bar("This run, measured", measured, Source.MEASURED, waiting))
        grown_bars(rows, key=f"{spec.method}-peaks")

    undrawn = [look(future) for future in asked.values()]
    part(bars, every=None if run.view().status.final else 4 * REFRESH)
    come_back(*undrawn)


def train(choice: Choice) -> None:
    problem = choice.entry.lacking
    if choice.task is None or problem is not None:
        st.info(plain(problem or f"PEFT Lab has no training task for {choice.entry.title}."))
        return
    lacking, task = st.container(), task_of(choice)
    run = shown_run(choice.spec.slug)
    if run is None:
        with st.container(key="first-run"):  # a phone shows the knobs before it
            recorded_sample(recorded(choice.spec.slug, choice.entry.name)[0], str(choice.task))
            _form(choice, locked=False)
            if task is not None:
                st.markdown(f"#### {plain(task.title)}\n\n{plain(task.description)}")
                st.markdown(f"**Measured by** {task.metric.replace('_', ' ')}: {task.metric_help}")
                st.caption(f"{task.source} · {task.license}")
    else:
        _of_run(choice, run)
    with lacking:  # drawn last: reading the sentences may have found them damaged
        offer_fetch({choice.entry.name, *((task.asset,) if task and task.asset else ())})


def _of_run(choice: Choice, run: Run) -> None:
    """Draw the page's run, and below it the next one's settings, open if one is invalid."""
    slug = choice.spec.slug
    under_way = live_run(slug) if run.view().status.final else None
    if under_way is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(":material/hourglass_top: Another run that you started here has not ended yet.")
            if st.button("Show it", key=f"{slug}-show-live", type="tertiary"):
                show_run(slug, under_way.id)
                st.rerun()
    changed = stale(choice, run)
    if changed:
        st.markdown(f":orange[:material/history: {changed}]")
    live(run, choice)
    memory_beside(run)
    if run.view().status is Status.DONE:
        took = settings.duration_beside(store.summary(run).kept)
        if took:
            st.markdown(took)
        beside_simulation(run)
        if choice.entry.kind != "vision":  # a picture cannot be typed
            try_it(run, slug)
    try:
        usable = _next(choice) is not None
    except PeftLabError:
        usable = False
    with st.expander("Settings of the next run", expanded=not usable):
        _form(choice, locked=not run.view().status.final)


def _next(choice: Choice) -> RunSpec | None:
    """Return the run that Train would start, checked; None as :func:`settings.asked`. Raises PeftLabError."""
    request = settings.asked(choice)
    return None if request is None else request.complete()


def _form(choice: Choice, locked: bool) -> None:
    """Draw the training settings, each with its errors below it."""
    controls = settings.TrainingControls(choice)
    noun = "image" if choice.entry.kind == "vision" else "row"
    cells = [cell for _ in range(0, len(FIELDS), 2) for cell in st.columns(2)]
    for cell, name in zip(cells, FIELDS, strict=False):
        how: dict[str, Any] = {"step": 1e-4, "format": "%g"} if name == "learning_rate" else {}
        controls.draw(name, cell, noun=noun, disabled=locked, **how)
    beneath = st.empty()
    if choice.entry.kind != "vision":
        text = st.text_area(
            "Your sentence",
            value=settings.sentence(choice),
            key=settings.sentence_key(choice),
            height=90,
            disabled=locked,
            help="The base and the tuned model both answer this sentence, so you see what was learned.",
        )
        state.remember(choice.spec.slug, SAY, text, str(choice.task))
    say = st.empty()
    path = own_data.upload(choice.entry.kind, locked) if choice.task == OWN_TASK else None
    if choice.task == OWN_TASK and path is None:
        return
    try:
        complete = _next(choice)
    except AssetError:  # said above the form, with a button
        return
    except PeftLabError as error:
        field = error.field if isinstance(error, BadInput) else None
        with say if field == "probes" else controls.at(field):
            error_line(str(error))
        return
    task = None if path is None or complete is None else complete.task_object()
    if path is not None and complete is not None and task is not None and (task.writes or task.per_token):
        own_data.tokens_of(complete.model, path, complete.max_length)
    if complete is not None and complete.head_learning_rate not in (None, complete.learning_rate):
        beneath.caption(  # over both columns
            f"The task head starts at random; its learning rate is {complete.head_learning_rate:g}."
        )
