"""Idea: what the method does, in one paragraph and one formula, with its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from peft_lab.core import units
from peft_lab.core.errors import PeftLabError
from peft_lab.core.field import read
from peft_lab.core.units import Finding, Source
from peft_lab.engine import published
from peft_lab.interview import since
from peft_lab.interview.bank import select
from peft_lab.interview.question import LEVELS, Question
from peft_lab.interview.since import Discovery, seen
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.counting.count import CountReport
from peft_lab.models.catalogue import readers_of_text
from peft_lab.models.shapes import ModelEntry
from peft_lab.runs import store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import RunSummary, Status
from peft_lab.studies import experiments
from peft_lab.studies.experiments import Experiment, ExperimentOutcome, PlannedRun, all_experiments
from peft_lab.ui import pages, state
from peft_lab.ui.components import charts, figures
from peft_lab.ui.components.frame import errors_boxed, part
from peft_lab.ui.components.knobs import Choice
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.drawing import ExpectedStep, peak
from peft_lab.ui.method.tabs import open_at
from peft_lab.ui.practice.answering import interviewer, model_answer, show_in_lab, shown_solution
from peft_lab.ui.practice.learner import SCOPE
from peft_lab.ui.runs.page import open_run
from peft_lab.ui.runs.shown import REFRESH, last_finished, short_id, stop, summaries, under_way


@dataclass(frozen=True)
class Words:
    """A page's own texts.

    Attributes:
        idea: Markdown, one or two short paragraphs; KaTeX between dollar signs.
        formula: KaTeX of the method's computation. A phone breaks it outside braces, or at ``allowbreak``.
        differs: where PEFT's implementation differs from the paper; Markdown list.
    """

    idea: str
    formula: str
    differs: str = ""


def idea(choice: Choice, words: Words) -> None:
    left, right = st.columns([3, 2], gap="large")
    paper = choice.spec.paper
    with left:
        with st.container(key="idea-formula"):
            st.latex(words.formula)
        with st.container(key="idea-text"):
            st.markdown(words.idea)
        source = f"{paper.authors} {paper.year}, [{paper.title}]({paper.url})"
        source += f", {paper.section}" if paper.section else ""
        st.markdown(f":small[{source}] {figures.badge(Source.CITED)}")
    with right:
        if words.differs:
            st.markdown("**In the library**")
            st.markdown(words.differs)


# ----------------------------------------
# The four figures under a page's title.


def headline(choice: Choice, report: CountReport | None, expected: ExpectedStep) -> None:
    """Draw trainable parameters, stored size, peak memory and the last run's score for these choices. During the page's
    run the figures refresh themselves, to show its measurements at once."""
    going = under_way(choice.spec.slug) is not None

    def tiles() -> None:
        still = under_way(choice.spec.slug) is not None
        _tiles(choice, report, expected, still)
        if going and not still:
            st.rerun()

    part(tiles, every=4 * REFRESH if going else None)


def _tiles(choice: Choice, report: CountReport | None, expected: ExpectedStep, going: bool) -> None:
    with st.container(key="headline"):
        cells = st.columns(4)
        waiting = "Counting…" if choice.valid else "Not available: one of the settings below does not work."
        with cells[0]:
            trained, share = None, ""
            if report is not None:
                of_all = f"Of {units.count(report.total)} in all."
                trained = Finding(report.trainable, "parameters", Source.COUNTED, of_all)
                share = f"{units.percent(report.percent)} of all"
            figures.card("Trainable parameters", trained, share, absent=waiting, word="parameter")
        with cells[1]:
            stored = Finding(report.stored_bytes, "bytes", Source.COUNTED) if report else None
            figures.card("Stored adapter", stored, "one safetensors file", absent=waiting, word="adapter")
        with cells[2]:
            found, note = peak(choice, expected)
            figures.card("Peak memory, one step", found, plain(note), absent=plain(note), word="peak memory")
        with cells[3]:
            # While a run goes on, an earlier one's score would pass for its own.
            _metric(choice, None if going else last_finished(choice), going)


def _metric(choice: Choice, last: RunSummary | None, going: bool) -> None:
    if last is None or last.after is None or last.before is None:
        figures.card("Before → after training", None, absent=_no_metric(choice, going))
        return
    finding = Finding(last.after, last.metric, Source.MEASURED, f"Run {short_id(last.id)}.")
    knobs, now, spec = choice.spec.knobs, choice.values, last.spec
    same = spec is not None and read(knobs, now) == read(knobs, {**now, **spec.values})
    note = f"{last.steps} steps{'' if same else ', **other settings**'}"
    figures.card(last.metric_title, finding, note, text=f"{last.before:.0%} → {last.after:.0%}")


def _no_metric(choice: Choice, going: bool) -> str:
    """Return why there is no score, and how to get one."""
    if not choice.entry.live:
        return "Only this model's shape is known, so it cannot be trained here."
    if choice.entry.lacking is not None:
        return "This model cannot be trained yet; the Train tab says what is missing."
    if choice.task is None:
        return "No training task is available for this model."
    if going:
        return "A run is under way; both scores appear when it ends."
    return "Press Train to measure both scores."


# ----------------------------------------
# Interview questions on the method of a page, asked about the model that is chosen there, each answer folded away.


def interview_questions(choice: Choice) -> None:
    """Draw one question per level, and a button to all of them."""
    st.markdown(f"#### Interview questions on {choice.spec.title}")
    if choice.entry.kind == "vision":
        st.caption("The questions are about models that read text, but this model reads images.")
    elif choice.entry.name not in readers_of_text():
        st.caption("None of the questions applies to this model.")
    with st.container(key="method-questions"):
        for question, model in chosen_questions(choice.spec, choice.entry):
            with st.container(border=True):
                _question(question, model)
    # It also sets the choice, as Practice may be open already.
    wanted = {"topic": choice.spec.slug}
    if choice.entry.name in readers_of_text():
        wanted["model"] = choice.entry.name
    if st.button(
        f"Practise {choice.spec.title}",
        icon=":material/arrow_forward:",
        key=f"practise-{choice.spec.slug}",
        help="All questions on this topic as flash cards, with a schedule.",
    ):
        for name, value in ({"level": "", "model": "", "tab": "cards"} | wanted).items():
            state.remember(SCOPE, name, value)
        state.renew(SCOPE)
        pages.go_to("practice", wanted)


def chosen_questions(spec: MethodSpec, entry: ModelEntry) -> list[tuple[Question, str | None]]:
    """Return one question of the method for each level that has any, with the model to ask it about.

    Questions computed for this model come first, then those that depend on no model, then those about another
    model. ``None`` means the question's own model; it also replaces models outside the catalogue, which would
    have to be read with torch.
    """
    name = entry.name if entry.name in readers_of_text() else None

    def fits(question: Question) -> bool:
        return name is not None and question.accepts(name)

    def rank(question: Question) -> int:
        if question.computed and fits(question):
            return 0
        return 1 if question.model is None else 2

    found = []
    for level in LEVELS:
        bank = select((spec.slug,), (level,))
        if bank:
            question = min(bank, key=rank)
            found.append((question, name if fits(question) else None))
    return found


def _question(question: Question, model: str | None) -> None:
    st.markdown(f":gray-badge[{question.level}] {question.ask(model)}")
    if question.kind == "choice":
        st.markdown("\n".join(f"- {option}" for option in question.choices(model)))
    with st.expander("Answer", icon=":material/visibility:"):
        answer, known = shown_solution(question, model)
        if not known:
            return
        model_answer(question, answer, model)
        interviewer(question, model)


# ----------------------------------------
# What changed since: what others found about the method after its paper, what follows, and one thing to see it by.


def what_changed(slug: str) -> None:
    """Draw every discovery about the method, the first one unfolded."""
    st.markdown(
        "These findings were published after the paper. You can check each finding here: in a small experiment, in "
        "published runs, or on another page."
    )
    for number, discovery in enumerate(since.of_method(slug)):
        with st.expander(f"**{discovery.title}**", expanded=number == 0, key=f"since-{discovery.id}"):
            st.markdown(f"{discovery.said} {figures.badge(Source.CITED)}")
            st.markdown(f"**For you:** {discovery.follows}")
            reference = plain(discovery.source)
            link = f"[{reference}]({discovery.address})" if discovery.address else reference
            read = f"{discovery.version}, read in {discovery.dated}" if discovery.dated else discovery.version
            st.markdown(f":small[{link}, {plain(discovery.place)} ({plain(read)})]")
            _shown(discovery, slug)


def _shown(discovery: Discovery, slug: str) -> None:
    """Draw the discovery's demonstration."""
    opens = discovery.opens
    if discovery.experiment:
        _experiment(discovery)
    elif discovery.rows:
        _rows(discovery.rows)
    elif opens is not None and opens.page == slug and set(opens.values) <= {"tab", "part"}:
        where = [str(value) for value in opens.values.values()]
        st.button(
            f"Open {where[-1].capitalize()}",
            icon=":material/science:",
            key=f"lab-{discovery.id}",
            on_click=open_at,
            args=(slug, *where),
        )
    else:
        show_in_lab(opens, discovery.id)


