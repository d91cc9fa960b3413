"""How the published steps were timed (the PEFT library's method comparison, MetaMathQA), as steps to trace.

5,000 steps of 4 rows on an L40S; rows are sorted by length within every 20 batches and padded to the longest of their
batch, so a batch is hardly padded (``run.py`` and ``utils.py`` of the comparison). How long each batch was is not
published. Three facts are: the rows' mean of 209.9 tokens, that texts were cut at 1,300 characters, and that 93.8% were
shorter. With lengths that are spread log-normally, by one half as the cut suggests, the padded length of a batch has a
mean of 217 and a deviation of 90 tokens; its first five moments are those of three lengths (Gauss's quadrature), which
are traced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from peft_lab import published
from peft_lab.errors import UnknownName
from peft_lab.memory import protocol, simulate
from peft_lab.memory.request import ConfigRequest
from peft_lab.memory.running import Stage
from peft_lab.memory.work import Work

#: Tokens of a padded batch's rows, and how often each comes.
LENGTHS, WEIGHTS = (120, 239, 397), (0.367, 0.495, 0.138)
#: A step before, in which the optimizer makes its states.
FIRST = 100
#: What the comparison's own row of LoRA-FA is trained with.
LORA_FA = "lora-fa"


def trace(
    model: str, config: Mapping[str, Any] | None, batch: int, optimizer: str = "AdamW"
) -> tuple[Work, ...]:
    """What a step of one row of the comparison does, at each of :data:`LENGTHS`. Imports torch.

    Args:
        config: of the adapter; ``None`` for full fine-tuning. optimizer: ``lora-fa``, or any other for AdamW.

    Raises:
        BadInput, SimulationError: as :func:`peft_lab.memory.simulate.simulate_config`.
    """

    def schedule(stage: Stage) -> None:
        model = stage.subject.model
        model.train()
        if optimizer == LORA_FA:
            stage.optimizer = _lora_fa(model, config or {})
        for length in (FIRST, *LENGTHS):
            stage.train(length)
            _allocate(stage)

    setting = replace(protocol.SETTING, batch=batch)
    found = simulate.simulate_config(ConfigRequest(model, config, setting), schedule)
    return found.work[-len(LENGTHS) :]


def traced(experiment: str) -> tuple[Work, ...]:
    """The same for a published row. Raises UnknownName where there is no such row."""
    rows = published.rows()
    if experiment not in rows:
        raise UnknownName("published row", experiment, rows, "experiment")
    row = rows[experiment]
    return trace(published.MODEL, row.config, row.batch, row.optimizer)


def _lora_fa(model: Any, config: Mapping[str, Any]) -> Any:
    from peft.optimizers import create_lorafa_optimizer

    return create_lorafa_optimizer(model, r=config["r"], lora_alpha=config["lora_alpha"], lr=1e-4)


def _allocate(stage: Stage) -> None:
    """AdaLoRA notes after every step how much each parameter matters; its ranks are left as they are, since which to
    cut depends on values."""
    base: Any = getattr(stage.subject.model, "base_model", None)
    allocator = getattr(base, "rankallocator", None)
    if allocator is None:
        return
    stage.recorder.enter("optimizer")
    allocator.update_ipt(stage.subject.model)
    stage.recorder.enter("idle")
