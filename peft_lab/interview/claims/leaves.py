"""The source text's leaves and "best for" lines that name a method for a wish: who else grants it, at what price."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.facts import FIRST, MERGES, fact
from peft_lab.core.units import Source
from peft_lab.interview.claims.base import Claim, Found, Subject, both, holds
from peft_lab.interview.claims.figures import accuracy, share
from peft_lab.interview.question import one_stack, takes
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelShape
from peft_lab.studies.compare.shipped import all_shipped

counted = partial(Claim, source=Source.COUNTED, topic="choosing", fits=one_stack)
TASKS = 20
BYTES = 4  # of a stored number: adapters are saved in float32


def _methods(shape: ModelShape) -> list[str]:
    """Slugs of the parameter-efficient methods that run on a model at their defaults."""
    return [slug for slug in all_methods() if slug != "full" and takes(slug, shape)]


def _titles(slugs: list[str]) -> str:
    return ", ".join(get_method(slug).title for slug in slugs)


def _leaves_nothing(slug: str, shape: ModelShape) -> bool:
    """Whether a request takes what it takes on the base: merged, or with nothing added. A base in few bits stays slow,
    or loses in the merge what it learnt or its few bits."""
    spec = get_method(slug)
    if spec.quantization(spec.complete(shape, {})):
        return False
    return spec.mergeable or not spec.formula(shape, spec.complete(shape, {})).added


def _no_overhead(model: Subject) -> Found:
    shape = model.shape
    methods = _methods(shape)
    free = [slug for slug in methods if _leaves_nothing(slug, shape)]
    return Found(
        "imprecise" if len(free) > 1 and "lora" in free else holds(free == ["lora"]),
        f"{len(free)} of the {len(methods)} methods that run here can leave nothing behind: {_titles(free)}",
        "Changes of weights can be merged into them, and changed biases add nothing in the first place. But "
        "merging ends swapping: once merged, every task needs its own copy of the model.",
        {"free": len(free), "methods": len(methods)},
    )


def _many_tasks(model: Subject) -> Found:
    shape = model.shape
    stored = {slug: model.stored(slug) * BYTES for slug in _methods(shape) if slug != "qlora"}
    least = sorted(stored, key=stored.__getitem__)[:3]
    said = ", ".join(f"{get_method(slug).title} {units.size(TASKS * stored[slug])}" for slug in least)
    verdict = "right" if least[0] == "adapters" else "imprecise"
    return Found(
        verdict,  # type: ignore[arg-type]
        f"{TASKS} tasks store {units.size(TASKS * stored['adapters'])} as adapter layers, "
        f"{units.size(TASKS * stored['lora'])} as LoRA; least: {said}",
        "Whatever stays apart from the base can be swapped for each request, and most of it is smaller. Servers such "
        "as vLLM swap LoRA and no adapter layers, which also make every request longer, as they cannot be merged.",
        {slug: float(size) for slug, size in stored.items()},
    )  # fmt: skip


def _few_shot(model: Subject) -> Found:
    shape = model.shape
    trained = {slug: model.trained(slug) for slug in _methods(shape)}
    order = sorted(trained, key=trained.__getitem__)
    named = [slug for slug in ("ia3", "prompt") if slug in trained]
    said = ", ".join(f"{get_method(slug).title} {units.count(trained[slug])}" for slug in order[:3])
    return Found(
        both(
            all(slug in order[:2] for slug in named),
            max(accuracy(slug) for slug in ("ia3", "prompt")) >= accuracy("lora"),
        ),
        f"fewest trained at their defaults: {said}",
        "Few parameters are one thing, few rows another. IA³ was made for few rows and tested there, on a base made "
        "for it; a small LoRA with early stopping and several seeds trains few parameters as well. Prompt Tuning needs "
        "a large base and many steps.",
        {slug: float(count) for slug, count in trained.items()},
        f"In the published comparison (mathematics, many rows) IA³ had {share(accuracy('ia3'))} right answers, LoRA "
        f"{share(accuracy('lora'))}",
    )


def _ptuning_nlu(model: Subject) -> Found:
    shipped = next(each for each in all_shipped().values() if each["metric"]["name"] == "accuracy")
    rows = {row["method"]: row for row in shipped["rows"]}
    own = rows["ptuning"]
    others = [
        slug for slug, row in rows.items() if slug not in ("full", "ptuning") and row["status"] == "done"
    ]
    pairs = [pair for pair in shipped["pairs"] if pair["apart"] and pair["worse"] == "ptuning"]
    above = [pair["better"] for pair in pairs if pair["better"] in others]
    return Found(
        "imprecise",  # no figure decides: v2 is for that use, and it is the prefix that is said to underperform
        f"as a classifier on {get_model(shipped['plan']['model']).title} P-Tuning got {own['metric_mean']:.1%} right, "
        f"less than {len(above)} of {len(others)} other methods by more than the spread over seeds explains"
        f"{f' ({_titles(above)})' if above else ''}",
        "Prompts at the input alone, which is P-Tuning as it was first, are what underperforms in understanding. Its "
        "second version was made for it, and is Prefix Tuning adapted to that use: prompts in every layer. PEFT's own "
        "Prefix Tuning does not run on encoders, which says nothing of how well it learns.",
        {"ptuning": own["metric_mean"], "above": len(above)},
        f"Prompts at the input did 'not perform well for normal-sized pretrained models' in understanding, deep ones "
        f"matched fine-tuning across sizes: {src.PTUNING2}, abstract",
    )


CLAIMS = (
    counted(
        id="leaf-no-overhead", check=_no_overhead, how="parameters that each method adds, and whether it merges",
        facts=(
            fact("lora", MERGES),
            fact("ia3", MERGES),
        ),
        claim="For zero inference overhead, take LoRA.", quote="Need zero inference overhead (merge weights)? → LoRA",
    ),
    counted(
        id="leaf-many-tasks", check=_many_tasks, how="stored parameters by each method's formula, four bytes each",
        facts=(fact("adapters", FIRST, "", "never", tasks="many", kind="causal-lm"),),
        claim="For many tasks on one base, take adapter layers.",
        quote="Serving many tasks on one base model? → Adapter Layers (swap per request)",
    ),
    counted(
        id="leaf-few-shot", check=_few_shot, how="trainable parameters by each method's formula",
        facts=(
            fact("ia3", FIRST, "", "never", rows="few", tasks="one", kind="causal-lm"),
            fact("prompt", FIRST, "", "never", rows="few", tasks="one", kind="causal-lm"),
        ),
        claim="For few rows and few parameters, take IA³ or Prompt Tuning.",
        quote="Minimal params, few-shot setting? → IA³ or Prompt Tuning",
    ),
    Claim(
        id="ptuning-nlu", topic="ptuning", check=_ptuning_nlu, model=None, source=Source.MEASURED,
        how=f"the comparison on sentiment that ships with this lab, beside {src.PTUNING2}",
        claim="P-Tuning is for classification, where Prefix Tuning underperforms.",
        quote="NLU tasks (classification, NER) where prefix tuning underperforms.",
    ),
)  # fmt: skip
