"""The leaves of the tree and their fallbacks: a method with its settings and the reasons for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peft_lab.advise.cited import PROMPT_SCALE
from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.core.units import Source
from peft_lab.methods import get_method
from peft_lab.methods.shared import targets
from peft_lab.models.shapes import ModelShape, a_model

# ----------------------------------------
# A leaf: a method with its configuration, the reasons for it, and the fallbacks if it does not work.
#
# Texts are templates; :mod:`peft_lab.advise.words` fills ``{name}`` with a figure of the situation, computed or
# cited there. Each reason carries its source.


PROMPTING, RETRIEVAL, NOTHING = (
    "prompting",
    "retrieval",
    "none",
)  # outcomes that are not methods of the registry
UNTRAINED = (PROMPTING, RETRIEVAL, NOTHING)
ALL = ("all-linear",)
# Placeholders for the architecture's own names, see :meth:`Advice.knobs`.
QUERY_VALUE = ("query-value",)
KEYS, VALUE = ("keys",), ("value",)
#: Roles of a block whose linear map computes the keys, or the values.
_ROLES = {KEYS: ("k", "qkv"), VALUE: ("v", "qkv")}
_TITLES = {
    PROMPTING: "Prompting, no training", RETRIEVAL: "Retrieval, no training", NOTHING: "Another model or device",
}  # fmt: skip
_SHORT = {PROMPTING: "Prompting", RETRIEVAL: "Retrieval", NOTHING: "Too large", "full": "Full tuning"}


@dataclass(frozen=True)
class Reason:
    """A reason: its text, where it comes from, and which kind of source that is.

    Attributes:
        kind: ``None`` if the text follows from a definition: there is nothing to count or to cite.
        when: a question and the answer under which this is a reason; ``None`` if it always is. Advice also serves
            as a fallback, so not every reason holds wherever the advice is given.
    """

    text: str
    source: str
    kind: Source | None = Source.CITED
    when: tuple[str, str] | None = None


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Attributes:
        method: slug, or one of :data:`UNTRAINED`.
        values: knobs that differ from the method's defaults.
        reasons: why it is right where the tree leads to it.
        others: fallback advice, best first; the first that works is also the runner-up.
        instead: as the runner-up: when it is better than what was chosen.
        named: its name in the drawing, if the method's name says too little.
    """

    id: str
    method: str
    reasons: tuple[Reason, ...]
    others: tuple[str, ...] = ()
    instead: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    named: str = ""

    @property
    def title(self) -> str:
        """Return the method's name, or what to do if no method is advised."""
        return _TITLES.get(self.method) or get_method(self.method).title

    @property
    def short(self) -> str:
        """Return its name in the drawing."""
        return self.named or _SHORT.get(self.method) or self.title

    def knobs(self, shape: ModelShape) -> dict[str, Any]:
        """Return the knobs for a model. ``query-value`` becomes LoRA's default targets, ``keys`` and ``value``
        the map of these; all linear maps of a mixture of experts: each but the router, and the experts' stacks.

        Raises:
            BadInput: the advice names a map that the model does not have.
        """
        values = dict(self.values)
        named = values.get("target_modules")
        if named == QUERY_VALUE:
            values["target_modules"] = get_method("lora").defaults(shape)["target_modules"]
        usual = ALL if self.method == "qlora" else None
        if shape.mixtures and values.get("target_modules", usual) == ALL:
            values |= targets.every_map(shape)
        if named in _ROLES:
            block = shape.block
            role = next((role for role in _ROLES[named] if role in block), None)
            if role is None:
                raise BadInput(
                    f"{shape.title} has no map of {named[0]} that PEFT Lab recognises.", "target_modules"
                )
            values["target_modules"] = (shape.target_name(block[role]),)
        return values


ONE, MANY = ("tasks", "one"), ("tasks", "many")
#: Fallbacks, best first, if hardly anything may be stored.
SMALL = ("lora-small", "lora-tiny", "lora-one-map", "ia3-small", "ia3-least", "prompt", "prompt-short")
#: The same settings on a 4-bit base, if 16 bits do not fit.
FOUR = ("qlora", "qlora-small", "qlora-least", "qlora-one-map")

