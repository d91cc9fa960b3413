"""Questions on Prefix Tuning."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import LENGTHENS, MERGES, RUNS, fact
from peft_lab.methods.prefix import calculations as calc
from peft_lab.methods.prefix.follow_ups import FOLLOW_UPS
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.fits import causal, prefixed, separate_attention
from peft_lab.quiz.question import Question, followed

MODEL = "llama-3.2-3b"
ask = partial(Question, topic="prefix", model=MODEL, fits=prefixed)


def separate_and_prefixed(shape: ModelShape) -> bool:
    """Whether queries, keys and values are maps of their own, and a prefix is possible."""
    return separate_attention(shape) and prefixed(shape)


_ASKED = (
    ask(
        id="prefix-stored", level="basic", kind="numeric", calculate=calc.stored, given={"n": 20},
        question="Prefix Tuning with {{n}} virtual tokens and no projection on {{model}} ({{layers}} layers, "
        "{{kv_heads}} key/value heads of size {{head_dim}}): how many parameters?",
        answer="{{value}}, {{share}} of all: one key and one value vector per token and layer.",
        listen_for=(
            "keys and values: factor two",
            "every layer has its own",
            "kv width, not hidden size, under grouped-query attention",
        ),
        wrong=(
            "n times the hidden size: that is Prompt Tuning",
            "uses the query width where keys and values are narrower",
        ),
        sources=(f"{src.PREFIX}, section 4.2", src.PEFT),
    ),
    ask(
        id="prefix-against-prompt", level="basic", kind="free", model=None,
        question="How does Prefix Tuning differ from Prompt Tuning?",
        answer="Prompt Tuning learns input embeddings once, at the bottom; what they become in higher layers is up "
        "to the frozen model. Prefix Tuning learns keys and values for every layer directly, so it acts at every "
        "depth, has more parameters, and its positions are read but never computed.",
        listen_for=(
            "Prompt Tuning learns vectors at the input only, once, at the bottom.",
            "Prefix Tuning learns keys and values in every layer.",
            "So Prefix Tuning has more parameters and more influence.",
            "The prefix's positions are read but never computed.",
        ),
        wrong=(
            "'the same thing under two names'", "'one is discrete, the other continuous'",
            "'Prompt Tuning acts in every layer, Prefix Tuning at the input'",
        ),
        sources=(f"{src.PREFIX}, section 4", f"{src.PROMPT}, section 4"),
    ),
    ask(
        id="prefix-cache", level="medium", kind="numeric", calculate=calc.cache_bytes, fits=causal,
        question="How many bytes of key/value cache does one virtual token take per sequence in {{model}}, in "
        "bfloat16? ({{layers}} layers, {{kv_heads}} key/value heads of size {{head_dim}})",
        answer="{{value}}: the same as any token of text.",
        listen_for=("2 · layers · kv width · 2 bytes", "a virtual token costs what a real one costs"),
        wrong=(
            "uses all query heads where there are fewer key/value heads",
            "forgets that both keys and values are kept",
        ),
        sources=(f"{src.GQA}, section 2", src.ALGEBRA),
    ),
    ask(
        id="prefix-projected-share", level="medium", kind="numeric", calculate=calc.projected_share, model="gpt2",
        given={"n": 20, "claimed": 1},
        question="Prefix Tuning on {{model}} with {{n}} virtual tokens and `prefix_projection=True`, the "
        "projection as wide as the keys ({{kv_width}}). Which share of all parameters, adapter included, is "
        "trained?",
        answer="{{value}}. Stored is the prefix alone: {{kept}}. That Prefix Tuning trains under {{claimed}}% is true "
        "{{verdict}}.",
        listen_for=(
            "the projection's last layer produces keys and values for all layers, so it is the largest part",
            "trained against stored",
        ),
        wrong=("the share of what is stored", "a percentage from memory, for every model"),
        sources=(f"{src.PREFIX}, section 4.3", src.RUN),
    ),
    ask(
        id="prefix-attention", level="medium", kind="numeric", calculate=calc.uniform_attention, model=None,
        given={"n": 20, "length": 108},
        question="A causal model reads {{length}} tokens behind a prefix of {{n}}. If the last token spread its "
        "attention evenly, which share would land on the prefix?",
        answer="{{value}}. Measured shares differ by layer and head; this is the figure to compare them with.",
        listen_for=(
            "softmax shares one unit among prefix and text",
            "so a prefix takes attention away from the text",
        ),
        wrong=("divides by the text alone",),
        sources=(f"{src.UNIFIED}, section 3.1",),
    ),
    ask(
        id="prefix-why-projection", level="medium", kind="free", model=None,
        question="Why did the authors train the prefix through an MLP, and why can the MLP be thrown away?",
        answer="Optimising the key and value vectors directly was unstable and sensitive to the learning rate; a "
        "shared table and an MLP couple the parameters and make training smoother. Afterwards the MLP's output is "
        "a constant, so it is computed once and stored. With enough data and a good learning rate many work "
        "without it.",
        listen_for=(
            "Training the vectors directly was unstable and sensitive to the learning rate and the start.",
            "The MLP couples the parameters through shared weights and makes the optimisation smoother.",
            "After training its output is a constant, which is computed once and stored.",
            "It costs trained parameters and optimizer states.",
        ),
        wrong=("that the MLP is needed to serve the model", "that it makes the prefix depend on the input"),
        sources=(f"{src.PREFIX}, section 4.3", f"{src.PTUNING2}, section 3.3"),
    ),
    ask(
        id="prefix-not-mergeable", level="medium", kind="free", model=None,
        facts=(
            fact("prefix", MERGES, "", "never"),
            fact("prefix", LENGTHENS),
        ),
        question="Can a trained prefix be merged into the weights like LoRA? What does it cost at inference?",
        answer="No: it is extra keys and values, not a change of a linear map. Each request carries n more "
        "positions in every layer's cache and attention. The prefill of those positions is free, as they are "
        "stored, not computed, but every new token attends to them, and they count against the context.",
        listen_for=(
            "No: it is extra keys and values, not a change of a linear map, so there is no weight to add it to.",
            "It costs cache memory and attention over n more positions in every layer.",
            "It counts against the context length.",
            "The positions are stored, not computed, so prefill does not grow by them.",
        ),
        wrong=(
            "'yes, it becomes a bias'", "'prefixes are free'", "'it does not count against the context'",
            "'it can be folded into the projections of keys and values'",
        ),
        sources=(f"{src.PREFIX}, section 4", f"{src.LORA}, section 3"),
    ),
    ask(
        id="prefix-projected", level="hard", kind="numeric", calculate=calc.projected, given={"n": 20},
        question="Prefix Tuning on {{model}} with {{n}} virtual tokens and `prefix_projection=True`, hidden width "
        "equal to the key width {{kv_width}}, {{layers}} layers. The projection is: table, linear layer, tanh, "
        "linear layer, biases in both. How many parameters are trained?",
        answer="{{value}}, {{share}} of all and {{times}} times the {{kept}} that are stored.",
        listen_for=(
            "the last layer has 2 · L · kv width outputs",
            "biases",
            "says what is stored without being asked",
        ),
        wrong=("counts only the prefix", "takes the output to be one layer's keys and values"),
        sources=(f"{src.PREFIX}, section 4.3", src.PEFT),
    ),
    ask(
        id="prefix-matching-lora", level="hard", kind="numeric", calculate=calc.matching_tokens,
        fits=separate_and_prefixed, given={"r": 8},
        question="How many prefix tokens on {{model}} have as many parameters as LoRA of rank {{r}} on its query "
        "and value maps?",
        answer="{{value}}. Equal parameters are not equal cost: LoRA can be merged away, these tokens stay in "
        "every request's cache.",
        listen_for=("counts both per layer, so the layers cancel", "adds what equal counts hide"),
        wrong=("compares with n · d of Prompt Tuning",),
        sources=(f"{src.PREFIX}, section 4.2", f"{src.LORA}, section 4.2"),
    ),
    ask(
        id="prefix-batch-cache", level="hard", kind="numeric", calculate=calc.batch_cache, fits=causal,
        given={"n": 100, "batch": 50},
        question="You evaluate a prefix of {{n}} tokens on {{model}} by generating for {{batch}} sequences at "
        "once, in bfloat16. How many bytes of the cache are prefix?",
        answer="{{value}}: the {{once}} MB of one prefix, copied for every sequence. This is how a method with "
        "tiny parameter counts can have the higher peak.",
        listen_for=(
            "multiplies by the batch",
            "peak memory of prompt methods comes from the cache, not from parameters",
        ),
        wrong=("counts the prefix once",),
        sources=(src.BENCH, src.PEFT),
    ),
    ask(
        id="prefix-on-encoders", level="hard", kind="free", model=None,
        facts=(
            fact("prefix", RUNS, "encoder", "never", through="peft"),
            fact("prefix", RUNS, "encoder", through="attention"),
        ),
        question="PEFT refuses Prefix Tuning on a BERT classifier with recent transformers. Why, and what would "
        "you do for a deep prompt on an encoder?",
        answer="PEFT hands the prefix to the model as past keys and values, and an encoder with a classification "
        "head does not take any: 'Model does not support past key values'. The method needs no cache. One can "
        "concatenate trained keys and values inside the attention function and widen the mask; that is P-Tuning v2 "
        "on an encoder.",
        listen_for=(
            "an implementation's limit, not the method's",
            "cache as transport for the prefix",
            "attention mask must be widened",
        ),
        wrong=("'prefixes only make sense for generation'",),
        sources=(src.RUN, f"{src.PTUNING2}, section 3.2"),
    ),
    ask(
        id="prefix-unified", level="hard", kind="free", model=None,
        question="Rewrite attention with a prefix so that it looks like an adapter. What follows?",
        answer="For a query, attention over prefix and text is $(1-\\lambda)\\,\\mathrm{Attn}(q,K,V) + "
        "\\lambda\\,\\mathrm{Attn}(q,P_k,P_v)$ where $\\lambda$ is the attention mass on the prefix. The second "
        "term is a bottleneck of width n with a softmax as its nonlinearity, added in parallel to attention. So "
        "the number of tokens acts as a bottleneck width, and prefix, adapters and LoRA become one family.",
        listen_for=(
            "λ depends on the query",
            "softmax as nonlinearity, n as width",
            "gated addition, parallel placement",
        ),
        wrong=("that λ is a constant",),
        sources=(f"{src.UNIFIED}, sections 3.1 and 3.2",),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)
