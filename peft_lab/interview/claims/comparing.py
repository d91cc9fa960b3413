"""Check claims that formulas cannot decide (:mod:`peft_lab.interview.claims.deciding`): by shapes, settings of PEFT,
published results, comparisons that ship with the lab, and a short training."""

from __future__ import annotations

from peft_lab.advise.tree import PROMPT_RATE, PROMPT_SCALE, PROMPT_VOCABULARY
from peft_lab.advise.words import PUBLISHED
from peft_lab.engine import published
from peft_lab.interview.claims.verdicts import Checked, ClaimModel, about, apart, both, error, holds
from peft_lab.interview.question import takes
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import catalogue, get_model
from peft_lab.models.shapes import ModelShape
from peft_lab.studies import tiny
from peft_lab.studies.compare.shipped import all_shipped

TESTED = 1_319  # questions of GSM8K's test set, which the published comparison is scored on
STATED_SCALE = 10e9  # parameters, as the saying has it
BOTTLENECK_WORDS = ("bottleneck", "houlsby", "pfeiffer", "reduction_factor")
TASKS = 20
BYTES = 4  # of a stored number: adapters are saved in float32
DEVICES = {"cpu": "a processor", "cuda": "a GPU", "mps": "Apple silicon"}

# ----------------------------------------
# Published results.


def accuracy(method: str) -> float:
    """Return the percentage of right answers in the published comparison."""
    return 100 * published.rows()[PUBLISHED[method]].accuracy


def deviation(first: float, second: float) -> float:
    """Return the standard error of the difference of two published scores, all in percent."""
    return 100 * error(first / 100, second / 100, TESTED)


def prompt_good(model: ClaimModel) -> Checked:
    prompt, lora = accuracy("prompt"), accuracy("lora")
    best = max(PROMPT_RATE.value, PROMPT_VOCABULARY.value)
    config = published.rows()[PUBLISHED["prompt"]].config or {}
    return Checked(
        both(prompt >= lora / 2, best >= lora / 2),
        {"prompt": prompt, "lora": lora},
        {
            "tokens": config["num_virtual_tokens"],
            "start": str(config["prompt_tuning_init"]).lower(),
            "faster": str(PROMPT_RATE),
            "vocabulary": str(PROMPT_VOCABULARY),
        },
    )


def full_always_best(model: ClaimModel) -> Checked:
    full, top = accuracy("full"), max(published.rows().values(), key=lambda row: row.accuracy)
    best = 100 * top.accuracy
    points = deviation(full, best)
    return Checked(
        apart(full - best, points),
        {"full": full, "best": best, "error": points},
        {"title": top.title, "chance": 2 * points},
    )


def prompt_large_scale(model: ClaimModel) -> Checked:
    large = [entry for entry in catalogue().values() if entry.parameters >= PROMPT_SCALE.value]
    return Checked(
        about(PROMPT_SCALE.value, STATED_SCALE),
        {"scale": PROMPT_SCALE.value},
        {"listed": len(catalogue()), "large": len(large)},
        "one" if len(large) == 1 else "",
    )


# ----------------------------------------
# Comparisons that ship with the lab, and a short training.


def ptuning_nlu(model: ClaimModel) -> Checked:
    shipped = next(each for each in all_shipped().values() if each["metric"]["name"] == "accuracy")
    rows = {row["method"]: row for row in shipped["rows"]}
    own = rows["ptuning"]
    others = [
        slug for slug, row in rows.items() if slug not in ("full", "ptuning") and row["status"] == "done"
    ]
    pairs = [pair for pair in shipped["pairs"] if pair["apart"] and pair["worse"] == "ptuning"]
    above = [pair["better"] for pair in pairs if pair["better"] in others]
    return Checked(
        "imprecise",  # no figure decides: v2 is for that use, and it is the prefix that is said to underperform
        {"ptuning": own["metric_mean"], "above": len(above)},
        {
            "trained_on": get_model(shipped["plan"]["model"]).title,
            "others": len(others),
            "titles": ", ".join(get_method(slug).title for slug in above),
        },
        "" if above else "none above",
    )


def qlora_overhead(model: ClaimModel) -> Checked:
    (lost,) = tiny.merged_into_four_bits()
    shipped = next(each for each in all_shipped().values() if each["inference_unit"] == "token")
    row = next(row for row in shipped["rows"] if row["method"] == "qlora")
    longer = 100 * row["added_seconds"] / row["base_inference_seconds"]
    entry = get_model(shipped["plan"]["model"])
    return Checked(
        both(longer > 0, not get_method("lora").mergeable),  # the merged adapter is LoRA's, on a 16-bit base
        {"lost": lost, "longer": longer},
        {
            "trained_on": entry.title,
            "parameters": entry.parameters,
            "device": DEVICES[shipped["device"]],
            "lost_share": 100 * lost,
        },
    )


