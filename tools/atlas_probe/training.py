"""The cells that train: twenty steps on a live encoder, a live decoder's first layers, and a tiny T5."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from peft_lab.atlas.base import AtlasType
from peft_lab.atlas.live import LIVE, STEPS, ShortRun, rows_for, short_run, train_live
from tools.atlas_probe import tiny
from tools.atlas_probe.held import No

LAYERS = 4  # of the live decoder


@cache
def _start(kind: str) -> Any:
    """A live model and rows, loaded once a process; of the decoder the first layers, which is what time allows."""
    return rows_for(LIVE[kind], LAYERS if kind == "causal" else None)


def _trains(entry: AtlasType, kind: str) -> dict[str, float]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = train_live(entry.name, kind, start=_start(kind))
    if not run.fell:
        raise No(_did_not_fall(run, said))
    return {"before": run.before, "after": run.after, "rate": run.rate}


def _did_not_fall(run: ShortRun, said: Sequence[warnings.WarningMessage] = ()) -> str:
    """With what PEFT itself says of the task, where it does."""
    words = (
        f"In {len(run.steps)} steps the loss did not fall: {run.before:.4g} before, {run.after:.4g} after."
    )
    told = next((str(each.message) for each in said if "only supported for" in str(each.message)), "")
    return f"{words} {told}".strip()


def trains_causal(entry: AtlasType) -> dict[str, float]:
    return _trains(entry, "causal")


def trains_encoder(entry: AtlasType) -> dict[str, float]:
    return _trains(entry, "encoder")


def trains_seq2seq(entry: AtlasType) -> dict[str, float]:
    run = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        # So small a model with random weights jumps where a trained one does not: a hundredth is tried as well.
        for rate in (entry.rate, entry.rate * 10, entry.rate / 10, entry.rate / 100):
            model, shape = tiny.build("t5")
            run = short_run(model, entry, shape, "SEQ_2_SEQ_LM", tiny.batch(), rate, STEPS)
            if run.fell:
                return {"before": run.before, "after": run.after, "rate": run.rate}
    assert run is not None
    raise No(_did_not_fall(run, said))
