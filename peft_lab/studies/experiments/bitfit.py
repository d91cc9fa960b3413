"""BitFit: its learning rate, and the paper's two kinds of bias against all."""

from __future__ import annotations

from functools import partial

from peft_lab.studies.experiments.base import LOSS, METRIC, STORED, TRAINED, Arm, Expectation, Experiment

_here = partial(Experiment, method="bitfit", model="minilm-l6", task="sentiment")

EXPERIMENTS = (
    _here(
        id="bitfit-learning-rate",
        title="Full fine-tuning's learning rate",
        question="Full fine-tuning likes 1e-5. Do biases learn at that rate?",
        why="A bias can only shift, so it has to shift far; at 1e-5 sixty steps move it by less than a "
        "thousandth. The head has the same rate in all variants, so any difference comes from the biases.",
        arms=tuple(
            Arm(name, learning_rate=rate, settings={"head_learning_rate": 1e-2})
            for name, rate in (("1e-5", 1e-5), ("1e-3", 1e-3), ("1e-2", 1e-2))
        ),
        quantities=(METRIC, LOSS),
        expect=Expectation("1e-5", "below", "1e-2"),
        source="Ben Zaken et al. 2021, arXiv 2106.10199: rates from 1e-4 to 1e-3, far above full fine-tuning's",
    ),
    _here(
        id="bitfit-subset",
        title="Two kinds of bias against all",
        question="The paper's smaller choice is the query's bias and that of the widening map. What do the others add?",
        why="The paper found that these two move most and do almost as well alone. Look inside shows how far each kind "
        "moved here, and what it is worth.",
        arms=(Arm("all"), Arm("query_mlp", {"subset": "query_mlp"})),
        quantities=(METRIC, LOSS, TRAINED, STORED),
        expect=Expectation("query_mlp", "near", "all"),
        source="Ben Zaken et al. 2021, arXiv 2106.10199",
    ),
)
