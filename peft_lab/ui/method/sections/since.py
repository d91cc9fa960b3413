"""What changed since: what others found about the method after its paper, what follows, and one thing to see it by."""

from __future__ import annotations

import streamlit as st

from peft_lab import published, since, units
from peft_lab.experiments import all_experiments
from peft_lab.since.base import Discovery
from peft_lab.since.seen import seen
from peft_lab.ui.components import figures
from peft_lab.ui.components.tabs import show_tab
from peft_lab.ui.foreign import plain
from peft_lab.ui.method.sections.try_it import experiment_card
from peft_lab.ui.practice.following import show_in_lab
from peft_lab.units import Source


def what_changed(slug: str) -> None:
    """Every discovery about the method, each in a frame."""
    st.markdown(
        "What others found after the paper, each with one thing to see it by: an experiment at this lab's size, "
        "published runs, or another page."
    )
    for discovery in since.of_method(slug):
        with st.container(border=True, key=f"since-{discovery.id}"):
            _told(discovery)
            _shown(discovery, slug)


def _told(discovery: Discovery) -> None:
    st.markdown(f"#### {discovery.title}")
    st.markdown(f"{discovery.said} {figures.badge(Source.CITED)}")
    st.markdown(f"**For you:** {discovery.follows}")
    reference = plain(discovery.source)
    link = f"[{reference}]({discovery.address})" if discovery.address else reference
    read = f"{discovery.version}, read in {discovery.dated}" if discovery.dated else discovery.version
    st.markdown(f":small[{link}, {plain(discovery.place)} ({plain(read)})]")


def _shown(discovery: Discovery, slug: str) -> None:
    """The one thing to see it by."""
    if discovery.experiment:
        _experiment(discovery)
    elif discovery.rows:
        _rows(discovery.rows)
    elif (
        discovery.opens is not None
        and discovery.opens.page == slug
        and set(discovery.opens.values) == {"tab"}
    ):
        title = str(discovery.opens.values["tab"]).capitalize()
        st.button(
            f"Open {title}",
            icon=":material/science:",
            key=f"lab-{discovery.id}",
            on_click=show_tab,
            args=(slug, title),
        )
    else:
        show_in_lab(discovery.opens, discovery.id)


def _experiment(discovery: Discovery) -> None:
    """What it showed when it was run for the lab, and the experiment itself to run."""
    experiment = next(each for each in all_experiments() if each.id == discovery.experiment)
    known = seen().get(experiment.id)
    if known is not None:
        contrary = discovery.expects is not None and known.holds is not discovery.expects
        doubt = " **At this lab's size the finding does not show.**" if contrary else ""
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
