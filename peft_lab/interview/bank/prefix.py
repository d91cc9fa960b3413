"""What is asked after the questions on Prefix Tuning."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import LENGTHENS, MERGES, RUNS, fact
from peft_lab.engine.published.rows import reserved, right
from peft_lab.interview.calculations import prefix as calc
from peft_lab.interview.computed import Answer, Case, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    causal,
    followed,
    give_way,
    hold,
    lab,
    prefixed,
    separate_attention,
    then,
)
from peft_lab.models.shapes import ModelShape

LLAMA, SMOL = "llama-3.2-3b", "smollm2-135m"
HALF, SINGLE, MOMENTS = 2, 4, 2  # bytes of a number, and Adam's moments
NARROW = 64  # a cheaper width of the projection
BATCH = 32


def _context_bytes(case: Case) -> Answer:
    return told(2 * case.shape.num_layers * case.shape.kv_width * HALF * case["n"], "bytes")


def _batch_bytes(case: Case) -> Answer:
    each = 2 * case.shape.num_layers * case.shape.kv_width * HALF
    return told(each * BATCH, "bytes", batch=BATCH)


def _optimizer_bytes(case: Case) -> Answer:
    width = case.shape.kv_width
    trained = case.trained(
        "prefix", num_virtual_tokens=case["n"], prefix_projection=True, encoder_hidden_size=width
    )
    kept = case.stored("prefix", num_virtual_tokens=case["n"])
    return told(
        trained * MOMENTS * SINGLE, "bytes", plain_prefix=told(kept * MOMENTS * SINGLE, "bytes").shown
    )


def _first_token(case: Case) -> Answer:
    return told(100 * case["n"] / (case["n"] + 1), "percent")


def _narrow(case: Case) -> Answer:
    value = case.trained(
        "prefix", num_virtual_tokens=case["n"], prefix_projection=True, encoder_hidden_size=NARROW
    )
    return told(value, "parameters", width=NARROW)


def _shared_bytes(case: Case) -> Answer:
    return told(2 * case.shape.num_layers * case.shape.kv_width * HALF * case["n"], "bytes")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "prefix-stored": (
        then(
            "What do these tokens cost at inference?",
            "Nothing is computed for them, but every sequence keeps their keys and values, {{value}} in bfloat16, and "
            "every new token attends to them.",
            f"{src.GQA}, section 2", src.ALGEBRA, calculate=_context_bytes,
        ),
        then("What does the projection add?", to="prefix-projected"),
    ),
    "prefix-against-prompt": (
        then(
            "Which of them changes the length of the output logits?",
            "Prompt Tuning: its tokens are positions like any other and come back with logits. A prefix is only read, "
            "as past keys and values, so the output is as long as the text.",
            src.PEFT, src.RUN, opens=lab("misconceptions", belief="predict-prompt-length"),
        ),
        then(
            "Where does P-Tuning v2 belong?",
            "With Prefix Tuning: trained vectors in front of every layer's keys and values, the reparameterisation "
            "optional. Its own part is the recipe for understanding tasks, with an ordinary classification head.",
            f"{src.PTUNING2}, section 3.2", opens=lab("ptuning", version="v2", model=SMOL),
        ),
        then("How many parameters is a prefix, then?", to="prefix-stored"),
    ),
    "prefix-cache": (
        then(
            "And for a batch of sequences?",
            "It multiplies: {{value}} per token for {{batch}} sequences, since PEFT writes the prefix into the cache "
            "of "
            "each of them.",
            src.PEFT, src.ALGEBRA, calculate=_batch_bytes,
        ),
        then(
            "Could the prefix be shared between sequences?",
            "Yes: it is the same for all and never changes. A cache in pages can let all sequences point to the same "
            "pages, as servers do for a common system prompt. PEFT's plain implementation copies it.",
            src.PREFIX_CACHING, src.PEFT,
        ),
        then("What is lost when it is not shared?", to="prefix-batch-cache"),
    ),
    "prefix-projected-share": (
        then(
            "What of it has to be kept after training?",
            "The prefix alone. The projection's output is a constant by then: it is computed once and saved, and table "
            "and layers are thrown away.",
            f"{src.PREFIX}, section 4.3", src.PEFT,
        ),
        then(
            "What does that mean for optimizer memory?",
            "Adam keeps two moments for all that is trained, {{value}} here in float32. For a prefix without "
            "projection "
            "it would be {{plain_prefix}}. So the stored size says nothing about training.",
            f"{src.ADAM}, algorithm 1", calculate=_optimizer_bytes,
            opens=lab("prefix", model="gpt2", num_virtual_tokens=20, prefix_projection=True, tab="parameters"),
        ),
        then(
            "Let me guess first: is it under one percent?",
            "The Lab asks just that, and then counts it on the model.",
            src.RUN, opens=lab("misconceptions", belief="predict-prefix-trained"),
        ),
    ),
    "prefix-attention": (
        then(
            "And which share does the first token of the text give to it?",
            "{{value}}, if it spread its attention evenly: it sees the prefix and itself. So early tokens are swamped "
            "by a long prefix, late ones hardly notice it.",
            src.ALGEBRA, calculate=_first_token,
        ),
        then("Why can a prefix be read as interpolating two attention outputs?", to="prefix-unified"),
    ),
    "prefix-why-projection": (
        then(
            "How does P-Tuning use the same idea?",
            "It makes its virtual tokens with a trained encoder, an LSTM or MLP, and keeps only the encoder's output. "
            "The tokens are input embeddings there, and keys and values of every layer here.",
            f"{src.PTUNING}, section 2",
        ),
        then(
            "Where is it off by default, and why?",
            "In PEFT, `prefix_projection` is false: training a prefix directly costs far fewer parameters. P-Tuning v2 "
            "found that whether it helps depends on the task and data set.",
            src.PEFT, f"{src.PTUNING2}, section 3.3",
            opens=lab("prefix", model=SMOL, prefix_projection=True, tab="parameters"),
        ),
        then(
            "You train without it and it learns badly. What do you change first?",
            "The learning rate and the start. In the published comparison a prefix at 1e-3 got "
            f"{right('prefixtuning-lr_0.001')} right; a shorter one at 5e-3, started from keys and values of real "
            f"text, got "
            f"{right('prefixtuning-tokens50-init_prefix-lr_0.005')}.",
            src.BENCH,
        ),
    ),
    "prefix-not-mergeable": (
        then(
            "How could a server share one prefix between many requests?",
            "As it shares a system prompt: it stores the prefix's keys and values once, in pages that the caches of "
            "all requests point to. Then a request costs attention over the prefix, but no cache of its own for it.",
            src.PREFIX_CACHING,
        ),
        then(
            "So a prefix is like a long system prompt. What does it do better?",
            "It needs no prefill and it is not bound to what words can say, so few positions carry much. And what "
            "does it do worse: nobody can read it, it needs training data, and it fits one model only.",
            f"{src.PREFIX}, section 4",
        ),
        then("How many requests does it cost you, when it is not shared?", to="serve-requests-lost"),
    ),
    "prefix-projected": (
        then(
            "How would you choose a cheaper width?",
            "The last layer has width times all keys and values as outputs, so the count is nearly proportional to the "
            "width. With {{width}} it is {{value}}. The paper's own width depends on the task, so halve it until the "
            "held-out score suffers.",
            f"{src.PREFIX}, section 4.3", src.ALGEBRA, calculate=_narrow,
            opens=lab("prefix", model=LLAMA, prefix_projection=True, encoder_hidden_size=64, tab="parameters"),
        ),
        then("Why have the projection at all?", to="prefix-why-projection"),
    ),
    "prefix-matching-lora": (
        then(
            "Which of them would you expect to need a larger learning rate?",
            "The prefix. Its numbers are keys and values that have to reach the size of real ones, and the softmax "
            "damps what they do; nothing else may move. LoRA's correction is added to every position at once.",
            f"{src.PREFIX}, section 4.3", src.BENCH,
        ),
        then(
            "Equal counts: which has the higher peak in training?",
            "Both are decided by activations, not by parameters: the prefix lengthens attention in every layer, LoRA "
            f"keeps inputs of its maps. In the published comparison they were close, "
            f"{reserved('prefixtuning-lr_0.001')} "
            f"for a prefix and {reserved('lora-rank32')} for LoRA. Simulate your own setting before you decide by it.",
            src.BENCH, opens=lab("memory", model=LLAMA, batch=4, seq=768, tab="timeline"),
        ),
        then("And after training, which leaves no trace?", to="serve-which-merge"),
    ),
    "prefix-batch-cache": (
        then(
            "How does paged attention with shared prefixes avoid that?",
            "The cache is kept in blocks, and a table for each sequence says which blocks it uses. All tables point to "
            "the same blocks for the prefix, so {{value}} are stored once, whatever the batch.",
            src.PREFIX_CACHING, calculate=_shared_bytes,
        ),
        then("With a fixed cache, what does an unshared prefix cost in requests?", to="serve-requests-lost"),
    ),
    "prefix-on-encoders": (
        then(
            "What about encoder-decoder models: which side gets the prefix in PEFT?",
            "The decoder: it is the side that takes past keys and values. The paper put a prefix on both sides of its "
            "encoder-decoder model, so results are not quite comparable.",
            src.PEFT, f"{src.PREFIX}, section 4.2",
        ),
        then(
            "How would you check that a prefix which you inject yourself takes part?",
            "Change it and see the outputs change; measure the share of attention that lands on it, by layer; look at "
            "its gradients. And test that padding is still masked: the mask must have grown by the prefix's length.",
            src.RUN, opens=lab("ptuning", model="minilm-l6", version="v2", tab="look inside"),
        ),
        then(
            "Show me the refusal.",
            "The Lab runs PEFT's Prefix Tuning on a BERT classifier and shows what happens on the first forward pass.",
            src.RUN, opens=lab("misconceptions", belief="predict-prefix-encoder"),
        ),
    ),
    "prefix-unified": (
        then(
            "What does this say about very long prefixes?",
            "A long prefix is a wide bottleneck, but its weight λ is a share of one softmax: it has to take attention "
            "away from the text to have an effect. So more tokens do not simply mean more capacity: each of them "
            "competes "
            "with the text and with the other tokens.",
            f"{src.UNIFIED}, section 3.1",
        ),
        then(
            "What would you change to get LoRA's form?",
            "Drop the softmax and the gate: a linear map down and up, added with a constant scale instead of one that "
            "depends on the query. Place it at the query and value maps. Being linear, it can then be merged.",
            f"{src.UNIFIED}, sections 3.2 and 3",
        ),
        then(
            "Show me λ on a real model.",
            "*Look inside* measures the share of attention that lands on the prefix, by layer and head.",
            src.RUN, opens=lab("prefix", model=SMOL, tab="look inside"),
        ),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on Prefix Tuning.


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


# ----------------------------------------
# Doubts about answers on Prefix Tuning.


CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "prefix-stored",
        "{{value}}.",
        "Number of tokens times hidden size, that is all. You are far too high.",
        "That is Prompt Tuning. A prefix has a key and a value for every layer: tokens times two times layers times "
        "the width of the keys.",
        f"{src.PREFIX}, section 4.2", src.PEFT,
    ),
    give_way(
        "prefix-projected-share",
        "What it trains is what it stores, a tiny share.",
        "With the projection on, too?",
        "No: {{value}} is trained then. The projection's last layer makes keys and values of all layers. Trained and "
        "stored are two figures here, and the small one is what is stored.",
        f"{src.PREFIX}, section 4.3", opens=lab("fact_check", claim="prefix-share"),
    ),
    give_way(
        "prefix-not-mergeable",
        "After training I merge the prefix into the key and value maps.",
        "What would you add to which weight?",
        "Nothing can be added: a prefix is further keys and values that do not depend on the input, not a change of a "
        "linear map. It stays in the cache of every request.",
        f"{src.PREFIX}, section 4", src.ALGEBRA,
    ),
    hold(
        "prefix-on-encoders",
        "Prefixes work on encoders; PEFT just does not do it.",
        "PEFT refuses it, so the method is for generation only.",
        "PEFT passes the prefix on as past keys and values, which an encoder does not take. Put into the attention "
        "function, with the mask widened, it works: P-Tuning v2 is that.",
        f"{src.PTUNING2}, section 3.2", src.RUN,
    ),
    hold(
        "prefix-batch-cache",
        "{{value}} of the cache are prefix.",
        "The prefix is one tensor, so it is there once.",
        "It could be; PEFT writes it into the cache of every sequence. Only a cache in pages with shared blocks "
        "keeps it once.",
        src.PEFT, src.PREFIX_CACHING,
    ),
)  # fmt: skip
