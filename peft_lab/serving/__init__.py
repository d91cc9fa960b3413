"""Three domains served from one base: who answers what how well, how fast one switches, and mixed batches.

The same for bottleneck adapters (ours: a name for each row of the batch) and for LoRA (PEFT's ``adapter_names``). What
needs torch, :func:`peft_lab.serving.measure.measure`, is asked through the inspector ``answers``.
"""

from __future__ import annotations

from peft_lab.runs.spec import RunSpec

DOMAINS = {"movies": "sentiment", "products": "products", "tweets": "tweets"}
METHODS = ("adapters", "lora")
MODEL = "minilm-l6"
STEPS = 60
SCORED = 300  # held-out rows of each domain


def specs(method: str) -> dict[str, RunSpec]:
    """The three runs of a method, by domain. Raises what :meth:`RunSpec.check` raises."""
    return {
        domain: RunSpec(MODEL, method, task, steps=STEPS, eval_rows=SCORED).check()
        for domain, task in DOMAINS.items()
    }