_COUNT = "the method's formula, checked against a count on the model"
_STEP = "simulated training step"
_MERGES = Reason(
    "It can be merged into the weights: a request takes as long as on the base.", f"{src.LORA}, section 4.1", when=ONE
)  # fmt: skip
_UNMERGED = Reason(
    "Unmerged it costs two thin matrix products per map; merged, every task needs its own copy of the base.",
    f"{src.LORA}, section 4.2", when=MANY,
)  # fmt: skip
_ALL_MAPS = Reason(
    "Adapting every linear map, the feed-forward ones above all, is what it takes to match full fine-tuning; the rank "
    "matters less.", f"{src.QLORA}, section 4, figure 2; {src.LORA_REGRET}, Layers Where LoRA Is Applied",
)  # fmt: skip
_BENCH = Reason(
    "In the published comparison on {bench_base} {name} reached {accuracy} right answers, LoRA {lora_accuracy}.",
    src.BENCH,
)  # fmt: skip
_STORES = Reason(
    "It trains {trained} parameters of {model}, {share}, and stores {stored} per task.",
    _COUNT,
    Source.COUNTED,
)
_TENANTS = (
    Reason("Servers hold one base and apply the adapter of each request: thousands of LoRAs were served so.",
           f"{src.SLORA}; {src.PUNICA}"),
    Reason("vLLM and servers like it serve LoRA; adapter layers, IA³ and prefixes they do not.", src.VLLM),
    Reason("vLLM takes ranks up to {vllm_rank} unless max_lora_rank says more.", src.VLLM, when=("serving", "vllm")),
    Reason("Each customer's data trains an adapter of its own: nothing of one is in another's weights.",
           "by definition", None),
)  # fmt: skip
_FOLDS = (
    Reason("Its vectors can be multiplied into the weights, so that nothing is added to a request.",
           f"{src.IA3}, section 3.3", when=ONE),
    Reason("Unmerged it costs one multiplication per feature; merged, every task needs its own copy of the base.",
           f"{src.IA3}, section 3.3", when=MANY),
)  # fmt: skip
_SIXTEEN = Reason(
    "With the base in 16 bits one row needs {lora_least}; in 4 bits it needs {qlora_least}. {allowance}",
    _STEP, Source.SIMULATED, when=("base", "four"),
)  # fmt: skip
_FOUR = "stores the base in 4 bits: choose it when memory is short, at the price of time."
_LESS_ROOM = Reason(
    "Rank {r} on fewer maps is a smaller setting that fits the storage per task: {stored}.",
    _COUNT,
    Source.COUNTED,
)
_PROMPT_PRICE = Reason(
    "The price: below about {scale} parameters it stays behind full fine-tuning, and {model} has {total}.",
    f"{src.PROMPT}, section 3", when=("scale", "small"),
)  # fmt: skip
_PROMPT_INSTEAD = "stores little; whether it learns depends on its settings and its start."
_KEEPS = Reason(
    "It forgets less of what the base could do than full fine-tuning does.", f"{src.LEARNS_LESS}, section 4.2",
    when=("forgetting", "matters"),
)  # fmt: skip
_BESIDE = Reason(
    "Unmerged, the base stays what it was: whoever uses it without the adapter notices nothing.", "by definition", None,
    when=("forgetting", "matters"),
)  # fmt: skip
_SEEDS = Reason(
    "With few rows the seed moves the result as much as the method: train several, stop by held-out rows, and report "
    "the spread.", src.FEW_SAMPLE, when=("rows", "few"),
)  # fmt: skip
_LARGE = {"r": 64, "lora_alpha": 16, "target_modules": ALL, "use_rslora": True}
_LARGE_RANK = (
    Reason("A large rank follows full fine-tuning until it has learnt more than it can hold; small ranks leave it "
           "earlier.", f"{src.LORA_REGRET}, LoRA rank"),
    Reason("On {many} rows of code and mathematics small ranks fell behind full fine-tuning, rank {high_rank} hardly.",
           f"{src.LEARNS_LESS}, section 4.1", when=("rows", "many")),
    Reason("Rank {r} with the scale α/√r, so that the large rank keeps learning.", f"{src.RSLORA}, section 3"),
)  # fmt: skip
_STANDARD = {"r": 16, "lora_alpha": 32, "target_modules": ALL}
_LORA_INSTEAD = "merges, stores little, and is what every tool supports."