def _experiment(discovery: Discovery) -> None:
    """Draw the experiment's stored result, and the experiment itself."""
    experiment = next(each for each in all_experiments() if each.id == discovery.experiment)
    known = seen().get(experiment.id)
    if known is not None:
        contrary = discovery.expects is not None and known.holds is not discovery.expects
        doubt = " **This lab's small experiment does not show the finding.**" if contrary else ""
        st.markdown(f"**Seen here:** {plain(known.text)}{doubt} {figures.badge(Source.MEASURED)}")
        packages = ", ".join(f"{package} {version}" for package, version in known.packages.items())
        st.markdown(
            f":small[From runs of {plain(known.date)} on {plain(known.machine)}, with {plain(packages)}.]"
        )
    with st.expander(f"Run it here: {experiment.title}", icon=":material/play_arrow:"):
        experiment_card(experiment)


def _rows(names: tuple[str, ...]) -> None:
    rows = [published.rows()[name] for name in names]
    cells = [
        (row.title.replace("_", " "), f"{100 * row.accuracy:.1f}%", units.short_count(row.trainable),
         f"{row.learning_rate:g}")
        for row in rows
    ]  # fmt: skip
    figures.table(("Published run", "Right", "Trained", "Rate"), cells, numeric=(1, 2, 3), fold=True)
    benchmark = published.BENCHMARKS[published.METAMATH]
    st.markdown(
        f":small[{plain(benchmark.title)}: {plain(benchmark.trained_on)}. {plain(benchmark.source)}.] "
        f"{figures.badge(Source.CITED)}"
    )


