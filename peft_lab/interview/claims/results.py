"""Claims about how well methods do: published results decide, and say of what they are."""

from __future__ import annotations

from functools import partial

from peft_lab.advise.cited import BIASES_OF_BERT, PROMPT_RATE, PROMPT_SCALE, PROMPT_VOCABULARY
from peft_lab.advise.words import PUBLISHED
from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.facts import FIRST, NEAR_FULL, fact
from peft_lab.core.units import Source
from peft_lab.engine import published
from peft_lab.interview.claims.base import SURE, Claim, Found, Subject, about, apart, both, error
from peft_lab.interview.claims.figures import accuracy, published_row, share, times
from peft_lab.models.catalogue import catalogue

cited = partial(Claim, source=Source.CITED, model=None)
NEAR = 0.95  # of full fine-tuning's score
TESTED = 1_319  # questions of GSM8K's test set, which the published comparison is scored on
STATED_SCALE = 10e9  # parameters, as the saying has it
DORA = "lora--llama-3.2-3B-rank32-dora"
TUNED_IA3 = "ia3--llama-3.2-3B-all-attn-5k-lr0.005"


def _prompt_good(model: Subject) -> Found:
    prompt, lora = accuracy("prompt"), accuracy("lora")
    best = max(PROMPT_RATE.value, PROMPT_VOCABULARY.value)
    config = published_row(PUBLISHED["prompt"]).config or {}
    row = f"{config['num_virtual_tokens']} tokens, {str(config['prompt_tuning_init']).lower()} start"
    return Found(
        both(prompt >= lora / 2, best >= lora / 2),
        f"{share(prompt)} right answers in the benchmark's 'default' row ({row}), {PROMPT_RATE} at ten times the "
        f"learning rate, {PROMPT_VOCABULARY} with a start from the vocabulary too; LoRA {share(lora)}",
        "'Well' is taken to mean at least half of LoRA's accuracy. Prompt Tuning matches full fine-tuning only "
        "on very large models, and depends on learning rate and start more than on anything else.",
        {"prompt": prompt, "lora": lora},
    )


def _apart(first: float, second: float) -> tuple[float, str]:
    """The standard error of a difference of two scores in points, and the sentence that gives it."""
    points = 100 * error(first / 100, second / 100, TESTED)
    return points, f"one seed each; a difference of up to {SURE * points:.1f} points may be chance"


def _near_baseline(model: Subject) -> Found:
    full, lora = accuracy("full"), accuracy("lora")
    points, chance = _apart(full, lora)
    return Found(
        apart(lora - NEAR * full, points),
        f"LoRA {share(lora)} right answers, full fine-tuning {share(full)}, {chance}",
        f"'Near' is taken to mean at least {share(100 * NEAR)} of full fine-tuning's score. One seed of one narrow "
        "task hardly shows that; where there is more to learn than it can hold, LoRA stays behind.",
        {"full": full, "lora": lora, "error": points},
    )


def _full_best(model: Subject) -> Found:
    full, best = accuracy("full"), max(published.rows().values(), key=lambda row: row.accuracy)
    points, chance = _apart(full, 100 * best.accuracy)
    return Found(
        apart(full - 100 * best.accuracy, points),
        f"{best.title} {share(100 * best.accuracy)}, full fine-tuning {share(full)}, {chance}",
        "More parameters can fit the training data better and forget more of the rest; settings decide.",
        {"full": full, "best": 100 * best.accuracy, "error": points},
    )


def _dora(model: Subject) -> Found:
    dora, lora = published_row(DORA), published_row(PUBLISHED["lora"])
    slower = 100 * (dora.seconds / lora.seconds - 1)
    gain = 100 * (dora.accuracy - lora.accuracy)
    points, chance = _apart(100 * dora.accuracy, 100 * lora.accuracy)
    right = [units.count(row.accuracy * TESTED) for row in (dora, lora)]
    return Found(
        apart(gain, points),
        f"DoRA {right[0]} right of {units.count(TESTED)} answers, LoRA {right[1]}: {abs(gain):.1f} points "
        f"{'more' if gain > 0 else 'fewer'}, {chance}; DoRA's training steps took {share(slower)} longer",
        "One seed of one task: so small a difference proves nothing. A gain cannot be seen; the cost in time can.",
        {"dora": dora.accuracy, "lora": lora.accuracy, "slower": slower, "error": points},
    )


