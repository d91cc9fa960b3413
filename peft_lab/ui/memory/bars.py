"""Every method that runs on the model: a bar of its parts, the device's limit, and a table of what it needs."""

from __future__ import annotations

import streamlit as st

from peft_lab import units
from peft_lab.memory import fits
from peft_lab.memory.devices import SOLD, Device
from peft_lab.memory.result import Simulation
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import ModelEntry
from peft_lab.ui.components import figures
from peft_lab.ui.components.grown_bars import Bar, Limit, grown_bars
from peft_lab.ui.foreign import plain
from peft_lab.ui.memory.answers import BARS, Answers, collect, progress
from peft_lab.ui.memory.controls import Chosen
from peft_lab.ui.memory.targets import OWN, listed, low_rank_methods, named
from peft_lab.units import Source

PATIENCE = 0.8  # seconds that a change waits for all of its bars
DRAWN, SECONDS = "memory-drawn", "memory-seconds"


def refusals(entry: ModelEntry) -> dict[str, str]:
    """Methods that cannot run on the model, with their reason; found without simulating anything."""
    found = {}
    for slug, method in all_methods().items():
        errors = [problem.message for problem in method.problems(entry.shape, {}) if problem.level == "error"]
        if errors:
            found[slug] = errors[0]
    return found


def overview(chosen: Chosen) -> Answers:
    """Draw bars and table; return what is known of each method."""
    refused = refusals(chosen.entry)
    slugs = [slug for slug in all_methods() if slug not in refused]
    # What was asked last is taken first, so the one that took longest is asked last: it must not be the one left over.
    seconds: dict[str, float] = st.session_state.setdefault(SECONDS, {})
    futures = {
        slug: chosen.simulate(BARS, slug) for slug in sorted(slugs, key=lambda slug: seconds.get(slug, 0))
    }
    asked = {slug: futures[slug] for slug in slugs}
    # Bars that are there already are moved in one go; a page that is just opened is drawn at once.
    answers = collect(asked, PATIENCE if st.session_state.get(DRAWN) else 0)
    st.session_state[DRAWN] = bool(answers.found)
    seconds.update({slug: one.seconds for slug, one in answers.found.items()})
    with st.container(key="memory-figures"):
        st.markdown(f"#### One training step of {plain(chosen.entry.title)} {figures.badge('simulated')}")
        progress(answers, "methods")
        answers = Answers(answers.found, refused | dict(answers.refused), answers.waiting)
        if answers.found:
            _bars(answers, chosen)
            _table(answers, chosen)
    if answers.refused:
        titles = {slug: all_methods()[slug].title for slug in answers.refused}
        lines = (
            plain(reason if reason.startswith(titles[slug]) else f"{titles[slug]}: {reason}")
            for slug, reason in answers.refused.items()
        )
        st.markdown("  \n".join(lines))
    return answers


def _bars(answers: Answers, chosen: Chosen) -> None:
    bars = [
        Bar(all_methods()[slug].title, _parts(one), Source.SIMULATED) for slug, one in answers.found.items()
    ]
    usable = chosen.device.memory
    limit = Limit(usable, f"{chosen.device.holding}: {units.size(usable)} usable")
    with st.container(
        key=f"bars-{len(bars)}-memory"
    ):  # their script comes late, and the table stands under them
        grown_bars(bars, "memory-bars", limit, close=True)


def _parts(found: Simulation) -> dict[str, int]:
    """The tensors at the peak, and what the allocator holds beside them: together what has to fit."""
    beside = fits.needed(found) - sum(found.parts.values())
    return {**found.parts, "held by the allocator": beside} if beside > 0 else dict(found.parts)


def verdict(need: int, device: Device) -> str:
    over = need - device.memory
    return "fits" if over <= 0 else figures.unbroken(f"{units.size(over)} over")


def _table(answers: Answers, chosen: Chosen) -> None:
    device, rows = chosen.device, []
    # What is paged or offloaded; most settings have none of it.
    hosts = any(one.host_bytes for one in answers.found.values())
    for slug, one in answers.found.items():
        need = fits.needed(one)
        host = (units.size(one.host_bytes),) if hosts else ()
        rows.append(
            (figures.unbroken(all_methods()[slug].title), units.size(need), *host, verdict(need, device))
        )
    heads = ("Method", "Reserved", *(("Main memory",) if hosts else ()), "On device")
    figures.table(heads, rows, numeric=(1, 2) if hosts else (1,), fold=hosts)
    waiting = " Main memory: what is offloaded or paged to it." if hosts else ""
    st.caption(
        f"{_settings(answers, chosen)} Reserved: what PyTorch's caching allocator would reserve under its "
        f"documented rules; the device must have that much.{waiting} In the bars: the tensors alive at the "
        f"peak, and what it holds beside them. Usable on {device.holding}: "
        f"{units.size(device.memory)}, {device.source}.{f' {SOLD}' if device.holding != device.title else ''}"
    )
    if chosen.targets == OWN and {"lora", "qlora"} <= answers.found.keys():
        _targets(answers, chosen.entry)


def _settings(answers: Answers, chosen: Chosen) -> str:
    """How the methods are set, in a sentence or two."""
    shown = [slug for slug in low_rank_methods() if slug in answers.found]
    if chosen.targets == OWN or not shown:
        return "Every method at its defaults."
    titles = " and ".join(all_methods()[slug].title for slug in shown)
    maps = listed(named(shown[0], chosen.entry.shape, chosen.targets))
    verb = "adapt" if len(shown) > 1 else "adapts"
    return f"{titles} {verb} {maps}; all other settings are each method's defaults."


def _targets(answers: Answers, entry: ModelEntry) -> None:
    """Where QLoRA needs more than LoRA it is for what it adapts: their defaults differ."""
    lora, qlora = answers.found["lora"], answers.found["qlora"]
    if fits.needed(qlora) <= fits.needed(lora):
        return
    own, wide = (listed(named(slug, entry.shape, OWN)) for slug in ("lora", "qlora"))
    smaller = qlora.parts["weights"] < 0.99 * lora.parts["weights"]  # unless LoRA's base is packed too
    weights = f"{units.size(lora.parts['weights'])} to {units.size(qlora.parts['weights'])}"
    st.markdown(
        f"**QLoRA above LoRA?** By default QLoRA adapts {wide}, LoRA {own}. "
        f"{f'Weights shrink from {weights}, but activations' if smaller else 'Activations'} grow from "
        f"{units.size(lora.parts['activations'])} to {units.size(qlora.parts['activations'])}. "
        f"{figures.badge('simulated')}"
    )