# ----------------------------------------
# Try it: a method's experiments. One click queues the runs; the figures and what they say stand here afterwards.


PLACES = {"train": "Train", "inside": "Inside"}  # tabs by what the address calls them
LOOKS = 0.7  # seconds between looks at runs that are going


def try_it(experiments: Sequence[Experiment]) -> None:
    st.markdown(
        "Guess first, then run the experiment. One click trains each variant as an ordinary run. All other settings "
        "stay at their defaults. A finished run with the same settings is reused."
    )
    with st.container(key="experiments"):
        for number, experiment in enumerate(experiments):
            with st.container(border=True):
                st.markdown(f"#### {experiment.title}")
                experiment_card(experiment, first=number == 0)


def experiment_card(experiment: Experiment, first: bool = False) -> None:
    """Draw one experiment below its title: the question, its runs, and their results. ``first``: whether it has the
    page's main button."""
    st.markdown(experiment.question)
    try:
        complete = [request.complete() for request in experiment.requests()]
    except PeftLabError as error:
        st.markdown(f":orange[:material/info: This experiment cannot run here: {plain(error)}]")
        return
    specs = {arm.label: spec for arm, spec in zip(experiment.arms, complete, strict=True)}
    found = experiments.planned_runs(specs, summaries())
    going = any(item.under_way for item in found)

    def standing() -> None:
        now = experiments.planned_runs(specs, summaries())
        if any(item.line for item in now):
            _arms(experiment, now)
        else:  # the arms on one line, before any has run
            steps = sorted({item.spec.steps for item in now})
            length = f"{steps[0]} steps each" if len(steps) == 1 else f"{steps[0]} to {steps[-1]} steps"
            st.markdown(f":small[{' · '.join(item.label for item in now)} — {length}]")
        _button(experiment, now, first)
        if any(item.done for item in now) or going:
            _curves(experiment, now)
        if all(item.status in (Status.DONE, Status.FAILED) for item in now):
            _conclusion(experiment, now)
        if going and not any(item.under_way for item in now):
            st.rerun()

    part(standing, every=LOOKS if going else None)


