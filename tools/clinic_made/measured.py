"""How much of a fault there is in a run: a figure that its fix has to bring down.

Every figure is a share: of the loss that stays, of what a loaded adapter is away from the trained one, of labels that
should not be there. ``TROUBLE[fault](setup, folder)`` makes the fault's case with the fix that the setup carries.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from peft_lab.takeaway.ship.adapter import WEIGHTS, read_tensors
from tools.clinic_made import in_use
from tools.clinic_made.faults import SPOILS
from tools.clinic_made.runs import Ran
from tools.clinic_made.setup import TINY, Setup, base_of, collator, rows_of

ALIKE = 0.01  # of the spread of an embedding's entries
Trouble = partial[float]  # of a setup and a folder


def made(fault: str, setup: Setup, folder: Path) -> Ran:
    return SPOILS[fault](setup, random.Random(7), folder)


def unlearned(fault: str, setup: Setup, folder: Path) -> float:
    """Share of the first losses that is still there at the end; 1 for a run that failed or lost its numbers."""
    losses = [row["loss"] for row in made(fault, setup, folder).rows if "loss" in row]
    if not losses or not all(math.isfinite(loss) and loss > 0 for loss in losses):
        return 1.0
    return fmean(losses[-4:]) / fmean(losses[:2])


def too_large(fault: str, setup: Setup, folder: Path) -> float:
    """The first training loss over that of the base on held-out rows, less one."""
    ran = made(fault, setup, folder)
    fresh = replace(ran, model=base_of(setup).model)
    return float(ran.rows[0]["loss"]) / in_use.loss_of(fresh, fresh.model) - 1


def untargeted(fault: str, setup: Setup, folder: Path) -> float:
    """Share of the targets that nothing was put on."""
    named = made(fault, setup, folder).model.peft_config["default"].target_modules
    tensors = read_tensors(WEIGHTS, (folder / WEIGHTS).read_bytes())
    return sum(not any(f".{target}." in name for name in tensors) for target in named) / len(named)


def mislabelled(fault: str, setup: Setup, folder: Path) -> float:
    """Share of a batch's tokens whose label is not that of an answer, or is missing in one."""
    ran = made(fault, setup, folder)
    rows = rows_of(ran.setup, ran.base)[:8]
    labels = collator(ran.setup, ran.base)(rows)["labels"]
    wrong, of = 0, 0
    for kept, row in zip(labels.tolist(), (each["row"] for each in rows), strict=True):
        wanted = [-100] * row.prompt + list(row.ids[row.prompt :])
        wrong += sum(one != other for one, other in zip(kept, wanted, strict=False))
        of += len(wanted)
    return wrong / of


def _distance(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def logits_of(ran: Ran, model: Any) -> Any:
    import torch

    batch = collator(ran.setup, ran.base)(rows_of(ran.setup, ran.base, held_out=True))
    batch.pop("labels")
    with torch.no_grad():
        return model.eval()(**batch).logits


def another_base(setup: Setup) -> Any:
    """The published base as somebody else loads it, with a random head of theirs."""
    base = base_of(replace(setup, seed=setup.seed + 1)).model
    if setup.before is not None:
        setup.before(base)
    return base


def not_loaded(fault: str, setup: Setup, folder: Path) -> float:
    """How far a model that is loaded from the folder is from the trained one, as a share of how far the base is."""
    return _loaded(made(fault, setup, folder))[0]


def _loaded(ran: Ran) -> tuple[float, Any]:
    from peft import PeftModel

    wanted = logits_of(ran, ran.model)
    try:
        loaded = PeftModel.from_pretrained(another_base(ran.setup), str(ran.folder))
    except (RuntimeError, KeyError):
        return 1.0, None
    base = another_base(ran.setup)
    return _distance(logits_of(ran, loaded), wanted) / _distance(logits_of(ran, base), wanted), loaded


def unknown_words(fault: str, setup: Setup, folder: Path) -> float:
    """:func:`not_loaded`; 1 where all new tokens still have the one embedding that resizing gives them."""
    import torch

    ran = made(fault, setup, folder)
    found, loaded = _loaded(ran)
    new: Any = ran.base.tokenizer.convert_tokens_to_ids(list(ran.setup.tokens))
    rows = loaded.get_input_embeddings()(torch.tensor(new))
    alike = _distance(rows, rows[:1]) < ALIKE * float(rows.std())
    return 1.0 if alike else found


def misused(fault: str, setup: Setup, folder: Path) -> float:
    """The same of what the case made of the folder or the model: loaded, merged; 1 where that failed."""
    ran = made(fault, setup, folder)
    if ran.used is None:
        return 1.0
    wanted = logits_of(ran, ran.model)
    return _distance(logits_of(ran, ran.used), wanted) / _distance(
        logits_of(ran, base_of(setup).model), wanted
    )


def elsewhere(fault: str, setup: Setup, folder: Path) -> float:
    """As :func:`misused`, the base being a folder that the adapter's config names."""
    published: Any = base_of(setup).model
    published.save_pretrained(folder / "base")
    return misused(fault, replace(setup, named=str(folder / "base")), folder)


def padded(fault: str, setup: Setup, folder: Path) -> float:
    """How far the first logits of a prompt in a batch are from those of the same prompt alone."""
    alone, together = made(fault, setup, folder).used
    return _distance(alone, together) / float(alone.abs().max())


_OF: dict[Callable[[str, Setup, Path], float], tuple[str, ...]] = {
    unlearned: (
        "rate-too-high", "rate-too-low", "rate-stays-zero", "warm-up-too-long", "fp16-weights", "fp16-unscale",
        "dtype-mismatch", "checkpointing-no-grad", "frozen-after-wrapping", "loaded-frozen",
        "optimizer-without-adapter", "alpha-zero", "target-misspelt",
    ),
    too_large: ("accumulation-not-averaged",),
    untargeted: ("target-partly-misspelt",),
    mislabelled: ("pad-is-eos", "prompt-not-masked", "all-masked"),
    not_loaded: (
        "head-not-saved", "never-trained", "compiled-keys", "base-changed", "wrapped-twice",
    ),
    unknown_words: ("vocabulary-not-saved",),
    misused: ("fresh-then-loaded", "tied-head-merged", "merged-into-4-bit"),
    elsewhere: ("wrong-base",),
    padded: ("right-padding",),
    in_use.trouble: ("adapter-disabled", "left-in-training-mode", "prefix-ignored", "template-mismatch"),
}  # fmt: skip
TROUBLE: dict[str, Trouble] = {
    fault: partial(measure, fault) for measure, faults in _OF.items() for fault in faults
}
#: Faults whose case is MiniLM's, folded to two layers; the others are the small writer's.
ON_ENCODER = ("head-not-saved", "vocabulary-not-saved")


def setup_of(fault: str) -> Setup:
    """A short healthy run for the case; long enough to learn where learning is what is measured."""
    if fault in ON_ENCODER:
        return Setup(rate=5e-3, steps=6, batch=4, layers=2)
    steps = {unlearned: 20, too_large: 2}.get(TROUBLE[fault].func, 6)
    if fault == "prefix-ignored":
        steps = 20  # until it changes which token is likeliest
    setup = Setup(model=TINY, task="json", targets=("q_proj", "v_proj"), rate=5e-3, steps=steps, batch=4)
    return in_use.prepared(fault, setup)
