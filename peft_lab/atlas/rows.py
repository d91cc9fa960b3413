"""Collect all that is known of a type as plain data: declared, counted, probed, simulated and published."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.atlas import get_entry, variants
from peft_lab.atlas.base import AtlasType, headings
from peft_lab.core.disk import read_json
from peft_lab.core.errors import BadInput
from peft_lab.engine import published
from peft_lab.engine.request import StepSetting
from peft_lab.methods.counting.count import CountReport, count_config
from peft_lab.models.catalogue import get_model, resolve
from peft_lab.takeaway.ship.passport import served_by


@dataclass(frozen=True)
class Counted:
    """PEFT's count, and that of the closed form (``None`` without one)."""

    report: CountReport
    formula: int | None
    config: dict[str, Any]

    @property
    def equal(self) -> bool | None:
        return None if self.formula is None else self.formula == self.report.trainable


def counted_type(name: str, model: str, **changes: Any) -> Counted:
    """Count a type or variant at its usual settings, with optional changes. Raises BadInput: PEFT cannot put it on this
    model, with the reason."""
    entry, shape = get_entry(name), resolve(model).shape
    config = entry.counted_config(shape, **changes)
    return Counted(count_config(model, config), entry.formula(shape, config), config)


#: What was found by asking PEFT: written by ``tools/probe_atlas.py``.
PROBES_FILE = Path(__file__).parent / "probed.json"

#: The capabilities probed, in display order: a short title, and what a yes means.
CAPABILITIES = headings("capabilities.yaml")
#: The kinds of model of the last three, as the command line names them.
TRAINS = {"trains_causal": "causal-lm", "trains_encoder": "encoder", "trains_seq2seq": "seq2seq"}


@cache
def _probes() -> dict[str, Any]:
    probes: dict[str, Any] = read_json(PROBES_FILE)
    return probes


def probed_versions() -> dict[str, str]:
    """Return the versions of the probed libraries."""
    return dict(_probes()["versions"])


def probed(name: str) -> dict[str, dict[str, Any]]:
    """Return every answer about a type or variant, by question; empty if it was not probed."""
    return dict(_probes()["found"].get(name, {}))


def probed_value(name: str, capability: str) -> bool | None:
    """Return whether a type has a capability; ``None`` if it could not be probed."""
    answer: bool | None = probed(name).get(capability, {}).get("value")
    return answer


def why_not(name: str, capability: str) -> str:
    """Return why a type lacks a capability or could not be probed; empty if it has it."""
    answer = probed(name).get(capability)
    return str(answer.get("why", "")) if answer else "Not measured yet."


#: Matching reports to PEFT, by type or variant and capability; each was read.
_REPORTS = {
    ("rslora", "combines"): "huggingface/peft issue 3761",
    ("dora", "combines"): "huggingface/peft issue 3761",
    ("kasa", "combines"): "huggingface/peft issue 3761",
    ("prompt_tuning", "generates"): "huggingface/peft issue 2123 (closed)",
}


def reported_by_probe(name: str, capability: str) -> str:
    """Return where the same problem was reported to PEFT, as a sentence; empty if unknown or if it works now."""
    where = _REPORTS.get((name, capability))
    return f"Reported as {where}." if where and probed_value(name, capability) is False else ""


# ----------------------------------------
# The memory and time of a type's training step, as the probe stored them: one model and one GPU for all types.


MODEL, DEVICE = "llama-3.2-3b", "l40s"
#: 4 rows of 256 tokens in bfloat16, with that GPU's kernels.
SETTING = StepSetting(batch=4, seq=256, capability=(8, 9))


@dataclass(frozen=True)
class Cost:
    """The cost of one step: peak bytes of tensors, bytes reserved by the allocator, seconds with a range."""

    peak_bytes: int
    reserved_bytes: int | None
    seconds: float
    low: float
    high: float
    bottleneck: str


def step_cost(name: str) -> Cost | None:
    """Return the stored cost of a type or variant; ``None`` without one (:func:`cost_refusal`)."""
    cost = probed(name).get("costs", {})
    if "peak_bytes" not in cost:
        return None
    step = cost["step_seconds"]
    return Cost(
        cost["peak_bytes"],
        cost["reserved_bytes"],
        step["value"],
        step["low"],
        step["high"],
        cost["bottleneck"],
    )