def _arms(experiment: Experiment, found: Sequence[PlannedRun]) -> None:
    """Draw each arm with its progress or results."""
    outcomes = _outcomes(found)
    rows = []
    for item, outcome in zip(found, outcomes, strict=True):
        reading = experiments.read_results(experiment, item.label, outcome) if outcome else None
        shown = reading.values if reading else ()
        cells = [quantity.show(value) for quantity, value in zip(experiment.quantities, shown, strict=False)]
        cells += ["–"] * (len(experiment.quantities) - len(cells))
        rows.append((item.label, *cells, standing_of(item)))
    header = ("", *(quantity.title for quantity in experiment.quantities), "Run")
    figures.table(header, rows, numeric=range(1, len(header) - 1))


def standing_of(item: PlannedRun) -> str:
    """Return where a run stands that was planned, in a few words."""
    if item.line is None:
        return f"{get_method(item.spec.method).title}, {item.spec.steps} steps"
    if item.done:
        return f"done, {units.seconds(item.line.seconds or 0)}"
    if item.status is Status.QUEUED or not item.under_way:
        return f"{item.status}"
    seen = store.get(item.line.id).view()
    share = f"step {seen.step} of {seen.steps}" if seen.status is Status.RUNNING else f"{seen.progress:.0%}"
    return f"{seen.status}, {share}"


def _button(experiment: Experiment, found: Sequence[PlannedRun], first: bool) -> None:
    def stop_all() -> None:
        for item in found:
            if item.under_way and item.line:
                stop(item.line.id)

    missing = [item for item in found if item.line is None or item.status is Status.FAILED]
    if any(item.under_way for item in found):
        st.button("Stop", key=f"{experiment.id}-stop", icon=":material/stop:", on_click=stop_all)
    elif missing and st.button(
        f"Run it: {units.several(len(missing), 'short run')}", key=f"{experiment.id}-run",
        icon=":material/play_arrow:", type="primary" if first else "secondary",
    ):  # fmt: skip
        train(missing)


def train(missing: Sequence[PlannedRun]) -> None:
    """Queue runs and redraw the page, or draw why one of them was refused."""
    with errors_boxed():
        for item in missing:
            get_queue().submit(item.spec)
        st.rerun()


def _curves(experiment: Experiment, found: Sequence[PlannedRun]) -> None:
    series = {}
    for item in found:
        if item.line is not None and item.status is not Status.QUEUED:
            losses = store.get(item.line.id).view().losses
            if losses:
                series[item.label] = (list(range(1, len(losses) + 1)), losses)
    if series:
        steps = max(item.spec.steps for item in found)
        figure = charts.curves(series, "optimizer step", "training loss (nats)", height=260, until=steps)
        charts.draw(figure, f"{experiment.id}-curves")


def _conclusion(experiment: Experiment, found: Sequence[PlannedRun]) -> None:
    """Draw the result, the reason, and a button per run."""
    outcomes = _outcomes(found)
    readings = [
        experiments.read_results(experiment, item.label, outcome)
        if outcome
        else experiments.ArmReading(item.label, problem=item.line.problem if item.line else "it has not run")
        for item, outcome in zip(found, outcomes, strict=True)
    ]
    conclusion = experiments.conclude(experiment, readings, outcomes)
    icon = {True: ":green[:material/check:]", False: ":orange[:material/priority_high:]", None: ""}[
        conclusion.holds
    ]
    st.markdown(f"{icon} **{conclusion.text}** {figures.badge(Source.MEASURED)}")
    st.markdown(experiment.why)
    seeds = (
        ""
        if experiment.expect.reseeded
        else " Each variant ran with one seed; another seed may reverse a small difference."
    )
    st.caption(
        f"{experiment.source}.{seeds} Open a run to load its settings and to see {experiment.quantity.title} on its "
        f"page, under {PLACES[experiment.quantity.tab]}."
    )
    with st.container(horizontal=True):
        for item in found:
            if item.line and st.button(f"Open {item.label}", key=f"{experiment.id}-open-{item.label}"):
                open_run(item.line, experiment.quantity.tab)


def _outcomes(found: Sequence[PlannedRun]) -> list[ExperimentOutcome | None]:
    return [
        experiments.outcome_of(store.get(item.line.id)) if item.line and item.done else None for item in found
    ]
