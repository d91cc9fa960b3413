"""Check an adapter stage by stage: trained, saved, base, loads, merges, serves. Each has its evidence and a fix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from peft_lab.core.errors import PeftLabError
from peft_lab.interview.clinic import reading
from peft_lab.interview.clinic.diagnose import diagnose
from peft_lab.models import own
from peft_lab.models.loading import weights_of
from peft_lab.models.shapes import ModelEntry
from peft_lab.runs import store
from peft_lab.runs.kept import model_hashes
from peft_lab.runs.record import inputs_of
from peft_lab.takeaway.ship.adapter import Adapter, StoredTensor
from peft_lab.takeaway.ship.passport import Seen, Verdict, base_of, engines, passport, some

#: The clinic's families of faults that a stage answers for; those of loading are about scripts.
_FAMILIES = {"training": "trained", "data": "trained", "saving": "saved"}


@dataclass(frozen=True)
class Stage:
    """One stage of an adapter's life. ``ok``: ``None`` if there was nothing to judge it by. ``fix``: empty if ok."""

    stage: str
    ok: bool | None
    evidence: str
    fix: str = ""


def check(adapter: Adapter, base: ModelEntry | None) -> tuple[Stage, ...]:
    """Return every stage of an adapter. ``base``: the model it belongs to; without it modules and shapes are not
    compared. Raises BadInput: the adapter's files cannot be read."""
    material, seen, verdicts = _material(adapter), Seen(adapter, base), passport(adapter, base)
    blamed: dict[str, Stage] = {}
    for one in diagnose(material).found:
        stage = _FAMILIES.get(one.fault.family, "")
        text = f"{one.fault.title}: {' '.join(one.evidence)}"
        blamed.setdefault(stage, Stage(stage, False, text, one.fault.fix))
    losses = reading.Features(material).losses
    kind = adapter.type or "an adapter without a type"
    merged = f"PEFT merges {kind} into 32-bit weights (measured in the Atlas)."
    return (
        blamed.get("trained", _trained(losses)),
        blamed.get("saved", _saved(material.tensors or {})),
        _base(adapter, base),
        _loads(seen, verdicts[0]),
        Stage("merges", True, merged)
        if seen.merges
        else Stage(
            "merges", False, f"PEFT does not merge {kind}.", "Serve the adapter where it was trained."
        ),
        _serves(verdicts[1:]),
    )


def _material(adapter: Adapter) -> reading.Material:
    """Return what the clinic reads of an adapter: its files, and the losses of a run of this lab."""
    material, run = reading.with_adapter(reading.Material(), adapter), _run(adapter)
    if run is None:
        return material
    view = run.view()
    rows = tuple(reading.LoggedRow(step=step, loss=loss) for step, loss in enumerate(view.losses, 1))
    return replace(material, rows=rows or None, planned=view.steps)


def _run(adapter: Adapter) -> store.Run | None:
    """Return the run of this lab that an adapter is of."""
    inside = adapter.folder is not None and adapter.folder.parent.parent == store.root().resolve()
    return store.get(adapter.folder.parent.name) if adapter.folder and inside else None


def _trained(losses: tuple[float, ...]) -> Stage:
    if not losses:
        return Stage("trained", None, "There is no training log.", "Put trainer_state.json into the folder.")
    evidence = (
        f"Loss {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses):,} logged steps; no fault was found."
    )
    return Stage("trained", True, evidence)


def _saved(tensors: Mapping[str, StoredTensor]) -> Stage:
    zero = [name for name, tensor in tensors.items() if tensor.zero and "lora_B" in name]
    broken = [name for name, tensor in tensors.items() if tensor.finite < 1]
    if broken or not tensors:
        evidence = f"Not finite: {some(broken)}." if broken else "The file holds no tensor."
        return Stage("saved", False, evidence, "Train again with a lower learning rate and save the adapter.")
    entries, kinds = (
        sum(each.size for each in tensors.values()),
        sorted({each.dtype for each in tensors.values()}),
    )
    evidence = (
        f"{len(tensors):,} tensors, {entries:,} entries, {', '.join(kinds)}; B matrices of only zeros: "
        f"{len(zero):,}."
    )
    return Stage("saved", not zero, evidence, "Check target_modules and the gradients." if zero else "")


