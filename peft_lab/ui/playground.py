"""The playground: recorded runs over a grid of settings. The learner moves through them in the browser; the server is
asked only for how long a run would take here, and to open the page that trains it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import streamlit as st

from peft_lab.core import asking, units
from peft_lab.drawing.trajectory.sentence import ASKED, METHOD, MODEL, STEPS, TASK
from peft_lab.models.catalogue import get_model
from peft_lab.runs.forecast import predicts
from peft_lab.runs.offer import make_offer
from peft_lab.studies import playground as recorded
from peft_lab.studies.playground import DEFAULT_RATE, Playground, PlaygroundRun, Setting, shipped
from peft_lab.training.tasks import get_task
from peft_lab.ui import pages, web
from peft_lab.ui.components.block import record
from peft_lab.ui.components.frame import errors_here, open_afresh
from peft_lab.ui.components.sentence import mounted, row
from peft_lab.ui.components.waiting import come_back
from peft_lab.ui.method.settings import address_of_run, ask_work
from peft_lab.ui.runs.shown import summaries

_mount = mounted("playground")
OPENS = Setting(8, 16, DEFAULT_RATE)
TARGETS = {recorded.SOME: "q and v", recorded.ALL: "all linear maps"}
SEEN = 1e-3  # of the peak: a smaller part is left out
_PARTS = {
    "weights": ("weights", "quantisation"),
    "activations": ("activations", "logits"),
    "LoRA": ("adapter", "gradients", "optimizer"),
    "other": ("temporary",),
}
#: In the page that the browser loads (:mod:`peft_lab.ui.shell.dress`).
PLAYGROUND_CSS = web.read("playground_page.css")


def playground_page() -> None:
    pages.open_page()
    with st.container(key="playground-words", horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.title("Playground", width="content")
        st.markdown(
            "Move a slider: the page jumps to the nearest recorded run. Every line is a real training run."
        )
    with errors_here(), st.container(key="playground-view", gap=None):
        runs = shipped()
        data = sent(runs)
        record(data, "playground-record")
        opened = _mount(
            key="playground",
            data=[{"record": data["id"], "durations": durations(runs)}],
            on_open_change=lambda: None,
        ).open
        if isinstance(opened, int) and 0 <= opened < len(runs.runs):
            open_afresh(METHOD, query(runs.runs[opened]))


def query(run: PlaygroundRun) -> dict[str, str]:
    """Return the URL parameters with which the method's page trains the run again."""
    return address_of_run(run.setting.request)


def durations(runs: Playground) -> list[str]:
    """Return how long a run of each cost takes here, in words; empty where it is unknown or not known yet."""
    requests = [Setting(rank, rank, DEFAULT_RATE, targets).request for rank, targets in costs(runs)]
    looks = [ask_work(request if predicts(get_model(MODEL).kind, TASK) else None) for request in requests]
    come_back(*looks)
    past = summaries()
    return [
        make_offer(request, look.answer, past).duration if look.answer is not None else ""
        for request, look in zip(requests, looks, strict=True)
    ]


def costs(runs: Playground) -> dict[tuple[int, tuple[str, ...]], PlaygroundRun]:
    """Return a run for each rank and targets: neither α nor the rate changes what a run trains, takes or lasts."""
    return {(run.rank, run.targets): run for run in runs.runs}


def sent(runs: Playground) -> dict[str, Any]:
    """Return the runs as plain data for ``web/playground.js``; equal answers and costs stand in it once."""
    texts = [runs.base, *(text for run in runs.runs for text in run.answers)]
    answers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    kinds = list(costs(runs))
    targets = list(TARGETS)
    last = max(run.recorded for run in runs.runs)
    title, where = get_model(MODEL).title, runs.machine["processor"]
    rows = f"{runs.spec['batch']} rows"  # Home's run has fewer: its loss and memory differ
    return {
        "id": f"playground-{last}",
        "steps": STEPS,
        "asked": ASKED,
        "blocks": len(runs.runs[0].moved[0]),
        "unit": recorded.UNIT,
        "leading": recorded.LEADING,
        "slots": runs.slots,
        "order": runs.order.partition("\n")[0],
        "what": f"{title.partition('-')[0]} · {get_task(TASK).title} · {rows} a step",
        "again": f"The same settings and seed, trained on {asking.here()}.",
        "about": f"Measured in real runs of {STEPS} steps of {rows}, the last recorded on {last[:10]}, {where}.",
        "targets": list(TARGETS.values()),
        "rows": [row(text, runs.right) for text in answers],
        "costs": [_cost(run) for run in costs(runs).values()],
        "opens": next(number for number, run in enumerate(runs.runs) if run.setting == OPENS),
        "runs": [
            {
                "rank": run.rank,
                "alpha": run.alpha,
                "ratio": run.alpha / run.rank,
                "rate": run.rate,
                "targets": targets.index(run.targets),
                "seed": run.seed,
                "cost": kinds.index((run.rank, run.targets)),
                "loss": run.loss,
                "moved": run.moved,
                **_strengths(run),
                "answers": [answers[text] for text in (runs.base, *run.answers)],
                "query": f"{METHOD}?{urlencode(query(run))}",
            }
            for run in runs.runs
        ],
    }


def _strengths(run: PlaygroundRun) -> dict[str, Any]:
    """Return the largest singular value of the run, and all in thousandths of it."""
    top = max(value for series in run.spectrum for values in series for value in values)
    return {
        "top": top,
        "spectrum": [
            [[round(1000 * value / top) for value in values] for values in series] for series in run.spectrum
        ],
    }


def _cost(run: PlaygroundRun) -> dict[str, Any]:
    parts = {name: sum(run.memory.get(part, 0) for part in those) for name, those in _PARTS.items()}
    peak = sum(parts.values())
    return {
        "trained": units.count(run.trained),
        "peak": units.size(peak),
        "parts": [[name, size, units.size(size)] for name, size in parts.items() if size >= peak * SEEN],
    }