def qlora_merge(model: ClaimModel) -> Checked:
    found = tiny.merge_scores()
    kept = found.scores[tiny.UNMERGED]
    differences = {way: kept - found.scores[way] for way in tiny.WAYS_OF_MERGING}
    error_of_one = (kept * (1 - kept) / found.rows) ** 0.5
    same = [way for way in tiny.WAYS_OF_MERGING if abs(differences[way]) <= 2 * error_of_one]
    return Checked(
        "right" if len(same) == len(tiny.WAYS_OF_MERGING) else "imprecise" if same else "wrong",
        {f"score {way}": 100 * score for way, score in found.scores.items()}
        | {
            "lost": found.lost,
            "shift": found.shift,
            "error": 100 * error_of_one,
            "correction": 100 * found.correction,
            "rounding": 100 * found.rounding,
        },
        {
            "trained_on": get_model(tiny.MERGING_REQUEST.model).title,
            "steps": tiny.MERGING_REQUEST.steps,
            "rows": found.rows,
        },
    )


# ----------------------------------------
# Shapes, and what the installed PEFT has.


def qlora_snippet(model: ClaimModel) -> Checked:
    """Count the maps that the snippet adapts, beside all: the paper adapts every one."""
    shape = model.shape
    adapted = [shape.block[role] for role in ("q", "k", "v", "o")]
    everything = [group for group in shape.matrices if group.layers]
    weights = [sum(group.each * group.count for group in groups) for groups in (adapted, everything)]
    names = [len({shape.target_name(group) for group in groups}) for groups in (adapted, everything)]
    return Checked(
        both(True, names[0] == names[1]),  # the base is in NF4 with double quantisation, as the paper has it
        {"adapted": names[0], "maps": names[1], "weights": 100 * weights[0] / weights[1]},
    )


def adapters_snippet(model: ClaimModel) -> Checked:
    from peft import AdaptionPromptConfig, PeftType

    names = [str(kind.value).lower() for kind in PeftType]
    bottlenecks = [name for name in names if any(word in name for word in BOTTLENECK_WORDS)]
    fields = [name for name in AdaptionPromptConfig.__dataclass_fields__ if name.startswith("adapter_")]
    return Checked(
        holds(bool(bottlenecks) or any(word in name for name in fields for word in BOTTLENECK_WORDS)),
        {"bottlenecks": len(bottlenecks)},
        {"methods": len(names), "settings": ", ".join(fields)},
    )


def prompt_tokenizer(model: ClaimModel) -> Checked:
    """Compare vocabularies: the snippet reads its starting text with GPT-2's tokenizer, whatever the model."""
    theirs, own = get_model("gpt2").shape, model.shape
    assert theirs.vocab and own.vocab
    missing = max(0, theirs.vocab - own.vocab)
    same = own.model_type == theirs.model_type and not missing
    return Checked(
        holds(same),
        {"theirs": theirs.vocab, "own": own.vocab, "missing": missing},
        case="the same" if same else "some missing" if missing else "none missing",
    )


# ----------------------------------------
# The source text's leaves that name a method for a wish: who else grants it, at what price.


def _methods(shape: ModelShape) -> list[str]:
    """Return the slugs of the parameter-efficient methods that run on a model at their defaults."""
    return [slug for slug in all_methods() if slug != "full" and takes(slug, shape)]


def leaf_no_overhead(model: ClaimModel) -> Checked:
    methods = _methods(model.shape)
    free = []
    for spec in map(get_method, methods):  # a base in few bits stays slow, or merging loses what was learned
        values = spec.complete(model.shape, {})
        adds = spec.formula(model.shape, values).added
        if not spec.quantization(values) and (spec.mergeable or not adds):
            free.append(spec.slug)
    return Checked(
        "imprecise" if len(free) > 1 and "lora" in free else holds(free == ["lora"]),
        {"free": len(free), "methods": len(methods)},
        {"titles": ", ".join(get_method(slug).title for slug in free)},
    )


def leaf_many_tasks(model: ClaimModel) -> Checked:
    stored = {slug: model.stored(slug) * BYTES for slug in _methods(model.shape) if slug != "qlora"}
    least = sorted(stored, key=stored.__getitem__)[:3]
    return Checked(
        "right" if least[0] == "adapters" else "imprecise",
        {slug: float(size) for slug, size in stored.items()},
        {
            "tasks": TASKS,
            "as_adapters": TASKS * stored["adapters"],
            "as_lora": TASKS * stored["lora"],
            "least": [(get_method(slug).title, TASKS * stored[slug]) for slug in least],
        },
    )


def leaf_few_shot(model: ClaimModel) -> Checked:
    trained = {slug: model.trained(slug) for slug in _methods(model.shape)}
    order = sorted(trained, key=trained.__getitem__)
    named = [slug for slug in ("ia3", "prompt") if slug in trained]
    ia3, prompt, lora = map(accuracy, ("ia3", "prompt", "lora"))
    return Checked(
        both(all(slug in order[:2] for slug in named), max(ia3, prompt) >= lora),
        {slug: float(count) for slug, count in trained.items()},
        {
            "least": [(get_method(slug).title, trained[slug]) for slug in order[:3]],
            "ia3_right": ia3,
            "lora_right": lora,
        },
    )