def _base(adapter: Adapter, base: ModelEntry | None) -> Stage:
    """Compare the base with that of training: by hashes or commit noted then, or row by row where both are here."""
    run, trained, compared = _run(adapter), base_of(adapter), False
    revision, what, noted, differ = str(adapter.config.get("revision")), "hashes", {}, list[str]()
    if run is not None:
        noted = (inputs_of(run.events()) or {}).get(adapter.base, {})
    elif re.fullmatch("[0-9a-f]{40}", revision):
        noted, what = {"commit": revision}, "commits"
    with suppress(PeftLabError):  # weights that are not here
        if base and trained and trained.name != base.name:
            noted, differ = rows_that_differ(trained.name, base.name)
            compared, what = bool(noted), "matrices' first rows"
        elif base and noted:
            now = model_hashes(base.name, base, hashing=False)
            differ = [name for name, value in noted.items() if now.get(name) != value]
            compared = True
    if base is None or not compared:
        return Stage(
            "base", None, "No file says which weights the adapter was trained on.", "Name base and revision."
        )
    evidence = f"{len(noted):,} {what} compared with those of training: {some(differ) or 'none'} differ."
    fix = f"Serve {adapter.base} as it was in training, or train again." if differ else ""
    return Stage("base", not differ, evidence, fix)


def rows_that_differ(trained: str, served: str) -> tuple[dict[str, Any], list[str]]:
    """Return the matrices whose first rows two models' files share, and the names of those that are others. What is
    stored in two precisions is compared up to the rounding to 16 bits. Raises AssetError."""
    import torch
    from safetensors import safe_open

    rows: list[dict[str, torch.Tensor]] = [{}, {}]
    for found, model in zip(rows, (trained, served), strict=True):
        for file in own.weights(own.finder(weights_of(model)))[0]:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118  it is no mapping
                    part, short = opened.get_slice(name), re.sub(r"^(model|transformer)\.", "", name)
                    found |= {short: part[:4]} if len(part.get_shape()) == 2 else {}
    shared, differ = {name: rows[1][name] for name in rows[0] if name in rows[1]}, []
    for name, other in shared.items():
        one, rough = rows[0][name], 2**-8 * (rows[0][name].dtype != other.dtype)
        if one.shape != other.shape or not torch.allclose(one.float(), other.float(), rough, rough * 1e-5):
            differ.append(name)
    return shared, differ


def _loads(seen: Seen, verdict: Verdict) -> Stage:
    if seen.base is None:
        return Stage("loads", None, "The base is not known here.", "Name it with --base.")
    evidence = f"{len(seen.shapes):,} modules compared with {seen.base.title}"
    absent, other = seen.misfits
    shapes = [text for text, _ in other]
    for found, what in (
        (absent, "not in the base"),
        (shapes, "of another shape"),
        (_lacking(seen), "missing"),
    ):
        if found:
            named = seen.adapter.base or "not named"
            fix = f"Give the base that the adapter was trained on ({named}), or save the adapter again."
            return Stage("loads", False, f"{evidence}; {what}: {some(found)}.", fix)
    if verdict.verdict != "runs":
        text = f"{verdict.reasons[0].what} {verdict.reasons[0].words}".strip()
        return Stage("loads", False, text, "Load the adapter with the library and base used to train it.")
    if not seen.shapes:
        return Stage(
            "loads", None, "PEFT knows the type. Only modules of LoRAs with stored weights are compared."
        )
    return Stage("loads", True, f"{evidence}: all found, all shapes agree.")


def _lacking(seen: Seen) -> list[str]:
    """Return the modules of a decoder that the config targets and the file does not hold."""
    targets, layers = (seen.adapter.config.get(name) for name in ("target_modules", "layers_to_transform"))
    decoder = seen.base is not None and seen.base.kind == "causal-lm" and seen.shapes
    if seen.base is None or not decoder or not isinstance(targets, list | str) or layers is not None:
        return []
    return sorted(
        {path for one in seen.base.shape.match(targets).groups for path in one.paths} - seen.shapes.keys()
    )


def _serves(verdicts: tuple[Verdict, ...]) -> Stage:
    titles, found = {name: engine.title for name, engine in engines().items()}, []
    for state, way in (
        ("runs", "as it is"),
        ("change", "after a change"),
        ("wrong", "loads and answers wrongly"),
    ):
        held = [titles[one.engine] for one in verdicts if one.verdict == state]
        found += [f"{way}: {', '.join(held)}"] if held else []
    able = any(one.verdict in ("runs", "change") for one in verdicts)
    fix = "" if able else "Serve the adapter where it was trained."
    return Stage("serves", able, f"{'; '.join(found) or 'By none of the other engines'}.", fix)
