"""What the source text says a method is, costs or is good for: read off the methods, PEFT, and published results."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab import units
from peft_lab.choose.cited import ADAPTER_LATENCY, ADAPTER_LATENCY_MOST
from peft_lab.choose.recommend import decide
from peft_lab.choose.room import room_of
from peft_lab.choose.situation import Situation
from peft_lab.claims.base import Claim, Found, Subject
from peft_lab.claims.judge import both, holds
from peft_lab.memory.devices import devices
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.quiz.fits import one_stack, prefixed, takes, with_biases
from peft_lab.units import Source

read = partial(Claim, source=Source.COUNTED)
cited = partial(Claim, source=Source.CITED, model=None)
TOKENS, CLASSES = 20, 2
BYTES = 2  # of a cached number
DORA = "lora--llama-3.2-3B-rank32-dora"
TUNED_IA3 = "ia3--llama-3.2-3B-all-attn-5k-lr0.005"
BOTTLENECK_WORDS = ("bottleneck", "houlsby", "pfeiffer", "reduction_factor")


def _bitfit_free(model: Subject) -> Found:
    shape = model.shape
    if not shape.biases:
        return Found(
            "wrong",
            f"{len(shape.biases)} biases in {shape.title}",
            "Where there are none, nothing can be trained.",
            {"added": 0},
        )
    formula = get_method("bitfit").formula(shape, get_method("bitfit").complete(shape, {}))
    return Found(
        holds(formula.added == 0),
        f"{units.count(formula.trainable)} biases trained, {formula.added} parameters added",
        "The biases are there already and are computed with whether they were trained or not.",
        {"added": formula.added},
    )


def _bitfit_simplest(model: Subject) -> Found:
    shape = model.shape
    there = takes("bitfit", shape)
    biases = model.trained("bitfit") if there else len(shape.biases)
    return Found(
        holds(there),
        f"{units.count(biases)} biases to train in {shape.title}",
        "The advice asks for the task only. The model decides first: Llama-type models have no biases.",
        {"biases": biases},
    )


def _bitfit_snippet(model: Subject) -> Found:
    frozen = CLASSES * model.shape.hidden
    return Found(
        both(bool(model.shape.biases), frozen == 0),
        f"{units.count(frozen)} weights of a new head for {CLASSES} classes stay at their random start",
        "The rule by name also freezes what was put on for the task. The paper trains the head too.",
        {"frozen": frozen},
    )


def _prompt_tokens(model: Subject) -> Found:
    shape = model.shape
    each = 2 * shape.num_layers * shape.kv_width * BYTES
    prefix, prompt = get_method("prefix"), get_method("prompt")
    values = {"num_virtual_tokens": TOKENS}
    taken = [spec.virtual_tokens(spec.complete(shape, values)) for spec in (prefix, prompt)]
    return Found(
        both(taken[0] > 0, taken[1] > 0),
        f"{TOKENS} virtual tokens take {units.size(TOKENS * each)} of every request's cache ({units.size(each)} each)",
        "Both kinds stand in every layer's cache: a prefix is written there, a prompt gets there by being read.",
        {"cache": TOKENS * each},
    )


def _v2(model: Subject) -> Found:
    spec = get_method("prefix")
    formula = spec.formula(model.shape, spec.complete(model.shape, {"num_virtual_tokens": TOKENS}))
    layers = formula.stored / (TOKENS * 2 * model.shape.kv_width)
    return Found(
        holds(layers == model.shape.num_layers),
        f"{units.count(formula.stored)} stored for {TOKENS} tokens: keys and values for {layers:.0f} layers",
        "In PEFT it is Prefix Tuning without projection, with a head where a class is chosen; there is no class of "
        "that name.",
        {"stored": formula.stored},
    )


def _snippet(model: Subject) -> Found:
    from peft import AdaptionPromptConfig, PeftType

    names = [str(kind.value).lower() for kind in PeftType]
    bottlenecks = [name for name in names if any(word in name for word in BOTTLENECK_WORDS)]
    fields = [name for name in AdaptionPromptConfig.__dataclass_fields__ if name.startswith("adapter_")]
    return Found(
        holds(bool(bottlenecks) or any(word in name for name in fields for word in BOTTLENECK_WORDS)),
        f"{len(bottlenecks)} of PEFT's {len(names)} methods are bottleneck adapters; AdaptionPrompt's own settings are "
        + ", ".join(fields),
        "AdaptionPrompt is LLaMA-Adapter: gated prompts in the upper layers. The adapters library, which has the "
        "bottleneck ones, is bound to an older transformers. This lab has its own.",
        {"bottlenecks": len(bottlenecks)},
    )


def _adapters_pass(model: Subject) -> Found:
    return Found(
        holds(not get_method("adapters").mergeable),
        f"in a published measurement a single row took {ADAPTER_LATENCY} to {ADAPTER_LATENCY_MOST} longer",
        "The nonlinearity between the two matrices cannot be folded into the weights, so the layers stay, in sequence.",
        {"least": ADAPTER_LATENCY.value, "most": ADAPTER_LATENCY_MOST.value},
    )


def _ia3_cost(model: Subject) -> Found:
    ia3 = get_method("ia3")
    return Found(
        "imprecise" if ia3.mergeable else "right",
        f"{units.count(model.trained('ia3'))} multiplications a token if they are kept apart, none when merged",
        "l⊙(Wx) = (l⊙W)x: the vectors can be multiplied into the weights, and nothing is left of them.",
        {"vectors": model.trained("ia3")},
    )


def _large_limited(model: Subject) -> Found:
    methods, said, needs = [], [], {}
    for name, device in (("llama-3.1-8b", "rtx-3060"), ("llama-3.1-70b", "h200")):
        decided = decide(Situation(model=name, device=device), room_of(Situation(model=name, device=device)))
        methods.append(decided.advice.method)
        assert decided.plan is not None
        needs[name] = float(decided.plan.needed_bytes)
        step = f"a step needs {units.size(decided.plan.needed_bytes)} of {units.size(decided.plan.memory_bytes)} usable"
        title, card = get_model(name).title, devices()[device].title.partition(",")[0]
        said.append(f"{title} on a {card}: {decided.advice.title} ({step})")
    return Found(
        "right" if methods == ["lora", "qlora"] else "imprecise",
        "; ".join(said),
        "Size alone does not decide: what a step needs against what the device has does.",
        needs,
    )


CLAIMS = (
    read(
        id="bitfit-free", topic="bitfit", check=_bitfit_free, model="bert-base", fits=one_stack,
        how="parameters that the method adds, by its formula",
        claim="BitFit costs nothing at inference.", said="BitFit | ~0.08% | None",
    ),
    read(
        id="bitfit-snippet", topic="bitfit", check=_bitfit_snippet, model="bert-base", fits=with_biases,
        how="the head that transformers puts on, by the model's width",
        claim="Freezing every parameter without 'bias' in its name is all there is to it.",
        said='if "bias" not in name: param.requires_grad = False',
    ),
    read(
        id="bitfit-classification", topic="choosing", check=_bitfit_simplest, fits=one_stack,
        how="biases in the model's shape",
        claim="For simple classification with little data, take BitFit.",
        said="Simple classification, small dataset? → BitFit",
    ),
    read(
        id="prompt-tokens-cost", topic="serving", check=_prompt_tokens, fits=prefixed,
        how="bytes of keys and values by the model's shape",
        claim="Prefix and prompt methods cost extra tokens.", said="Extra tokens per layer … Prepend tokens",
    ),
    read(
        id="ptuning-v2", topic="ptuning", check=_v2, fits=prefixed, how="closed formula of the prefix",
        claim="P-Tuning v2 puts prompts into every layer, like Prefix Tuning.",
        said="P-Tuning v2 applies prompts at every transformer layer (similar to prefix tuning).",
    ),
    read(
        id="adapters-snippet", topic="adapters", check=_snippet, model=None, needs="torch",
        how="the methods and settings that the installed PEFT has",
        claim="PEFT's AdaptionPromptConfig makes adapter layers.",
        said="from peft import AdaptionPromptConfig  # or use adapter-transformers lib",
    ),
    cited(
        id="adapters-extra-pass", topic="adapters", check=_adapters_pass, how=f"{src.LORA}, table 1",
        claim="Adapters cost an extra forward pass through their layers.", said="Adapters | 1–4% | Extra forward pass",
    ),
    read(
        id="ia3-scaling-cost", topic="ia3", check=_ia3_cost, fits=one_stack,
        how="the method's formula and whether it merges",
        claim="IA³ costs scaling vectors at inference.", said="IA³ | <0.01% | Scaling vectors",
    ),
    Claim(
        id="qlora-by-size", topic="choosing", check=_large_limited, source=Source.SIMULATED, model=None, needs="torch",
        how="the decision tree, asked with simulated steps",
        claim="Above 30B on a limited GPU, take QLoRA.", said="Large model (>30B) on limited GPU? → QLoRA",
    ),
)  # fmt: skip