_ADVICE = (
    Advice("prompt-only", PROMPTING, (
        Reason("If a prompt is enough, there is no training, no adapter and no second model to maintain.",
               "by definition", None),
        Reason("The price is paid in every request: examples in the context are read again each time. With many "
               "requests, tuning becomes cheaper.", src.IA3),
    )),
    Advice("retrieval", RETRIEVAL, (
        Reason("Facts that were looked up and put into the prompt were used better than facts that fine-tuning was to "
               "teach.", src.RETRIEVAL),
        Reason("What is looked up can be changed or withdrawn without training, and shows where an answer is from.",
               "by definition", None),
        Reason("The price is paid in every request: what was found is read each time.", "by definition", None),
    )),
    Advice("nothing", NOTHING, (
        Reason("Even one row on a 4-bit base, checkpointed, with paged 8-bit moments, its loss in chunks and "
               "activations in main memory where that can be, needs {too_much}. {allowance}", _STEP, Source.SIMULATED),
        Reason("{smaller}", "simulated training steps of the catalogue's models", Source.SIMULATED),
    )),
    Advice("no-way", NOTHING, ()),
    Advice("qlora", "qlora", (
        _SIXTEEN,
        Reason("A 4-bit base with adapters on every linear map matched 16-bit fine-tuning.", f"{src.QLORA}, section 4"),
        Reason("It saves memory, not time: every multiplication has to dequantise its weights first.",
               f"{src.QLORA}, section 3"),
        _SEEDS,
    ), FOUR[1:], _FOUR),
    Advice("qlora-tenants", "qlora", (_SIXTEEN, *_TENANTS, _UNMERGED, _SEEDS), ("qlora", *FOUR[1:]), _FOUR,
           named="QLoRA, one each"),
    Advice("qlora-small", "qlora", (_LESS_ROOM, _SIXTEEN), (), _FOUR, {"r": 8, "target_modules": QUERY_VALUE}),
    Advice("qlora-least", "qlora", (_LESS_ROOM, _SIXTEEN), (), _FOUR, {"r": 1, "target_modules": QUERY_VALUE}),
    Advice("qlora-one-map", "qlora", (_LESS_ROOM, _SIXTEEN), (), _FOUR, {"r": 1, "target_modules": VALUE}),
    Advice("lora", "lora", (
        _MERGES, _UNMERGED, _ALL_MAPS,
        Reason("With data of the size that is usual after pretraining it learnt what full fine-tuning learns.",
               f"{src.LORA_REGRET}, introduction"),
        Reason("In the published comparison on {bench_base} it reached {lora_accuracy} right answers, full "
               "fine-tuning {full_accuracy}.", src.BENCH),
        _KEEPS, _BESIDE,
    ), (*SMALL[:3], *FOUR, *SMALL[3:]), _LORA_INSTEAD, _STANDARD),
    Advice("lora-few", "lora", (
        _SEEDS,
        Reason("A small rank is enough for what few rows can teach.", f"{src.LORA_REGRET}, LoRA rank"),
        _MERGES, _UNMERGED, _STORES,
    ), ("ia3", *SMALL[:3], *FOUR, "bitfit", *SMALL[3:]), _LORA_INSTEAD,
        {"r": 8, "lora_alpha": 16, "target_modules": ALL}, "Small LoRA, seeds"),
    Advice("lora-large", "lora", (*_LARGE_RANK, _KEEPS, _MERGES, _UNMERGED,
        Reason("Full fine-tuning needs {full_least} even for one row. {allowance}", _STEP,
               Source.SIMULATED, ("full", "no")),
    ), ("full-text", "lora", *SMALL[:3], *FOUR, *SMALL[3:]),
        "has more capacity than a small rank and still merges.", _LARGE,
        "LoRA, large rank"),
    Advice("lora-keeping", "lora", (*_LARGE_RANK,
        Reason("It forgets less of what the base could do than full fine-tuning does, and learns less of new text.",
               f"{src.LEARNS_LESS}, sections 4.1 and 4.2"),
        _BESIDE,
    ), ("full-text", "lora", *SMALL[:3], *FOUR, *SMALL[3:]), _LORA_INSTEAD, _LARGE, "LoRA, large rank"),
    Advice("lora-reward", "lora", (
        Reason("A reward says about one bit for each answer: in one study of reinforcement learning even rank 1 learnt "
               "as well as full fine-tuning.", f"{src.LORA_REGRET}, Reinforcement learning", when=("objective", "rl")),
        Reason("In others rank 1 was too little, and very high ranks collapsed: so a moderate one.",
               f"{src.RLVR_METHODS}, abstract; {src.RANK_COLLAPSE}, abstract", when=("objective", "rl")),
        Reason("The loss compares with the model as it was. With LoRA that is the same base with the adapter off, and "
               "no second copy.", f"{src.DPO}, section 4", when=("objective", "preference")),
        _MERGES, _UNMERGED, _ALL_MAPS,
    ), ("lora-small", *FOUR, "lora-tiny", "lora-one-map", *SMALL[3:]), _LORA_INSTEAD, _STANDARD, "LoRA"),
    Advice("lora-tenants", "lora", (*_TENANTS, _UNMERGED, _STORES, _SEEDS),
           (*SMALL[:3], *FOUR, *SMALL[3:]), "is swapped for each request by servers as they are.", _STANDARD,
           "LoRA, one each"),
    Advice("lora-small", "lora", (
        Reason("LoRA at its defaults fits the device and the storage per task: it stores {stored}.", _COUNT,
               Source.COUNTED),
        _MERGES, _UNMERGED,
    ), ("ia3", *FOUR), "can be merged, and is what every tool supports."),
    Advice("lora-tiny", "lora", (
        _LESS_ROOM, *_TENANTS[1:3], _MERGES, _UNMERGED,
        Reason("Even rank 1 was enough in one study where little is to be learnt for each row, in another too little.",
               f"{src.LORA_REGRET}, Reinforcement learning; {src.RLVR_METHODS}, abstract"),
    ), ("lora-one-map", "ia3-small", "ia3-least", "prompt", "prompt-short", *FOUR[2:]),
        "can be merged, and is what every tool supports.", {"r": 1, "target_modules": QUERY_VALUE}, "LoRA of rank 1"),
    Advice("lora-one-map", "lora", (_LESS_ROOM, _MERGES, _UNMERGED),
           ("ia3-small", "ia3-least", "prompt", "prompt-short"), "can be merged, and is what every tool supports.",
           {"r": 1, "target_modules": VALUE}),
    Advice("full-small", "full", (
        Reason("{model} is small: training all of it fits, a step needs {needed}. {allowance}", _STEP,
               Source.SIMULATED),
        Reason("With more than small data full fine-tuning of BERT models overtook training their biases.",
               src.BITFIT),
        Reason("LoRA scored as high on RoBERTa with a four-hundredth of its parameters trained, so try both.",
               f"{src.LORA}, table 2"),
        Reason("For text of another field the whole encoder was trained on.", f"{src.DOMAIN}, section 3",
               when=("objective", "cpt")),
        Reason("One task means one copy, so a whole model to store is no obstacle here: {stored}.", _COUNT,
               Source.COUNTED),
    ), ("lora", *SMALL[:3], "bitfit", *SMALL[3:], *FOUR), "is cheap on a small model, and has no setting to choose."),
    Advice("full-text", "full", (
        Reason("There are more tokens to learn than LoRA of a large rank can hold: {tokens_to_learn} at about "
               "{token_bits} each, {held} parameters at {parameter_bits}.",
               f"{src.LORA_REGRET}, How much capacity is needed"),
        Reason("In continued pretraining LoRA stayed behind full fine-tuning at every rank.",
               f"{src.LEARNS_LESS}, section 4.1"),
        Reason("It fits: a step needs {needed}. {allowance}", _STEP, Source.SIMULATED),
    ), ("lora-large", "lora", *SMALL[:3], *FOUR, *SMALL[3:]),
        "learns more of new text, and forgets more of the old."),
    Advice("adapters", "adapters", (
        Reason("{trained} parameters for a task beside one shared base, swapped for each request while the base stays.",
               src.HOULSBY),
        Reason("One adapter after the feed-forward part of every layer is enough, at half the price of two.",
               f"{src.PFEIFFER}, table 1"),
        Reason("The price is time: layers in sequence took {adapter_latency} to {adapter_latency_most} longer for a "
               "single row.", f"{src.LORA}, table 1"),
        Reason("It needs code of your own to serve: servers such as vLLM apply LoRA only.", src.VLLM),
    ), ("lora-tenants", *SMALL[:3], "ia3-small", *FOUR), "are made for swapping between tasks; they cannot be merged.",
        {"placement": "pfeiffer", "bottleneck": 64}),
    Advice("ia3", "ia3", (
        Reason("Made for few examples: with dozens of rows it beat both in-context learning and full fine-tuning of "
               "the same base.", src.IA3, when=("rows", "few")),
        _STORES, *_FOLDS,
    ), ("lora-small", *SMALL[1:], *FOUR), "was made for few rows and stays small."),
    Advice("ia3-many", "ia3", (
        *_FOLDS,
        Reason("{model} does not have a bias in every linear map, so BitFit has too little to train.",
               "counted on the model", Source.COUNTED, ("biases", "no")),
        _STORES,
    ), ("lora-small", *SMALL[1:], *FOUR), "costs one multiplication per feature and stays small."),
    Advice("ia3-small", "ia3", (
        _STORES, Reason("It acts in every layer with one number per feature.", f"{src.IA3}, section 3.3"), _BENCH,
    ), ("ia3-least", "prompt", "prompt-short"), "acts in every layer and stays small."),
    Advice("ia3-least", "ia3", (
        Reason("One vector on the keys of each layer is a smaller setting that fits the storage per task: {stored}.",
               _COUNT, Source.COUNTED),
        *_FOLDS,
        Reason("The paper has vectors on values and the feed-forward part as well.", f"{src.IA3}, section 3.3"),
    ), (), "acts in every layer and stays small.", {"target_modules": KEYS, "feedforward_modules": ()}),
    Advice("bitfit", "bitfit", (
        Reason("On small and medium data sets it kept up with full fine-tuning of BERT models, and sometimes beat it.",
               src.BITFIT),
        Reason("{model} has {trained} biases, {share} of its parameters; nothing is added.", _COUNT, Source.COUNTED),
    ), (), "changes only existing biases and adds nothing."),
    Advice("bitfit-many", "bitfit", (
        Reason("Tasks differ only in their biases: these are swapped, nothing is added, and a request takes as long as "
               "on the base.", src.BITFIT),
        Reason("{model} has {trained} biases, {share} of its parameters: {stored} per task.", _COUNT, Source.COUNTED),
    ), ("ia3-many", *SMALL, *FOUR), "changes only existing biases and adds nothing."),
    Advice("prompt", "prompt", (
        Reason("Prompt Tuning comes near full fine-tuning from about {scale} parameters; {model} has {total}.",
               f"{src.PROMPT}, section 3", when=("scale", "large")),
        _STORES,
        Reason("Requests of different tasks can share a batch.", f"{src.PROMPT}, figure 2", when=MANY),
        _PROMPT_PRICE,
    ), ("prompt-short", "lora-tiny", "lora-one-map", "ia3-small", "ia3-least", *FOUR), _PROMPT_INSTEAD),
    Advice("prompt-short", "prompt", (
        Reason("{virtual} virtual tokens are a smaller setting that fits: {stored} per task.", _COUNT, Source.COUNTED),
        _PROMPT_PRICE,
    ), (), _PROMPT_INSTEAD, {"num_virtual_tokens": 8}),
)  # fmt: skip
ADVICE: Mapping[str, Advice] = {advice.id: advice for advice in _ADVICE}


# ----------------------------------------
# Answers that follow from a model's shape.


def counted_answers(shape: ModelShape) -> dict[str, str]:
    """Return the answers that are counted on the model, by question."""
    return {
        "kind": shape.kind,
        "biases": "yes" if biased(shape) == len(_inside(shape)) else "no",
        "scale": "large" if shape.total >= PROMPT_SCALE.value else "small",
    }


def phrase(key: str, shape: ModelShape) -> str:
    """Return the count behind an answer, as a sentence without its full stop."""
    if key == "kind":
        return f"{shape.title} is {a_model(shape.kind)}"
    if key == "biases":
        return f"{biased(shape)} of the {len(_inside(shape))} linear maps in a layer of {shape.title} have biases"
    return f"{shape.title} has {units.short_count(shape.total)} parameters"


def _inside(shape: ModelShape) -> list[bool]:
    return [group.bias > 0 for group in shape.matrices if group.layers]


def biased(shape: ModelShape) -> int:
    """Return the number of linear maps in a layer that have a bias."""
    return sum(_inside(shape))
