"""The leaves: a method with its configuration, the reasons for it, and what comes next when it cannot be.

Texts are templates; ``{name}`` is filled by :mod:`peft_lab.choose.words` with figures of the situation, each
computed or cited there. Reasons carry what they rest on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peft_lab import references as src
from peft_lab.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape
from peft_lab.units import Source

PROMPTING, NOTHING = "prompting", "none"  # outcomes that are no method of the registry
ALL = ("all-linear",)
# These stand for the architecture's own names, see :meth:`Advice.knobs`.
QUERY_VALUE = ("query-value",)
KEYS = ("keys",)


@dataclass(frozen=True)
class Reason:
    """Why: a text, where it comes from, and which kind of source that is.

    Attributes:
        kind: ``None`` for what follows from a definition: there is nothing to count or to cite.
        when: a question and the answer with which alone this is a reason; ``None`` for a reason that always is one.
            Advice is also what others fall back on, so not every reason holds wherever the advice is given.
    """

    text: str
    source: str
    kind: Source | None = Source.CITED
    when: tuple[str, str] | None = None


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Attributes:
        method: slug, or ``prompting`` or ``none``.
        values: knobs that differ from the method's defaults.
        reasons: why it is right where the tree leads to it.
        others: advice to fall back on, best first; the first that can be is also the runner-up.
        instead: when it is better than what was chosen, as the runner-up's text.
    """

    id: str
    method: str
    reasons: tuple[Reason, ...]
    others: tuple[str, ...] = ()
    instead: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The method's name, or what to do when no method is advised."""
        names = {PROMPTING: "Prompting, no training", NOTHING: "Another model or device"}
        return names.get(self.method) or get_method(self.method).title

    @property
    def short(self) -> str:
        """As it stands in the drawing."""
        names = {PROMPTING: "Prompting", NOTHING: "Too large", "full": "Full tuning"}
        return names.get(self.method) or self.title

    def knobs(self, shape: ModelShape) -> dict[str, Any]:
        """The values for a model: ``query-value`` is what LoRA adapts there by default, ``keys`` its map of keys.

        Raises:
            BadInput: a model without a map of keys, where the advice names it.
        """
        values = dict(self.values)
        if values.get("target_modules") == QUERY_VALUE:
            values["target_modules"] = get_method("lora").defaults(shape)["target_modules"]
        if values.get("target_modules") == KEYS:
            block = shape.block
            role = next((role for role in ("k", "qkv") if role in block), None)
            if role is None:
                raise BadInput(f"{shape.title} has no key map that PEFT Lab recognises.", "target_modules")
            values["target_modules"] = (shape.target_name(block[role]),)
        return values


ONE, MANY, SOME = ("tasks", "one"), ("tasks", "many"), ("rows", "some")
SMALLEST = ("prompt", "prompt-short", "ia3-least")  # where hardly anything may be stored

_BENCH = "In the published comparison on {bench_base} {name} reached {accuracy} right answers, LoRA {lora_accuracy}."
_FOLDS = (
    Reason("Its vectors can be multiplied into the weights, so that nothing is added to a request.",
           f"{src.IA3}, section 3.3", when=ONE),
    Reason("Unmerged it costs one multiplication per feature; merged, every task needs its own copy of the base.",
           f"{src.IA3}, section 3.3", when=MANY),
)  # fmt: skip
_TRAINS = "It trains {trained} parameters of {model}, {share}, and stores {stored} per task."
_FOUR = "stores the base in 4 bits: choose it when memory is short, at the price of time."
_PROMPT_PRICE = Reason(
    "The price: below about {scale} parameters it stays behind full fine-tuning, and {model} has {total}.",
    f"{src.PROMPT}, section 3", when=("scale", "small"),
)  # fmt: skip
_PROMPT_INSTEAD = "stores little; whether it learns depends on its settings and its start."
_COUNT = "the method's formula, checked against a count on the model"

