"""Every page: each figure stands beside the badge of its source, and the badge tells the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab.core.units import Finding, Source
from peft_lab.runs import store
from peft_lab.studies.compare.shipped import all_shipped
from peft_lab.ui import pages
from peft_lab.ui.components import figures
from tests.conftest import link
from tests.studies.compare.conftest import FakeQueue
from tests.ui import test_pages
from tests.ui.badges import cards, sources, without_badge
from tests.ui.test_choose import opened

PAGES = [
    *(("compare", {"comparison": name}) for name in all_shipped()),
    ("choose", {}),
    ("choose", {"model": "llama-3.1-70b", "device": "a10"}),
    ("choose", {"model": "bert-base", "device": "t4", "rows": "500", "tasks": "5", "latency": "0"}),
    ("choose", {"prompting": "yes"}),
    ("ship", {}),
    ("atlas", {}),
    ("myths", {"claim": "prompt-minimal-memory"}),
    ("myths", {"claim": "leaf-few-shot"}),
    ("myths", {"claim": "ptuning-nlu"}),
    ("myths", {"claim": "lora-near-baseline"}),
    ("myths", {"claim": "nf4-better"}),
    ("myths", {"claim": "lora-share", "model": "qwen2.5-0.5b"}),
    *((name, {}) for name in ("home", "tour", "runs", "sweeps", "playground", "practice", "clinic", "teach", "write")),
]  # fmt: skip
WITHOUT_FIGURES = (
    "ship",
    "tour",
    "practice",
    "write",
    "teach",
    "runs",
    "sweeps",
    "playground",  # all of its figures are drawn in the browser, from a record
)  # in a home where nothing was done yet


@pytest.fixture
def untouched(own_home: Path, assets_home: object) -> Path:
    """A lab in which nothing was trained."""
    link(own_home)
    return own_home


def test_every_page_is_looked_at() -> None:
    """The methods' pages in test_pages.py and the Memory page in test_memory_page.py, where their tabs are opened;
    Plan, whose figures come one by one, in tests/advise/plans/test_page.py; the glossary's numbers are examples."""
    assert {page for page, _ in PAGES} == set(pages.titles()) - {
        *pages.method_pages(),
        "memory",
        "plan",
        "words",
    }


@pytest.mark.sampled(3)
@pytest.mark.weights
@pytest.mark.parametrize(
    ("page", "address"),
    PAGES,
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
def test_a_figure_stands_beside_the_badge_of_its_source(
    page: str, address: dict[str, str], untouched: Path
) -> None:
    app = opened(page, **address)
    if page == "myths" and address:
        next(button for button in app.button if button.label == "Show the verdict").click().run()
    seen, without = without_badge(app)
    if page == "home":  # a wide table of counts, cell by cell, under the one badge that they share
        assert {"counted"} <= sources(app)
        return
    assert not without
    assert seen or page in WITHOUT_FIGURES


@pytest.mark.weights
def test_what_a_run_measured_is_called_so_and_is_that_runs(untouched: Path) -> None:
    """A run with figures that nothing else has: they stand beside the measured badge, and only they."""
    from peft_lab.runs.spec import RunRequest

    spec = RunRequest("minilm-l6", "lora", "sentiment", steps=2, batch=4, seed=3, eval_rows=100).complete()
    identity = FakeQueue().submit(spec)
    measured = store.get(identity).view().memory["peak_bytes"]
    address = {"model": "minilm-l6", "task": "sentiment", "steps": "2", "batch": "4", "seed": "3"}
    found = cards(test_pages.opened("lora", **address, tab="inside", part="modules"))
    sure = {label: figure for label, (figure, source) in found.items() if source == "measured"}
    assert sure["Peak memory, one step"] == str(Finding(measured, "bytes", Source.MEASURED))
    assert {label for label, (_, source) in found.items() if source == "counted"} == {
        "Trainable parameters",
        "Stored adapter",
    }
    assert len(sure) == 2 and any(figure.endswith("83%") for figure in sure.values())


@pytest.mark.parametrize("source", Source)
def test_a_card_shows_the_source_of_its_finding(source: Source) -> None:
    from streamlit.testing.v1 import AppTest

    def one(name: str) -> None:
        from peft_lab.core.units import Finding, Source
        from peft_lab.ui.components import figures

        figures.card("Some figure", Finding(7, "parameters", Source(name)), "a note")

    app = AppTest.from_function(one, kwargs={"name": str(source)}).run()
    assert cards(app) == {"Some figure": ("7", str(source))}
    assert app.metric[0].proto.help.startswith(str(source).capitalize())
    assert figures.badge(source) in app.markdown[0].value
