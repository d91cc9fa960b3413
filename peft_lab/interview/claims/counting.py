"""Check claims by counting: methods' formulas on a model's shapes, their settings, and what the installed PEFT has."""

from __future__ import annotations

from peft_lab.advise.tree import ADAPTER_LATENCY, ADAPTER_LATENCY_MOST
from peft_lab.interview import computed
from peft_lab.interview.claims import FIRST, Checked, ClaimModel, about, both, holds, within
from peft_lab.interview.claims.comparing import accuracy
from peft_lab.interview.computed import block_entries
from peft_lab.interview.question import takes
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.lora.spec import METHOD
from peft_lab.models.catalogue import get_model
from peft_lab.models.shapes import ModelShape

RANK, ALPHA, TOKENS, BOTTLENECK = 16, 32, 20, 64  # of the text's snippets, but the last


def query_value(shape: ModelShape) -> list[str]:
    """Return the query and value maps under the model's names (the fused map where there is one)."""
    return list(get_method("lora").defaults(shape)["target_modules"])


# ----------------------------------------
# LoRA, QLoRA and IA³.


STATED_TRAINABLE, STATED_TOTAL = 4_718_592, 3_216_749_568
LOW, HIGH = 0.1, 1.0  # percent, as the text has it for LoRA and QLoRA
QLORA_RANK = 64  # of the text's snippet


def is_meant(shape: ModelShape) -> bool:
    """Return whether it is the one model that the stated figures are about."""
    return shape.name == FIRST


def lora_count(model: ClaimModel) -> Checked:
    targets, shape = query_value(model.shape), model.shape
    values = {"r": RANK, "target_modules": targets}
    trained, total = model.trained("lora", **values), model.total("lora", **values)
    square = RANK * 2 * shape.hidden * len(targets)  # in one layer
    return Checked(
        holds(trained == STATED_TRAINABLE and total == STATED_TOTAL),
        {"trainable": trained, "total": total},
        {
            "share": 100 * trained / total,
            "layers": shape.num_layers,
            "square": square * shape.num_layers,
            "heads": shape.heads,
        },
        "layers and heads confused" if square * shape.heads == STATED_TRAINABLE else "",
    )


def lora_share(model: ClaimModel) -> Checked:
    small = model.share("lora", r=RANK, target_modules=query_value(model.shape))
    large = model.share("lora", r=RANK, target_modules=["all-linear"])
    return Checked(
        both(LOW <= small <= HIGH, LOW <= large <= HIGH),
        {"query_value": small, "all": large},
        {"rank": RANK},
    )


def lora_formula(model: ClaimModel) -> Checked:
    factor = METHOD.scale(METHOD.complete(model.shape, {"r": RANK, "lora_alpha": ALPHA}))
    return Checked(
        "right" if factor == 1 else "imprecise", {"factor": factor}, {"alpha": ALPHA, "rank": RANK}
    )


def lora_rank(model: ClaimModel) -> Checked:
    query = model.shape.block["q"]
    inputs, outputs = query.in_features, query.out_features
    rank = inputs * outputs / (inputs + outputs)
    return Checked("right", {"rank": rank}, {"own": RANK, "share": 100 * RANK / rank})


def qlora_share(model: ClaimModel) -> Checked:
    shape = model.shape
    targets = [shape.target_name(shape.block[role]) for role in ("q", "k", "v", "o")]
    snippet = model.share("qlora", r=QLORA_RANK, target_modules=targets)
    usual = model.share("qlora")
    return Checked(
        both(LOW <= snippet <= HIGH, LOW <= usual <= HIGH),
        {"snippet": snippet, "usual": usual},
        {"rank": QLORA_RANK},
    )


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


def ia3_share(model: ClaimModel) -> Checked:
    value = model.share("ia3")
    return Checked(within(value, 0, 0.01), {"share": value}, {"vectors": model.trained("ia3")})


