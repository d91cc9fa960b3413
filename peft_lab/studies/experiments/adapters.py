"""Adapters: what width, place and start do within a minute of training."""

from __future__ import annotations

from functools import partial

from peft_lab.studies.experiments.base import (
    LOSS,
    METRIC,
    PEAK,
    STORED,
    TRAINED,
    Arm,
    Expectation,
    Experiment,
)

_here = partial(Experiment, method="adapters", model="minilm-l6", task="sentiment")

EXPERIMENTS = (
    _here(
        id="adapters-bottleneck",
        title="Bottleneck 4 against 256",
        question="Sixty-four times the width, the same sixty steps: how much better does the model get?",
        why="The paper found scores that hardly move between widths of 8 and 256, so the width is mostly a choice of "
        "size. A few hidden units already reach every feature of the layer.",
        arms=tuple(Arm(f"width {width}", {"bottleneck": width}) for width in (4, 32, 256)),
        quantities=(METRIC, LOSS, TRAINED, STORED),
        expect=Expectation("width 256", "near", "width 4"),
        source="Houlsby et al. 2019, arXiv 1902.00751, section 3.6",
    ),
    _here(
        id="adapters-start",
        title="A start that is no near-identity",
        question="Adapters start tiny, with a standard deviation of 0.001. What if it is 1?",
        why="A start near the identity hands every layer the inputs it was pretrained on. Large random adapters bury "
        "them in noise at once, and sixty steps have to undo that before anything is learnt.",
        arms=(
            Arm("deviation 0.001", {"init_std": 1e-3}),
            Arm("deviation 0.01", {"init_std": 1e-2}),
            Arm("deviation 1", {"init_std": 1.0}),
        ),
        quantities=(METRIC, LOSS),
        expect=Expectation("deviation 1", "below", "deviation 0.001"),
        source="Houlsby et al. 2019, arXiv 1902.00751, section 3.6: scores fall for deviations above 0.01",
    ),
    _here(
        id="adapters-placement",
        title="Two per layer, one per layer, or beside it",
        question="Pfeiffer's adapters are half of Houlsby's. Do they cost accuracy?",
        why="One adapter after the feed-forward part carries most of what two do, at half the parameters and half the "
        "extra work for each token. The parallel one is as small and reads the feed-forward part's input instead.",
        arms=tuple(Arm(place, {"placement": place}) for place in ("houlsby", "pfeiffer", "parallel")),
        quantities=(METRIC, LOSS, TRAINED, PEAK),
        expect=Expectation("pfeiffer", "near", "houlsby"),
        source="Pfeiffer et al. 2020, arXiv 2005.00247, table 1; He et al. 2021, arXiv 2110.04366, section 4.3",
    ),
)