_ADVICE = (
    Advice("prompt-only", PROMPTING, (
        Reason("If a prompt is enough, there is no training, no adapter and no second model to maintain.",
               "by definition", None),
        Reason("The price is paid in every request: examples in the context are read again each time. With many "
            "requests, tuning becomes cheaper.", f"{src.IA3}, section 1"),
    )),
    Advice("nothing", NOTHING, (
        Reason("Even one row on a 4-bit base needs {qlora_least}; {device} has {memory} usable.",
               "simulated training step", Source.SIMULATED),
        Reason("{smaller}", "simulated training steps of the catalogue's models", Source.SIMULATED),
    )),
    Advice("qlora", "qlora", (
        Reason("With the base in 16 bits one row needs {lora_least}, more than the {memory} usable on {device}; in 4 "
               "bits {qlora_least} are enough.", "simulated training steps", Source.SIMULATED),
        Reason("A 4-bit base with adapters on every linear map matched 16-bit fine-tuning.",
               f"{src.QLORA}, section 4"),
        Reason("It saves memory, not time: every multiplication has to dequantise its weights first.",
               f"{src.QLORA}, section 3"),
    ), ("qlora-small", "qlora-least"), _FOUR),
    Advice("qlora-small", "qlora", (
        Reason("Rank {r} on two maps of each layer is a smaller setting that fits the storage per task: {stored}.",
               _COUNT, Source.COUNTED),
        Reason("With the base in 16 bits one row needs {lora_least}, more than the {memory} usable on {device}.",
               "simulated training step", Source.SIMULATED),
        Reason("Adapters on every linear map would be better.", f"{src.QLORA}, section 4"),
    ), ("qlora-least",), _FOUR, {"r": 8, "target_modules": QUERY_VALUE}),
    Advice("qlora-least", "qlora", (
        Reason("Rank {r} on two maps of each layer is a smaller setting that fits the storage per task: {stored}.",
               _COUNT, Source.COUNTED),
        Reason("With the base in 16 bits one row needs {lora_least}, more than the {memory} usable on {device}.",
               "simulated training step", Source.SIMULATED),
        Reason("Adapters on every linear map would be better.", f"{src.QLORA}, section 4"),
    ), (), _FOUR, {"r": 1, "target_modules": QUERY_VALUE}),
    Advice("no-way", NOTHING, ()),
    Advice("lora", "lora", (
        Reason("It can be merged into the weights: a request takes as long as on the base.",
               f"{src.LORA}, section 4.1"),
        Reason("Adapting every linear map is what it takes to match full fine-tuning; the rank matters less.",
               f"{src.QLORA}, section 4, figure 2", when=SOME),
        Reason("In the published comparison on {bench_base} it reached {lora_accuracy} right answers, full "
               "fine-tuning {full_accuracy}.", src.BENCH, when=SOME),
        Reason("From about {many} rows on LoRA fell behind full fine-tuning, less so on every linear map.",
               f"{src.LEARNS_LESS}, section 4", when=("rows", "many")),
    ), ("lora-small", "qlora", "ia3-small", *SMALLEST), "merges, stores little, and is what every tool supports.",
        {"r": 16, "lora_alpha": 32, "target_modules": ALL}),
    Advice("lora-small", "lora", (
        Reason("LoRA at its defaults fits the device and the storage per task: it stores {stored}.", _COUNT,
               Source.COUNTED),
        Reason("It can be merged into the weights: a request takes as long as on the base.",
               f"{src.LORA}, section 4.1", when=ONE),
        Reason("Unmerged it costs two thin matrix products per map; merged, every task needs its own copy of the base.",
               f"{src.LORA}, section 4.2", when=MANY),
    ), ("ia3", "qlora"), "can be merged, and is what every tool supports."),
    Advice("lora-large", "lora", (
        Reason("From about {many} rows on LoRA fell behind full fine-tuning, less so at high rank on every linear map.",
               f"{src.LEARNS_LESS}, section 4"),
        Reason("Full fine-tuning needs {full_least} even for one row, and {device} has {memory} usable.",
               "simulated training step", Source.SIMULATED, ("full", "no")),
        Reason("Rank {r} with the scale α/√r, so that the large rank keeps learning.", f"{src.RSLORA}, section 3"),
    ), ("lora", "lora-small", "qlora", "ia3-small", *SMALLEST), "has more capacity than a small rank and still merges.",
        {"r": 64, "lora_alpha": 16, "target_modules": ALL, "use_rslora": True}),
    Advice("full", "full", (
        Reason("With {many} rows or more, full fine-tuning learns more than LoRA.", f"{src.LEARNS_LESS}, section 4"),
        Reason("It fits: a step needs {needed} of the {memory} usable on {device}.", "simulated training step",
               Source.SIMULATED),
        Reason("One task means one copy, so a whole model to store is no obstacle here: {stored}.", _COUNT,
               Source.COUNTED),
    ), ("lora-large", "lora", "lora-small", "qlora", "ia3-small", *SMALLEST),
        "learns more from very many rows, and forgets more."),
    Advice("adapters", "adapters", (
        Reason("{trained} parameters for a task beside one shared base, swapped for each request while the base stays.",
               f"{src.HOULSBY}, section 1"),
        Reason("One adapter after the feed-forward part of every layer is enough, at half the price of two.",
               f"{src.PFEIFFER}, section 5 and table 1"),
        Reason("The price is time: layers in sequence took {adapter_latency} to {adapter_latency_most} longer for a "
               "single row.", f"{src.LORA}, table 1"),
    ), ("lora-small", "ia3-small", "qlora"), "are made for swapping between tasks; they cannot be merged.",
        {"placement": "pfeiffer", "bottleneck": 64}),
    Advice("ia3", "ia3", (
        Reason("Made for few examples: with dozens of rows it beat both in-context learning and full fine-tuning of "
               "the same base.", f"{src.IA3}, section 4", when=("rows", "few")),
        Reason(_TRAINS, _COUNT, Source.COUNTED),
        *_FOLDS,
    ), ("lora-small", *SMALLEST, "qlora"), "was made for few rows and stays small."),
    Advice("ia3-many", "ia3", (
        *_FOLDS,
        Reason("{model} does not have a bias in every linear map, so BitFit has too little to train.",
               "counted on the model", Source.COUNTED, ("biases", "no")),
        Reason(_TRAINS, _COUNT, Source.COUNTED),
    ), ("lora-small", *SMALLEST, "qlora"), "costs one multiplication per feature and stays small."),
    Advice("ia3-small", "ia3", (
        Reason(_TRAINS, _COUNT, Source.COUNTED),
        Reason("It acts in every layer with one number per feature.", f"{src.IA3}, section 3.3"),
        Reason(_BENCH, src.BENCH),
    ), (*SMALLEST, "lora-small", "qlora"), "acts in every layer and stays small."),
    Advice("ia3-least", "ia3", (
        Reason("One vector on the keys of each layer is a smaller setting that fits the storage per task: {stored}.",
               _COUNT, Source.COUNTED),
        *_FOLDS,
        Reason("The paper has vectors on values and the feed-forward part as well.", f"{src.IA3}, section 3.3"),
    ), (), "acts in every layer and stays small.", {"target_modules": KEYS, "feedforward_modules": ()}),
    Advice("bitfit", "bitfit", (
        Reason("On small and medium data sets it kept up with full fine-tuning of BERT models, and sometimes beat it.",
               f"{src.BITFIT}, section 4"),
        Reason("{model} has {trained} biases, {share} of its parameters; nothing is added.", _COUNT, Source.COUNTED),
    ), ("ia3", "lora-small", *SMALLEST, "qlora"), "changes only existing biases and adds nothing."),
    Advice("bitfit-many", "bitfit", (
        Reason("Tasks differ only in their biases: these are swapped, nothing is added, and a request takes "
               "as long as on the base.", f"{src.BITFIT}, section 1"),
        Reason("{model} has {trained} biases, {share} of its parameters: {stored} per task.", _COUNT, Source.COUNTED),
    ), ("ia3-many", "lora-small", *SMALLEST, "qlora"), "changes only existing biases and adds nothing."),
    Advice("prefix", "prefix", (
        Reason("It was made for text generation with few trained parameters: text from tables, and summaries.",
               f"{src.PREFIX}, section 6"),
        Reason("It stores {stored} per task; the trained keys and values lengthen every layer's attention.",
               _COUNT, Source.COUNTED),
        Reason("Its settings decide: in the published comparison on {bench_base} {name} reached {accuracy} right "
               "answers, LoRA {lora_accuracy}.", src.BENCH),
    ), ("lora", "lora-small", "ia3-small", *SMALLEST, "qlora"), "leaves the weights alone and suits encoder-decoders."),
    Advice("prompt", "prompt", (
        Reason("Prompt Tuning comes near full fine-tuning from about {scale} parameters; {model} has {total}.",
               f"{src.PROMPT}, section 3", when=("scale", "large")),
        Reason("It trains {trained} parameters, {share} of {model}, and stores {stored} per task.", _COUNT,
               Source.COUNTED),
        Reason("Requests of different tasks can share a batch.", f"{src.PROMPT}, section 2", when=MANY),
        _PROMPT_PRICE,
    ), ("prompt-short", "ia3-small", "ia3-least", "lora-small"), _PROMPT_INSTEAD),
    Advice("prompt-short", "prompt", (
        Reason("{tokens} virtual tokens are a smaller setting that fits: {stored} per task.", _COUNT,
               Source.COUNTED),
        _PROMPT_PRICE,
    ), (), _PROMPT_INSTEAD, {"num_virtual_tokens": 8}),
    Advice("ptuning", "ptuning", (
        Reason("It was made to use decoders for language understanding, where it brought GPT to BERT's level.",
               f"{src.PTUNING}, section 3"),
        Reason("Only the virtual tokens are stored, {stored}; the encoder that makes them is thrown away.", _COUNT,
               Source.COUNTED),
        Reason(_BENCH, src.BENCH),
    ), ("prompt", "prompt-short", "ia3-small", "ia3-least", "lora-small"),
        "stores as little as Prompt Tuning and is easier to train.",
        {"encoder_hidden_size": 128}),
)  # fmt: skip
ADVICE: Mapping[str, Advice] = {advice.id: advice for advice in _ADVICE}