def ia3_below_lora(model: ClaimModel) -> Checked:
    """Compare IA³ with LoRA of rank 1 on the same maps; count the smallest LoRA too, on the value map alone."""
    shape = model.shape
    scaled = list(get_method("ia3").defaults(shape)["target_modules"])
    ia3, lora = model.trained("ia3"), model.trained("lora")
    same = model.trained("lora", r=1, target_modules=scaled)
    least = model.trained("lora", r=1, target_modules=query_value(shape)[-1:])
    return Checked(
        holds(ia3 < same),
        {"ia3": ia3, "lora": lora, "same": same, "least": least},
        {"map": query_value(shape)[-1]},
    )


def ia3_scaling_cost(model: ClaimModel) -> Checked:
    return Checked("imprecise" if get_method("ia3").mergeable else "right", {"vectors": model.trained("ia3")})


def double_quantisation(model: ClaimModel) -> Checked:
    single, double = computed.nf4_bits(double=False), computed.nf4_bits(double=True)
    saved = block_entries(model.shape) * (single - double) / 8
    return Checked(holds(saved > 0), {"saved": saved}, {"bits": single - double})


def four_bits(model: ClaimModel) -> Checked:
    single, double = computed.nf4_bits(double=False), computed.nf4_bits(double=True)
    return Checked(holds(double <= computed.CODE_BITS), {"single": single, "double": double})


# ----------------------------------------
# Adapters and BitFit.


ADAPTERS_PAPER = (0.5, 8.0)  # percent; Houlsby et al. 2019, section 2.1
BOTTLENECK_WORDS = ("bottleneck", "houlsby", "pfeiffer", "reduction_factor")
CLASSES = 2


