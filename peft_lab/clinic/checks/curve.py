"""What the losses say."""

from __future__ import annotations

import math
from collections.abc import Iterator

from peft_lab.clinic.evidence import AGAINST, HINT, PROOF, SOME, STRONG, Evidence, check
from peft_lab.clinic.features import Features

#: Rates outside of which a method was hardly ever run with success: below the first it learns next to nothing in a few
#: hundred steps, above the second it diverges. Wide on purpose; the recipes (``peft_lab/recipes``) have the usual ones.
BANDS = {
    "full": (2e-6, 2e-3),
    "lora": (2e-5, 3e-2),
    "adalora": (5e-5, 5e-2),
    "ia3": (2e-4, 2e-1),
    "prefix_tuning": (2e-4, 2e-1),
    "prompt_tuning": (5e-4, 1.0),
    "p_tuning": (5e-4, 1.0),
}
FLAT = 0.03  # share of the first loss by which a curve that learned nothing may fall


@check("rows")
def climbing(seen: Features) -> Iterator[Evidence]:
    """A loss that rises, or that fell and climbed."""
    curve = seen.curve
    if curve is None:
        return
    # What a quarter of the losses vary by anyway.
    spread = 3 * curve.noise / math.sqrt(max(2, len(curve.losses) // 5))
    said = f"the loss began at {curve.start:.3g} and ended at {curve.end:.3g}"
    if curve.end > 1.15 * curve.start + spread:
        yield Evidence("rate-too-high", STRONG, said)
    elif curve.end > 1.5 * curve.best + spread and curve.end > 0.5 * curve.start:
        yield Evidence(
            "rate-too-high", SOME, f"the loss fell to {curve.best:.3g} and climbed to {curve.end:.3g}"
        )
    elif curve.fall > 0.25:
        yield Evidence("rate-too-high", AGAINST, f"{said}, so it learned")
    if curve.top > 2 * curve.start + 4 * curve.noise:
        yield Evidence(
            "rate-too-high", SOME, f"the loss jumped to {curve.top:.3g}, from {curve.start:.3g} at first"
        )


@check("rows")
def rate_against_band(seen: Features) -> Iterator[Evidence]:
    """A rate outside what the method is run with, and what the curve says to it."""
    band, rate = BANDS.get(seen.method), seen.rate
    if (
        band is None or not rate or (seen.rising and rate == max(seen.rates))
    ):  # not the rate that was asked for
        return
    low, high = band
    learned = seen.curve is not None and seen.curve.fall > 0.15
    said = f"learning_rate is {rate:g}; {seen.method} is run between {low:g} and {high:g}"
    if rate > 3 * high:
        yield Evidence("rate-too-high", 5.5 if learned else PROOF, f"{said}: far above")
    elif rate < low / 3:
        yield Evidence("rate-too-low", SOME if learned else PROOF, f"{said}: far below")
    elif rate > high:
        yield Evidence("rate-too-high", SOME if learned else STRONG, said)
    elif rate < low:
        yield Evidence("rate-too-low", HINT if learned else STRONG, said)
    elif seen.curve is not None and rate > high / 4 and not learned:
        yield Evidence("rate-too-high", SOME, f"{said}: it is near the upper end, and nothing was learned")
    elif rate < 4 * low and not learned:
        yield Evidence("rate-too-low", HINT, f"{said}: it is near the lower end")


@check("rows")
def flat(seen: Features) -> Iterator[Evidence]:
    """A loss that stays where it was."""
    curve = seen.curve
    if curve is None or curve.start == 0:
        return
    said = f"the loss began at {curve.start:.3g} and ended at {curve.end:.3g}"
    if abs(curve.fall) < FLAT:
        yield Evidence("rate-too-low", HINT, f"{said}: it hardly moved")
    elif curve.fall > 0.15:
        yield Evidence("rate-too-low", AGAINST, f"{said}, so it learned")


@check("rows")
def no_number(seen: Features) -> Iterator[Evidence]:
    """NaN or an exact 0, which Trainer logs in place of NaN: from the first step on, or later."""
    losses = seen.losses
    bad = [number for number, loss in enumerate(losses) if not math.isfinite(loss) or loss == 0]
    if not bad or len(losses) < 3:
        return
    lasts = bad == list(range(bad[0], len(losses)))
    what = "NaN" if math.isnan(losses[bad[0]]) else f"{losses[bad[0]]:g}"
    if bad[0] == 0 and lasts:
        yield Evidence("all-masked", STRONG, f"the loss is {what} from the first logged step on")
        yield Evidence("fp16-weights", HINT, f"the loss is {what} from the first logged step on")
    elif lasts:
        yield Evidence(
            "fp16-weights",
            STRONG,
            f"the loss was {losses[bad[0] - 1]:.3g} and then {what} for good, from logged step {bad[0] + 1} on",
        )
        yield Evidence("rate-too-high", HINT, f"the loss became {what}")
    else:
        yield Evidence(
            "fp16-weights", SOME, f"the loss is {what} in {len(bad)} of {len(losses)} logged steps"
        )
        yield Evidence("all-masked", HINT, f"the loss is {what} in {len(bad)} of {len(losses)} logged steps")


@check("rows", "arguments")
def accumulated(seen: Features) -> Iterator[Evidence]:
    """A training loss that is N times the evaluation's, or more than a guess at random has."""
    passes = seen.number("gradient_accumulation_steps") or 1
    evals = [row.eval_loss for row in seen.of.rows or () if row.eval_loss is not None]
    if passes < 2 or not seen.losses or not math.isfinite(seen.losses[0]):
        return
    if evals and math.isfinite(evals[-1]) and evals[-1] > 0 and seen.curve is not None:
        ratio = seen.curve.end / evals[-1]
        if 0.65 * passes < ratio < 1.5 * passes:
            yield Evidence(
                "accumulation-not-averaged",
                PROOF if passes > 2 else STRONG,
                f"the training loss ends at {seen.curve.end:.3g}, the evaluation at {evals[-1]:.3g}: {ratio:.2g} "
                f"times, and gradient_accumulation_steps is {passes:g}",
            )
            yield Evidence("rate-too-high", -1.0, "the loss is large because it was added up")
            return
        # A loss that still falls fast is further above the evaluation that comes after it.
        more = ratio >= 1.5 * passes
        yield Evidence(
            "accumulation-not-averaged",
            SOME if more else AGAINST,
            f"training and evaluation loss differ by {ratio:.2g} times"
            + (f", and gradient_accumulation_steps is {passes:g}" if more else ""),
        )
    guess = seen.base.vocab if seen.base is not None and seen.base.kind == "causal-lm" else None
    if guess and seen.losses[0] > 1.1 * math.log(guess):
        yield Evidence(
            "accumulation-not-averaged",
            STRONG,
            f"the first loss is {seen.losses[0]:.3g}; a guess among {guess:,} tokens has {math.log(guess):.3g}, and "
            f"gradient_accumulation_steps is {passes:g}",
        )
