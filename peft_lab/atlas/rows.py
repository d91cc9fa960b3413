"""All that is known of a type, as plain data: declared, counted, probed, simulated and published."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from peft_lab import published
from peft_lab.atlas import costs, probes, variants
from peft_lab.atlas.base import AtlasType
from peft_lab.atlas.counted import counted
from peft_lab.errors import BadInput, PeftLabError

#: An encoder and two decoders that every type is counted on, whichever model is asked about.
MODELS = ("bert-base", "smollm2-135m", costs.MODEL)


def published_rows(entry: AtlasType) -> tuple[published.PublishedRow, ...]:
    """The published experiments of a type, of both benchmarks; of a variant those that have its settings."""
    found = []
    for benchmark in published.BENCHMARKS:
        for row in published.rows(benchmark).values():
            config = row.config or {}
            if config.get("peft_type") != entry.type:
                continue
            own = [other for other in variants(entry.type) if _has(config, other)]
            if (entry in own) if entry.variant else not own:
                found.append(row)
    return tuple(found)


def _has(config: Any, variant: AtlasType) -> bool:
    """Whether a config has what makes the variant: the first of its settings."""
    name, wanted = next(iter(variant.settings.items()))
    value = config.get(name)
    return bool(value) if isinstance(wanted, dict | list) else value == wanted


def row(entry: AtlasType, model: str, with_count: bool = True) -> dict[str, Any]:
    """The command line's JSON of a type. Counts in this process, so it imports torch."""
    capabilities = {name: probes.value(entry.name, name) for name in probes.CAPABILITIES}
    reasons = {name: probes.why(entry.name, name) for name, value in capabilities.items() if not value}
    cost, refusal = _cost(entry.name)
    return {
        "type": entry.type,
        "variant": entry.variant or None,
        "title": entry.title,
        "family": entry.family,
        "parent": entry.parent or None,
        "update": entry.update,
        "paper": {**asdict(entry.paper), "url": entry.paper.address},
        "formula": entry.form or None,
        "counted": "closed form" if entry.form else "counted only",
        "knobs": [{"name": knob.name, "usual": list(knob.values), "help": knob.what} for knob in entry.knobs],
        "stand_in": entry.stand_in and entry.stand_in.what,
        "differs": entry.differs,
        "when": entry.when,
        "capabilities": capabilities,
        "why": reasons,
        "measured": {
            name: {key: value for key, value in answer.items() if key not in ("value", "why", "raised")}
            for name, answer in probes.found(entry.name).items()
            if name in probes.CAPABILITIES
        },
        "trains_on": [kind for name, kind in probes.TRAINS.items() if capabilities[name]],
        "delta": {
            key: value
            for key, value in probes.found(entry.name).get("picture", {}).items()
            if key != "entries"
        },
        "published": [_published(each) for each in published_rows(entry)],
        "count": _count(entry, model) if with_count else None,
        "trainable": {each: _trained(entry, each) for each in MODELS} if with_count else None,
        "simulated": {
            "model": costs.MODEL,
            "batch": costs.SETTING.batch,
            "seq": costs.SETTING.seq,
            "device": costs.DEVICE,
            "source": "simulated",
            **({"why": refusal} if cost is None else asdict(cost)),
        },
        "peak_bytes": cost and cost.peak_bytes,
        "step_seconds": cost and {"value": cost.seconds, "low": cost.low, "high": cost.high},
        "probed_with": probes.versions(),
    }


def _cost(name: str) -> tuple[costs.Cost | None, str]:
    """The stored cost of a step, or one that is simulated now where nothing is stored; and why there is none."""
    if costs.asked(name):
        return costs.cost(name), costs.refusal(name)
    try:
        return costs.simulated(name), ""
    except PeftLabError as error:
        return None, str(error)


def _published(each: published.PublishedRow) -> dict[str, Any]:
    return {
        "experiment": each.experiment,
        "benchmark": each.benchmark,
        "accuracy": each.accuracy,
        "trainable": each.trainable,
        "reserved_bytes": each.reserved,
        "step_seconds": each.step_seconds,
        "created": each.created,
    }


def _trained(entry: AtlasType, model: str) -> dict[str, Any]:
    kept = ("trainable", "formula", "equal", "why")
    return {name: value for name, value in _count(entry, model).items() if name in kept}


def _count(entry: AtlasType, model: str) -> dict[str, Any]:
    try:
        found = counted(entry.name, model)
    except BadInput as error:
        return {"model": model, "trainable": None, "why": str(error)}
    report = found.report
    return {
        "model": report.model,
        "trainable": report.trainable,
        "total": report.total,
        "percent": report.percent,
        "stored_bytes": report.stored_bytes,
        "formula": found.formula,
        "equal": found.equal,
        "note": report.note,
        "config": found.config,
        "source": "counted",
    }
