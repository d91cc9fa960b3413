"""Check an adapter stage by stage: trained, saved, loads, merges, serves. Each stage has its evidence and a fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from peft_lab.interview.clinic import reading
from peft_lab.interview.clinic.diagnose import Suspicion, diagnose
from peft_lab.models.shapes import ModelEntry
from peft_lab.runs import store
from peft_lab.takeaway.ship.adapter import Adapter, StoredTensor
from peft_lab.takeaway.ship.passport import MADE, Seen, engines, passport, some

#: The clinic's families of faults that a stage answers for; those of loading are about scripts.
_FAMILIES = {"trained": ("training", "data"), "saved": ("saving",)}


@dataclass(frozen=True)
class Stage:
    """One stage of an adapter's life. ``ok``: ``None`` if there was nothing to judge it by. ``fix``: empty if ok."""

    stage: str
    ok: bool | None
    evidence: str
    fix: str = ""


def material_of(adapter: Adapter) -> reading.Material:
    """Return what the clinic reads of an adapter: files, and the losses of a run of this lab."""
    material = reading.with_adapter(reading.Material(), adapter)
    if adapter.folder is None or adapter.folder.parent.parent != store.root():
        return material
    view = store.get(adapter.folder.parent.name).view()
    rates = view.learning_rates or (None,) * len(view.losses)
    rows = tuple(
        reading.LoggedRow(step=step, loss=loss, rate=rate)
        for step, (loss, rate) in enumerate(zip(view.losses, rates, strict=False), 1)
    )
    return replace(material, rows=rows or None, planned=view.steps)


def check(adapter: Adapter, base: ModelEntry | None) -> tuple[Stage, ...]:
    """Return every stage of an adapter.

    Args:
        base: the model it belongs to; without it modules and shapes are not compared.

    Raises:
        BadInput: the adapter's files cannot be read.
    """
    material, seen = material_of(adapter), Seen(adapter, base)
    suspects = diagnose(material).found
    return (
        _trained(material, suspects),
        _saved(material.tensors or {}, suspects),
        _loads(seen),
        _merges(seen),
        _serves(adapter, base),
    )


def _blamed(stage: str, suspects: tuple[Suspicion, ...]) -> Stage | None:
    """Return the stage as failed by the likeliest fault of its families; ``None`` without one."""
    for one in suspects:
        if one.fault.family in _FAMILIES[stage]:
            return Stage(stage, False, f"{one.fault.title}: {' '.join(one.evidence)}", one.fault.fix)
    return None


def _trained(material: reading.Material, suspects: tuple[Suspicion, ...]) -> Stage:
    losses = reading.Features(material).losses
    if blamed := _blamed("trained", suspects):
        return blamed
    if not losses:
        fix = "Put trainer_state.json into the folder."
        return Stage("trained", None, "There is no training log.", fix)
    evidence = (
        f"Loss {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses):,} logged steps; no fault was found."
    )
    return Stage("trained", True, evidence)


def _saved(tensors: Mapping[str, StoredTensor], suspects: tuple[Suspicion, ...]) -> Stage:
    zero = [name for name, tensor in tensors.items() if tensor.zero and "lora_B" in name]
    broken = [name for name, tensor in tensors.items() if tensor.finite < 1]
    if broken:
        return Stage(
            "saved", False, f"Not finite: {some(broken)}.", "Train again with a lower learning rate."
        )
    if blamed := _blamed("saved", suspects):
        return blamed
    if not tensors:
        return Stage("saved", False, "The file holds no tensor.", "Save with model.save_pretrained.")
    entries, kinds = (
        sum(tensor.size for tensor in tensors.values()),
        sorted({t.dtype for t in tensors.values()}),
    )
    evidence = (
        f"{len(tensors):,} tensors, {entries:,} entries, {', '.join(kinds)}; {len(zero):,} of B only zeros."
    )
    fix = "Those matrices were not trained: check target_modules and the gradients." if zero else ""
    return Stage("saved", not zero, evidence, fix)


def _loads(seen: Seen) -> Stage:
    if seen.base is None:
        return Stage("loads", None, "The base is not known here.", "Name it with --base.")
    absent, other = seen.misfits
    evidence = f"{len(seen.shapes):,} modules compared with {seen.base.title}"
    for found, what in ((absent, "not in the base"), ([text for text, _ in other], "of another shape")):
        if found:
            fix = f"Give the base that it was trained on ({seen.adapter.base or 'not named'})."
            return Stage("loads", False, f"{evidence}: {what}: {some(found)}.", fix)
    verdict = passport(seen.adapter, seen.base)[0]
    reason = verdict.reasons[0]
    if verdict.verdict != "runs":
        text = f"{reason.what} {reason.words}".strip()
        return Stage(
            "loads", False, text, "Load it on the base, and with the library, that it was trained with."
        )
    if not seen.shapes:
        return Stage("loads", None, "PEFT knows the type; without weights only LoRA's modules are compared.")
    if lacking := _lacking(seen, seen.base):
        fix = "Save it again: PEFT loads it with a warning, and leaves these modules as the base has them."
        return Stage("loads", False, f"{evidence}; missing: {some(lacking)}.", fix)
    return Stage("loads", True, f"{evidence}: all found, all shapes agree.")


def _lacking(seen: Seen, base: ModelEntry) -> list[str]:
    """Return the modules of a decoder that the config targets and the file does not hold."""
    targets, layers = (seen.adapter.config.get(name) for name in ("target_modules", "layers_to_transform"))
    if base.kind != "causal-lm" or not isinstance(targets, list | str) or layers is not None:
        return []
    return sorted(
        {path for group in base.shape.match(targets).groups for path in group.paths} - seen.shapes.keys()
    )


def _merges(seen: Seen) -> Stage:
    kind = seen.adapter.type or "an adapter without a type"
    if seen.merges:
        return Stage("merges", True, f"PEFT merges {kind} into 32-bit weights (measured in the Atlas).")
    return Stage("merges", False, f"PEFT does not merge {kind}.", "Serve it where it was trained.")


def _serves(adapter: Adapter, base: ModelEntry | None) -> Stage:
    verdicts, titles = passport(adapter, base)[1:], {name: engine.title for name, engine in engines().items()}
    ways = {
        way: [titles[one.engine] + (f" ({MADE.get(one.change, one.change)})" if state == "change" else "")
              for one in verdicts if one.verdict == state]
        for state, way in (("runs", "as it is"), ("change", "after a change"), ("wrong", "loads and answers wrongly"))
    }  # fmt: skip
    evidence = "; ".join(f"{way}: {', '.join(found)}" for way, found in ways.items() if found)
    able = bool(ways["as it is"] or ways["after a change"])
    fix = (
        ""
        if ways["as it is"]
        else "Take the change that peft-lab ship names."
        if able
        else "Serve it by PEFT."
    )
    return Stage("serves", able, f"{evidence or 'By none of the other engines'}.", fix)
