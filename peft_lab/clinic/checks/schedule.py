"""What becomes of the learning rate from the first step to the last."""

from __future__ import annotations

from collections.abc import Iterator

from peft_lab.clinic.evidence import HINT, PROOF, SOME, STRONG, Evidence, check
from peft_lab.clinic.features import Features

_ENDED = 0.2  # share of the logged rows at the end without a rate from which a schedule was over early
_REACHED = 0.9  # of the rate that was asked for


@check("arguments")
def warm_up(seen: Features) -> Iterator[Evidence]:
    """A warm-up as long as the run, or longer; below 1 it is a share of the run, under both of its names."""
    given, steps = seen.number("warmup_steps") or 0.0, seen.steps or seen.last_step
    share = given if 0 < given < 1 else seen.number("warmup_ratio") or 0.0
    if given < 1 and share > 0.5:
        said = f"the warm-up takes {share:g} of the run"
        yield Evidence("warm-up-too-long", PROOF if share >= _REACHED else SOME, said)
    if given >= 1 and steps and given >= _REACHED * steps:
        sure = STRONG if seen.steps or given > 5 * steps else SOME  # the log may end before the run
        yield Evidence("warm-up-too-long", sure, f"warmup_steps is {given:g}, the run has {steps:g} steps")


@check("rows")
def rising(seen: Features) -> Iterator[Evidence]:
    """A rate that rises until the end."""
    if not seen.rising:
        return
    last, asked = seen.rates[-1], seen.number("learning_rate", "lr")
    said = f"learning_rate rises from {seen.rates[0]:g} to {last:g}, the last that was logged"
    if asked and last < _REACHED * asked:
        yield Evidence("warm-up-too-long", PROOF, f"{said}, and was to be {asked:g}")
    elif seen.steps and seen.last_step < _REACHED * seen.steps:
        part = f"step {seen.last_step:g} of {seen.steps:g}"
        yield Evidence("warm-up-too-long", HINT, f"{said}, at {part}: the run was not over")
    else:
        yield Evidence("warm-up-too-long", STRONG if seen.steps is None else PROOF, said)


@check("rows")
def over_early(seen: Features) -> Iterator[Evidence]:
    """No rate at all, none from some step on, or a small part of what was asked for."""
    if len(seen.rates) < 3:
        return
    top, asked, count = max(seen.rates), seen.number("learning_rate", "lr"), len(seen.rates)
    ended = next((number for number, rate in enumerate(reversed(seen.rates)) if rate), count)
    if top == 0:
        yield Evidence("rate-stays-zero", PROOF, f"learning_rate is 0 in all {count} logged rows")
    elif ended >= max(3, _ENDED * count):
        yield Evidence(
            "rate-stays-zero", PROOF, f"learning_rate is 0 in the last {ended} of {count} logged rows"
        )
    elif asked and top < asked / 20 and not seen.rising:
        yield Evidence(
            "rate-stays-zero", PROOF, f"learning_rate was to be {asked:g}; the largest logged is {top:g}"
        )
