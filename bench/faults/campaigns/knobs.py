"""Random settings of every method on every model of the catalogue, good and bad: a count, a formula or a sentence.

They go through what page and command line call: values from text, the method's checks, the closed form, the drawing's
parts, and for a share of them the count on the model itself.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from bench.faults.children import preload
from bench.faults.rows import LIMIT, Outcome, Place, Row
from peft_lab.core.errors import PeftLabError
from peft_lab.methods import all_methods
from peft_lab.methods.base import Knob, MethodSpec
from peft_lab.models.catalogue import catalogue
from peft_lab.models.shapes import ModelEntry

TIMES = 3000
COUNTED = 10  # one of so many is counted as well: a count builds the model, which takes a while
_ROOM = 2_000_000_000  # parameters up to which a model is counted here: larger ones take the same way, longer

#: What no knob takes, or takes only by its own kind.
ODD: tuple[Any, ...] = (
    None, True, False, "", " ", "x", "0", "-1", 0, -1, 1, 2, 3, 7, 10**9, 10**30, -(10**30), 0.5, 1e-300, 1e300,
    float("nan"), float("inf"), [], (), ["q_proj"], ["", " "], ["nope"], ["all-linear"], ["all-linear", "q_proj"],
    "all-linear", "q_proj,v_proj", "q_proj,q_proj", ",", "a" * 3000, "<img src=x>", "\u0000", "\u200b", "Wq|(",
    [1, None], {"a": 1}, b"r", "3 ", "٣", "1e3", "1_000", "0x10", "NaN", "true", "YES",
)  # fmt: skip


def combination(rng: random.Random) -> tuple[MethodSpec, ModelEntry, dict[str, Any], str | None]:
    """A method, a model, values for some of its knobs, and perhaps a key and text for ``--set``."""
    spec = rng.choice([*all_methods().values()])
    entry = rng.choice([*catalogue().values()])
    values: dict[str, Any] = {}
    for knob in spec.knobs:
        if rng.random() < 0.5:
            values[knob.name] = rng.choice(ODD) if rng.random() < 0.15 else _fitting(knob, entry, rng)
    if rng.random() < 0.03:
        values[rng.choice(("", "R", "rank", "\u0000", "r "))] = rng.choice(ODD)
    text = None
    if spec.knobs and rng.random() < 0.3:
        name = rng.choice([knob.name for knob in spec.knobs] + ["nope", ""])
        text = f"{name}{rng.choice(('=', '=', '=', '', '=='))}{rng.choice(ODD)}"
    return spec, entry, values, text


def _fitting(knob: Knob, entry: ModelEntry, rng: random.Random) -> Any:
    """A value of the knob's kind, at its limits rather often."""
    low = 0 if knob.min is None else knob.min
    high = 4096 if knob.max is None else knob.max
    if knob.kind == "bool":
        return rng.random() < 0.5
    if knob.kind == "choice":
        return rng.choice(knob.choices)
    if knob.kind == "int":
        return rng.choice(
            (int(low), int(high), rng.randint(int(low), int(high)), rng.randint(int(low), min(int(high), 64)))
        )
    if knob.kind == "float":
        return rng.choice((low, high, rng.uniform(low, high)))
    if knob.kind == "modules":
        names = [*entry.shape.target_names, "all-linear", "lm_head", "embed_tokens", "nope"]
        return tuple(rng.sample(names, rng.randint(0, min(4, len(names)))))
    return rng.choice(("Classify the sentence:", "", " ", "x" * 500, "\u200b", "日本語"))


def tried(
    spec: MethodSpec, entry: ModelEntry, values: dict[str, Any], text: str | None, counted: bool
) -> Outcome:
    """One combination. Right is every answer, and every refusal of this package."""
    from peft_lab.cli import options

    outcome, start = Outcome(), time.monotonic()
    try:
        if text is not None:
            _refused(outcome, lambda: options.parse_sets([text], [spec]))
        problems = spec.problems(entry.shape, values)
        errors = [problem for problem in problems if problem.level == "error"]
        for problem in problems:
            if not problem.message.strip() or "\n" in problem.message:
                outcome.faults.append(f"not a sentence: {problem.message!r:.200}")
        full = _refused(outcome, lambda: spec.require(entry.shape, values))
        if (full is None) != bool(errors):
            outcome.faults.append("problems and require disagree")
        if full is not None:
            _consistent(outcome, spec, entry, full, counted)
    except Exception:  # noqa: BLE001  whatever it is, it is what the campaign looks for
        outcome.traceback = traceback.format_exc()
    outcome.seconds = time.monotonic() - start
    outcome.hung = outcome.seconds > LIMIT
    return outcome


def _refused(outcome: Outcome, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except PeftLabError as refusal:
        if not str(refusal).strip():
            outcome.faults.append("a refusal without a reason")
        return None


def _consistent(
    outcome: Outcome, spec: MethodSpec, entry: ModelEntry, full: dict[str, Any], counted: bool
) -> None:
    formula = spec.formula(entry.shape, full)
    if formula.trainable < 0 or formula.trainable != sum(term.total for term in formula.terms):
        outcome.faults.append(f"the formula's terms do not add up: {formula.trainable}")
    spec.parts(entry.shape, full)
    spec.virtual_tokens(full)
    spec.quantization(full)
    if entry.kind in spec.learning_rates:
        spec.learning_rate(entry.kind, full)
    if counted and entry.parameters < _ROOM:
        from peft_lab.methods.counting.count import count

        report = _refused(outcome, lambda: count(entry.name, spec.slug, full))
        if report is not None and report.trainable != report.formula:
            outcome.faults.append(f"counted {report.trainable:,}, by the formula {report.formula:,}")


def cases(
    amount: int = TIMES, seed: int = 0, every: int = 1, counted: bool = False
) -> Iterator[tuple[str, Outcome]]:
    """One of ``every`` combinations with what became of it; it may be counted on the model too."""
    rng = random.Random(seed)
    for number in range(amount):
        spec, entry, values, text = combination(rng)
        if number % every == 0:
            what = f"{spec.slug} on {entry.name} with {values!r:.300} {text or ''!r:.100}"
            yield what, tried(spec, entry, values, text, counted)


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for all of them, one for those that are counted as well."""
    yield Row("combinations of knobs: checks, formula, drawing").take(
        place.in_time(cases(times)), "an answer or a sentence"
    )
    preload()
    yield Row("every tenth of them: counted on the model too").take(
        place.in_time(cases(times, every=COUNTED, counted=True)), "the count is the formula's, or a sentence"
    )