def adapters_share(model: ClaimModel) -> Checked:
    one, two = (
        model.share("adapters", bottleneck=BOTTLENECK, placement=place) for place in ("pfeiffer", "houlsby")
    )
    low, high = 1.0, 4.0
    inside = low <= one <= high or low <= two <= high
    return Checked(
        "right" if inside else within(two, low, high),
        {"pfeiffer": one, "houlsby": two},
        {"bottleneck": BOTTLENECK, "low": ADAPTERS_PAPER[0], "high": ADAPTERS_PAPER[1]},
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


def adapters_norm(model: ClaimModel) -> Checked:
    """Compare an adapter by the paper's formula with what a norm in front of it would add: two numbers a feature."""
    width = model.shape.hidden
    houlsby = 2 * width * BOTTLENECK + width + BOTTLENECK
    counted = model.trained("adapters", bottleneck=BOTTLENECK, placement="pfeiffer")
    return Checked(
        "imprecise" if counted == houlsby * model.shape.num_layers else "wrong",
        {"houlsby": houlsby, "norm": 2 * width},
        {"bottleneck": BOTTLENECK},
    )


def adapters_extra_pass(model: ClaimModel) -> Checked:
    return Checked(
        holds(not get_method("adapters").mergeable),
        {"least": ADAPTER_LATENCY.value, "most": ADAPTER_LATENCY_MOST.value},
        {"from": str(ADAPTER_LATENCY), "to": str(ADAPTER_LATENCY_MOST)},
    )


def bitfit_share(model: ClaimModel) -> Checked:
    if not model.shape.biases:
        return Checked("wrong", {"share": 0.0}, {"biases": len(model.shape.biases)}, "no biases")
    value = model.share("bitfit")
    return Checked(about(value, 0.08), {"share": value}, {"biases": model.trained("bitfit")})


def bitfit_free(model: ClaimModel) -> Checked:
    spec = get_method("bitfit")
    formula = spec.formula(model.shape, spec.complete(model.shape, {}))
    return Checked(holds(formula.added == 0), {"added": formula.added}, {"biases": formula.trainable})


def bitfit_snippet(model: ClaimModel) -> Checked:
    frozen = CLASSES * model.shape.hidden
    return Checked(both(bool(model.shape.biases), frozen == 0), {"frozen": frozen}, {"classes": CLASSES})


def bitfit_classification(model: ClaimModel) -> Checked:
    there = takes("bitfit", model.shape)
    biases = model.trained("bitfit") if there else len(model.shape.biases)
    return Checked(holds(there), {"biases": biases})


# ----------------------------------------
# Virtual tokens.


NEAR = 2  # times: still "slightly"
FEW_TOKENS, TINY = 8, 0.01
WIDTH = 128  # of the text's prompt encoder
CACHED = 2  # bytes of a cached number


def prefix_share(model: ClaimModel) -> Checked:
    plain = model.share("prefix", num_virtual_tokens=TOKENS)
    projected = model.share("prefix", num_virtual_tokens=TOKENS, prefix_projection=True)
    return Checked(
        "right" if max(plain, projected) < 1 else "imprecise" if plain < 1 else "wrong",
        {"plain": plain, "projected": projected},
        {"tokens": TOKENS},
    )


def prefix_slightly_more(model: ClaimModel) -> Checked:
    prefix, prompt = (model.stored(slug, num_virtual_tokens=TOKENS) for slug in ("prefix", "prompt"))
    ratio = prefix / prompt
    words = {"prefix": prefix, "prompt": prompt, "tokens": TOKENS}
    return Checked(holds(ratio <= NEAR), {"ratio": ratio}, words)


def prompt_share(model: ClaimModel) -> Checked:
    few, more = (model.share("prompt", num_virtual_tokens=count) for count in (FEW_TOKENS, TOKENS))
    return Checked(
        "right" if more < TINY else "imprecise" if few < TINY else "wrong",
        {"few": few, "more": more},
        {"few_tokens": FEW_TOKENS, "tokens": TOKENS},
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


def prompt_tokens_cost(model: ClaimModel) -> Checked:
    shape = model.shape
    each = 2 * shape.num_layers * shape.kv_width * CACHED
    values = {"num_virtual_tokens": TOKENS}
    prefix, prompt = (
        spec.virtual_tokens(spec.complete(shape, values)) for spec in map(get_method, ("prefix", "prompt"))
    )
    return Checked(both(prefix > 0, prompt > 0), {"cache": TOKENS * each}, {"tokens": TOKENS, "each": each})


def ptuning_small(model: ClaimModel) -> Checked:
    snippet = model.share("ptuning", num_virtual_tokens=TOKENS, encoder_hidden_size=WIDTH)
    mlp = model.share("ptuning", num_virtual_tokens=TOKENS)
    lstm = model.share("ptuning", num_virtual_tokens=TOKENS, encoder_reparameterization_type="LSTM")
    small = [value < 1 for value in (snippet, mlp, lstm)]
    return Checked(
        "right" if all(small) else "imprecise" if any(small) else "wrong",
        {"snippet": snippet, "mlp": mlp, "lstm": lstm},
        {"width": WIDTH},
    )


def ptuning_v2(model: ClaimModel) -> Checked:
    spec = get_method("prefix")
    formula = spec.formula(model.shape, spec.complete(model.shape, {"num_virtual_tokens": TOKENS}))
    layers = formula.stored / (TOKENS * 2 * model.shape.kv_width)
    return Checked(
        holds(layers == model.shape.num_layers),
        {"stored": formula.stored},
        {"tokens": TOKENS, "layers": layers},
    )


# ----------------------------------------
# The source text's leaves that name a method for a wish: who else grants it, at what price.


TASKS = 20
BYTES = 4  # of a stored number: adapters are saved in float32


def _methods(shape: ModelShape) -> list[str]:
    """Return the slugs of the parameter-efficient methods that run on a model at their defaults."""
    return [slug for slug in all_methods() if slug != "full" and takes(slug, shape)]


def _leaves_nothing(slug: str, shape: ModelShape) -> bool:
    """Return whether a request costs what it costs on the base: the method merges, or adds nothing. A base in few
    bits stays slow, or merging loses what was learned or its few bits.
    """
    spec = get_method(slug)
    if spec.quantization(spec.complete(shape, {})):
        return False
    return spec.mergeable or not spec.formula(shape, spec.complete(shape, {})).added


def leaf_no_overhead(model: ClaimModel) -> Checked:
    methods = _methods(model.shape)
    free = [slug for slug in methods if _leaves_nothing(slug, model.shape)]
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