def cost_refusal(name: str) -> str:
    """Return why there is no cost; empty if there is one."""
    return "" if step_cost(name) else why_not(name, "costs")


def simulated_cost(name: str) -> Cost:
    """Simulate the cost now, in a second or two. Imports torch. Raises BadInput, SimulationError: why there is none."""
    from peft_lab.engine.request import ConfigRequest
    from peft_lab.engine.simulate import simulate_config
    from peft_lab.engine.timing import estimate

    config = get_entry(name).counted_config(get_model(MODEL).shape)
    done = simulate_config(ConfigRequest(MODEL, config, SETTING))
    step = estimate.seconds(done.work[-1], DEVICE)
    return Cost(done.peak_bytes, done.reserved_bytes, step.value, step.low, step.high, step.bottleneck)


#: An encoder and two decoders on which every type is counted, whatever model is chosen.
MODELS = ("bert-base", "smollm2-135m", MODEL)


def published_rows(entry: AtlasType) -> tuple[published.PublishedRow, ...]:
    """Return a type's published experiments in both benchmarks; for a variant, those with its settings."""
    matching = []
    for benchmark in published.BENCHMARKS:
        for row in published.rows(benchmark).values():
            config = row.config or {}
            if config.get("peft_type") != entry.type:
                continue
            own = [other for other in variants(entry.type) if _has(config, other)]
            if (entry in own) if entry.variant else not own:
                matching.append(row)
    return tuple(matching)


def _has(config: Any, variant: AtlasType) -> bool:
    """Return whether a config belongs to the variant, judged by the first of the variant's settings."""
    name, wanted = next(iter(variant.settings.items()))
    value = config.get(name)
    return bool(value) if isinstance(wanted, dict | list) else value == wanted


def row(entry: AtlasType, model: str, with_count: bool = True) -> dict[str, Any]:
    """Return a type's JSON for the command line. Counts in this process, so it imports torch."""
    capabilities = {name: probed_value(entry.name, name) for name in CAPABILITIES}
    reasons = {name: why_not(entry.name, name) for name, value in capabilities.items() if not value}
    cost, refusal = step_cost(entry.name), cost_refusal(entry.name)
    base = resolve(model)
    served: str | None = None
    with suppress(BadInput):  # it does not fit the model
        served = served_by(entry.counted_config(base.shape), base)
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
            for name, answer in probed(entry.name).items()
            if name in CAPABILITIES
        },
        "trains_on": [kind for name, kind in TRAINS.items() if capabilities[name]],
        "delta": {
            key: value for key, value in probed(entry.name).get("picture", {}).items() if key != "entries"
        },
        "published": [_published(experiment) for experiment in published_rows(entry)],
        "count": _count(entry, model) if with_count else None,
        "trainable": {name: _trained(entry, name) for name in MODELS} if with_count else None,
        "simulated": {
            "model": MODEL,
            "batch": SETTING.batch,
            "seq": SETTING.seq,
            "device": DEVICE,
            "source": "simulated",
            **({"why": refusal} if cost is None else asdict(cost)),
        },
        "peak_bytes": cost and cost.peak_bytes,
        "step_seconds": cost and {"value": cost.seconds, "low": cost.low, "high": cost.high},
        "served_by": served,
        "probed_with": probed_versions(),
    }


def _published(row: published.PublishedRow) -> dict[str, Any]:
    return {
        "experiment": row.experiment,
        "benchmark": row.benchmark,
        "accuracy": row.accuracy,
        "trainable": row.trainable,
        "reserved_bytes": row.reserved,
        "step_seconds": row.step_seconds,
        "created": row.created,
    }


def _trained(entry: AtlasType, model: str) -> dict[str, Any]:
    shown = ("trainable", "formula", "equal", "why")
    return {name: value for name, value in _count(entry, model).items() if name in shown}


def _count(entry: AtlasType, model: str) -> dict[str, Any]:
    try:
        counted = counted_type(entry.name, model)
    except BadInput as error:
        return {"model": model, "trainable": None, "why": str(error)}
    report = counted.report
    return {
        "model": report.model,
        "trainable": report.trainable,
        "total": report.total,
        "percent": report.percent,
        "stored_bytes": report.stored_bytes,
        "formula": counted.formula,
        "equal": counted.equal,
        "note": report.note,
        "config": counted.config,
        "source": "counted",
    }