def _settings(model: Subject) -> Found:
    plain, tuned = published_row(PUBLISHED["ia3"]), published_row(TUNED_IA3)
    gain = 100 * (tuned.accuracy - plain.accuracy)
    gap = accuracy("lora") - 100 * plain.accuracy
    return Found(
        "wrong" if gain >= gap else "imprecise" if gain >= gap / 2 else "right",
        f"other targets and learning rate take IA³ from {share(100 * plain.accuracy)} to "
        f"{share(100 * tuned.accuracy)}; "
        f"LoRA has {share(accuracy('lora'))}",
        "If better settings close less than half of the gap to LoRA, the method matters more; if they close at "
        "least half of it, both matter. A comparison at one setting compares settings as much as methods.",
        {"gain": gain, "gap": gap},
    )


def _scale(model: Subject) -> Found:
    large = [entry for entry in catalogue().values() if entry.parameters >= PROMPT_SCALE.value]
    return Found(
        about(PROMPT_SCALE.value, STATED_SCALE),
        f"near full fine-tuning from about {units.short_count(PROMPT_SCALE.value)} parameters; of "
        f"{len(catalogue())} models listed here {len(large)} {'is' if len(large) == 1 else 'are'} as large",
        "On smaller models it stays behind, by more the smaller they are.",
        {"scale": PROMPT_SCALE.value},
    )


def _bitfit_small(model: Subject) -> Found:
    return Found(
        "right",
        f"on BERT models it kept up with full fine-tuning where data was small to medium, with {BIASES_OF_BERT} "
        f"of the "
        "base model's parameters",
        "With more data full fine-tuning pulls ahead.",
        {"share": BIASES_OF_BERT.value},
    )


def _seq2seq(model: Subject) -> Found:
    prefix = accuracy("prefix")
    return Found(
        "imprecise",
        f"made for tables to text and summaries, where it came near full fine-tuning; on a decoder and "
        f"mathematics it "
        f"reached {share(prefix)}, LoRA {share(accuracy('lora'))}, {times(accuracy('lora') / prefix)} as much",
        "Good evidence for the tasks of its paper, which used decoders too; nothing makes it the first choice "
        "for all "
        "text-to-text tasks.",
        {"prefix": prefix},
    )


CLAIMS = (
    cited(
        id="prompt-good", topic="prompt", check=_prompt_good, how=src.BENCH,
        claim="Prompt Tuning performs well.", quote="Prompt Tuning | <0.01% | Minimal | Good",
    ),
    cited(
        id="lora-near-baseline", topic="lora", check=_near_baseline, how=src.BENCH,
        facts=(
            fact("lora", FIRST, kind="causal-lm", objective="sft", rows="some", tasks="one", base="sixteen"),
        ),
        claim="LoRA comes near full fine-tuning.", quote="PEFT (LoRA) | 0.1–1% | Low | Near-baseline",
    ),
    cited(
        id="prompt-large-scale", topic="prompt", check=_scale, how=f"{src.PROMPT}, section 3, figure 1",
        facts=(fact("prompt", NEAR_FULL, PROMPT_SCALE.value),),
        claim="Prompt Tuning works well above 10B.", quote="Works well at large model scales (>10B).",
    ),
    cited(
        id="bitfit-small-data", topic="bitfit", check=_bitfit_small, how=src.BITFIT,
        claim="BitFit suits small data sets.", quote="Simple classification tasks with small datasets",
    ),
    cited(
        id="prefix-seq2seq", topic="prefix", check=_seq2seq, how=f"{src.PREFIX}, section 6; {src.BENCH}",
        facts=(fact("prefix", FIRST, "", "never", kind="seq2seq"),),
        claim="For text-to-text tasks, take Prefix Tuning.",
        quote="Seq2seq (translation, summarization)? → Prefix Tuning",
    ),
    cited(
        id="full-always-best", topic="choosing", check=_full_best, how=src.BENCH, origin="saying",
        facts=(fact("full", FIRST, "", "never", kind="causal-lm", objective="sft", rows="some", tasks="one"),),
        claim="Full fine-tuning is always the most accurate.", quote="If you can afford it, tune everything.",
    ),
    cited(
        id="dora-better", topic="lora", check=_dora, how=src.BENCH, origin="saying",
        claim="DoRA is better than LoRA.", quote="DoRA is LoRA, only better.",
    ),
    cited(
        id="method-matters-most", topic="choosing", check=_settings, how=src.BENCH, origin="saying",
        claim="The method matters more than its settings.", quote="Pick the right method, the defaults will do.",
    ),
)  # fmt: skip
