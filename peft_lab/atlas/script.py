"""Write the page's short run as a file: plain torch, transformers and PEFT, and the functions that ran."""

from __future__ import annotations

from peft_lab.atlas import attach, live, rows
from peft_lab.atlas.base import AtlasType
from peft_lab.core.errors import Unsupported
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.catalogue import get_model
from peft_lab.takeaway.files import asset_context
from peft_lab.takeaway.generator import as_script, fill
from peft_lab.training.tasks import get_task

KIND = "causal"
#: Types that mix adapters which must be trained first.
MIXING = ("xlora", "arrow")


def refusal(entry: AtlasType) -> str:
    """Return why there is no script, as a sentence; empty if there is one."""
    if entry.name in MIXING:
        return f"{entry.title} mixes trained adapters. Here it mixes untrained ones, so there is no script."
    return ""


def script(entry: AtlasType) -> str:
    """Return the file, which prints the losses of the run on the live decoder. Raises Unsupported with the reason
    of :func:`refusal`, BadInput if the decoder has none of the matrices that the type adapts."""
    reason = refusal(entry)
    if reason:
        raise Unsupported(reason, "type")
    model, row = get_model(live.LIVE[KIND]), get_task(live.TASKS[KIND]).load().train[0]
    versions = {name: number.partition("+")[0] for name, number in rows.probed_versions().items()}
    text = fill(
        "atlas.py.j2",
        entry=entry,
        title=model.title,
        config=entry.config(model.shape),
        start=attach.start_of(entry),
        learn=live.learn,
        tasked=entry.type in attach.TASKED,
        text=f"{row.text}{row.target}",
        longest=live.SIZES[KIND][1],
        steps=live.SHOWN,
        seed=live.SEED,
        requirements=[f"{name}=={versions[name]}" for name in ("torch", "transformers", "peft")],
        **asset_context(ASSETS[live.LIVE[KIND]]),
    )
    return as_script(text)
