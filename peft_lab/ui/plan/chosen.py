"""One plan in full: figures, bottleneck, recipe and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import streamlit as st

from peft_lab.advise.plan import told_by
from peft_lab.advise.plans import nearest as nowhere
from peft_lab.advise.plans import ranking
from peft_lab.advise.plans.configs import ABOUT, Written, write
from peft_lab.advise.plans.ranking import AWAY, KEPT, MOMENT_KINDS, Drawn, Planned
from peft_lab.advise.plans.steps import MEANS, ORDER, loading, told_adapters, uncounted, unmeasured
from peft_lab.advise.plans.wanted import Wanted
from peft_lab.core import units
from peft_lab.core.inspector import get_pool
from peft_lab.core.units import band, label, written_figure
from peft_lab.methods import get_method
from peft_lab.ui.components import figures
from peft_lab.ui.components.waiting import shown
from peft_lab.ui.foreign import plain


def method_title(slug: str) -> str:
    return get_method(slug).title


def notes(wanted: Wanted) -> None:
    """Draw the order of the plans, and what their figures do not include."""
    st.caption(ORDER)
    situation = wanted.situation()
    if unsure := unmeasured(situation.shape, wanted.gpu):
        st.caption(unsure)
    if beside := uncounted(situation):
        st.caption(beside)
    if not (wanted.precision or wanted.adapter_dtype):
        st.caption(f"{told_adapters(wanted.gpu)} {figures.badge('cited')}")


def refused_plans(found: Sequence[Planned]) -> None:
    """Draw the plans that do not work, with the reasons."""
    reasons = ranking.refusing(found)
    if reasons:
        with st.expander("What does not fit, and why"):
            st.markdown(figures.badge("simulated"))
            st.markdown("\n".join(f"- **{title}**: {plain(reason)}" for title, reason in reasons))


def _waiting(drawn: Drawn) -> str:
    """Return a sentence on what waits in main memory, and on the copies it takes."""
    phases = {moment.phase: moment for moment in drawn.moments}
    forward, backward = phases["forward"], phases["backward"]
    most = max(moment.waiting for moment in drawn.moments)
    badge = figures.badge("simulated")
    if drawn.kind == AWAY:
        around = forward.taken - forward.layers
        return (
            f"**Activations are stored in main memory.** {units.size(forward.taken)} leave each GPU in the forward "
            f"pass and return in the backward pass: {units.size(forward.layers)} belong to the {drawn.depth} layers, "
            f"{units.size(around)} to other parts, such as the logits. {badge}"
        )
    return (
        f"**Shards are stored in main memory**, {units.size(most)} per GPU. A step copies "
        f"{units.size(forward.brought + backward.brought)} of weights to the GPU and {units.size(backward.taken)} of "
        f"gradients back; optimizer states never leave main memory. {badge}"
    )


def why_refused(drawn: Drawn, beside: Drawn | None) -> None:
    """Draw the meaning of the drawing, with its figures."""
    most = max(drawn.moments, key=lambda moment: moment.total)
    kept = max(moment.parts["activations"] for moment in drawn.moments)
    full = drawn.method == "full"
    held = (
        f", with the weights in {KEPT} (plans that shard the weights use float32 if memory allows)"
        if full
        else ""
    )
    step = "checkpointed step" if drawn.checkpointing else "step"
    cuts = "fewer rows or tokens" if drawn.checkpointing else "fewer rows or tokens, or checkpointing"
    lines = [
        f"On each of {drawn.devices} GPUs a {step} of {get_method(drawn.method).title} with one row needs "
        f"{units.size(most.total)} with {MOMENT_KINDS[drawn.kind]}{held}. {figures.badge('simulated')}"
    ]
    if drawn.waits:
        lines.append(_waiting(drawn))
    if drawn.kind == "tp":
        lines.append(
            "**Activations are partly split.** Each GPU computes some of the attention heads and part of the MLP, "
            "but every GPU stores the complete values between layers and the complete logits. All GPUs read the "
            "same rows. With more GPUs, each GPU computes less, but a step reads no more rows. "
            f"{figures.badge('simulated')}"
        )
    elif beside is not None and beside.kind != drawn.kind and drawn.kind != AWAY:
        whole = max(moment.parts["activations"] for moment in beside.moments)
        lines.append(
            f"**Activations are not sharded.** Each GPU stores the activations of its own rows: {units.size(kept)} "
            f"here, {units.size(whole)} with {MOMENT_KINDS[beside.kind]}. To reduce them, use {cuts}. "
            f"{figures.badge('simulated')}"
        )
    lines.append(
        "**QLoRA and FSDP: the storage type.** bitsandbytes packs two weights into a byte. FSDP1 flattens a layer "
        "into one tensor, which needs one floating-point type, so the bytes are stored in the precision of the "
        "computation (`bnb_4bit_quant_storage`). FSDP2 shards each tensor separately and accepts other types; the "
        "files here still set the storage type, which works with both."
    )
    for line in lines:
        st.markdown(line)


PATIENCE = 0.8
_PADDED = (
    "Rows are padded, not packed. Memory and time are calculated for padded rows. If you give the rows' lengths, "
    "short rows can be packed together."
)
_NEARBY = (
    "Activations are offloaded to main memory only if even a checkpointed step needs too much GPU memory."
)
_AWAY = "Activations are offloaded to main memory. Nothing else runs during the copies; the copies' speed is assumed."
_PACKED = (
    "Short rows are packed together into full sequences. Memory and time are calculated for full sequences, with "
    "a mask that separates the packed rows. Some kernels are told where each row ends, so they need no mask and "
    "less time. The plan does not assume such kernels."
)


def _ask(wanted: Wanted, candidate: ranking.Candidate) -> Planned:
    return ranking.evaluate(asdict(wanted), asdict(candidate))


def nearest(fields: Mapping[str, Any]) -> nowhere.Nearest:
    """Return the nearest plan that works, evaluated in this process. Imports torch; raises as that does."""
    return nowhere.nearest(Wanted(**fields), _ask)


def meeting(fields: Mapping[str, Any], best: Planned) -> tuple[nowhere.Way, ...]:
    """Return ways to meet the deadline, evaluated in this process. Imports torch; raises as that does."""
    return nowhere.meeting(Wanted(**fields), best, _ask)


def in_full(wanted: Wanted, one: Planned) -> None:
    """Draw everything about a plan that fits."""
    plan = one.plan
    assert plan is not None
    if one.update is not None:
        means = MEANS.get(one.update.bottleneck, "")
        share = one.update.parts[one.update.bottleneck] / one.update.value
        st.markdown(
            f"**Bottleneck: {one.update.bottleneck}** ({share:.0%} of an update). {means} {figures.badge('simulated')}"
        )
    if one.quality.accuracy is None:
        st.markdown(f"**Quality.** {one.quality.text}")
    else:
        st.markdown(f"**Quality.** {one.quality.text} ({one.quality.source}). {figures.badge('cited')}")
    if one.saved is not None:
        beside = f"{abs(one.saved):.0%} {'less' if one.saved >= 0 else 'more'} time"
        st.markdown(
            f"**Packed.** Packed rows take {beside} than padded rows of average length at the same batch size. "
            f"{figures.badge('simulated')}"
        )
    loads = loading(wanted.situation().shape, one.candidate.method, plan)
    st.markdown(f"Memory while the base model is {loads.told}. {figures.badge('counted')}")
    rows = [
        (label(name), written_figure(setting.value), band(setting.band), told_by(setting))
        for name, setting in plan.settings.items()
    ]
    with st.expander("Recipe"):
        figures.table(("Setting", "Value", "Sources' range", "From"), rows, fold=True)
        st.caption(f"{_PACKED if plan.packed else _PADDED} {_AWAY if plan.offload else _NEARBY}")
    st.markdown("#### The files")
    shown(get_pool().submit(0, write, asdict(wanted), one), _written, "Writing the files…", patience=PATIENCE)


def _written(written: Written) -> None:
    if not written.files:
        return
    names = list(written.files)
    for tab, name in zip(st.tabs(names), names, strict=True):
        with tab:
            st.caption(f"`{name}`: {ABOUT[name]}")
            st.code(written.files[name], "python" if name.endswith(".py") else "yaml", height=360)
