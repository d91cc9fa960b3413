"""What is asked after the questions on Prefix Tuning."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.published import reserved, right
from peft_lab.quiz.working import told

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
