"""Questions on servers of many adapters: their limits, cold starts, reuse of caches, and tensor parallelism."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import servers as calc
from peft_lab.interview.question import Question, gated, separate_attention, then

MODEL = "llama-3.1-8b"
ACTIVATED = f"{src.PEFT}, LoRA, Activated LoRA (aLoRA)"
ask = partial(Question, topic="serving", model=None)

QUESTIONS = (
    ask(
        id="server-slots", level="medium", kind="numeric", calculate=calc.slots, model=MODEL, fits=gated,
        given={"slots": 8, "rank": 64},
        question="A server like vLLM sets aside {{slots}} slots, each with room for one adapter of rank {{rank}} "
        "(`max_loras`, `max_lora_rank`), on every linear map of {{model}}, in 16 bits. How many bytes, before any "
        "adapter is loaded?",
        answer="{{value}}, beside {{base}} GB of weights; it comes out of what the key/value cache could have.",
        listen_for=(
            "allocated at start, at the largest rank",
            "taken from the cache's room",
            "set the rank to what is needed",
        ),
        wrong=("nothing, until adapters are loaded",),
        follow_ups=(
            then("What does an adapter of rank 8 cost there?", to="server-slot-padding"),
            then(
                "Does a larger `max_loras` cost latency?",
                "Memory first; then a batch may mix more adapters, and the grouped kernels have more, smaller "
                "products to do.",
                src.VLLM_CODE,
                f"{src.PUNICA}, section 4",
            ),
        ),
        sources=(src.VLLM_CODE, src.VLLM),
    ),
    ask(
        id="server-slot-padding", level="basic", kind="numeric", calculate=calc.padding, given={"rank": 64, "own": 8},
        question="A LoRA server keeps adapters in slots of one size. An adapter of rank {{own}} sits in a slot of rank "
        "{{rank}}. Which share of the slot is padding?",
        answer="{{value}}: zeros that are stored and multiplied. One adapter of high rank makes all slots large.",
        listen_for=("one size for all slots", "policy: agree on a rank across teams"),
        wrong=("none, as slots fit the adapter",),
        follow_ups=(
            then(
                "Would you serve the one of high rank by itself?",
                "Often, yes: merge it into its own copy or give it a replica of its own, and keep the shared "
                "server's rank small.",
                src.SLORA,
                src.ALGEBRA,
            ),
            then(
                "Could it be cut to a smaller rank?",
                "By an SVD of BA: see how much of its energy the first singular values hold, and test it.",
                f"{src.PEFT}, add_weighted_adapter, svd",
            ),
        ),
        sources=(src.VLLM_CODE,),
    ),
    ask(
        id="server-default-rank", level="basic", kind="choice", correct=2,
        options=(
            "It is loaded and cut to rank 16",
            "It is loaded, and only slower",
            "It is refused with an error on the rank",
            "It is merged into the base",
        ),
        because=(
            "No server cuts ranks silently: that would change the answers.",
            "The slot is too small; there is nowhere to put it.",
            "",
            "Merging would change the base for all other requests.",
        ),
        question="vLLM is started with `--enable-lora` and nothing else. An adapter of rank 32 is requested. What "
        "happens?",
        answer="It is refused: `max_lora_rank` is 16 unless it is set, and an adapter above it fails to load.",
        listen_for=("knows that ranks are limited at start", "default of one adapter per batch as well"),
        wrong=("it is served, only slower",),
        follow_ups=(
            then(
                "Which other default surprises people?",
                "`max_loras` is one: a batch holds one adapter at a time, so requests for others wait their turn.",
                src.VLLM_CODE,
            ),
            then(
                "Who should know this at training time?",
                "Whoever chooses the rank: a rank above the server's limit is a model that cannot be shipped.",
                src.VLLM,
            ),
        ),
        sources=(f"{src.VLLM}, max_lora_rank", src.VLLM_CODE),
    ),
    ask(
        id="server-many-adapters", level="hard", kind="free",
        question="500 adapters, 8 slots on the GPU, uniform traffic. Describe what a multi-LoRA server does with a "
        "request, where it gets slow, and what you would change.",
        answer="If the adapter is in a slot, the request joins the batch. If it waits in CPU memory, a slot is "
        "freed by least recent use and the adapter is copied over, some milliseconds. If it is not there "
        "(`max_cpu_loras`), it is read from disk or network, which is the cold start. A batch can mix at most as "
        "many adapters as there are slots, so with uniform traffic requests queue for slots while the GPU is half "
        "empty. Remedies: smaller ranks and more slots, routing by adapter so that each replica sees few of them, "
        "prefetching while the request waits, merging the busiest ones, and asking whether 500 adapters are really "
        "different tasks.",
        listen_for=(
            "three levels: slot, CPU, store",
            "slots limit the mix of a batch",
            "affinity routing",
            "measures hit rates",
        ),
        wrong=("'adapters are small, so it does not matter'", "one replica for each adapter"),
        follow_ups=(
            then(
                "Which numbers would you put on a dashboard?",
                "Hit rates of slots and CPU, time to first token by adapter (cold against warm), adapters per "
                "batch, and evictions.",
                f"{src.SLORA}, section 5",
                src.ALGEBRA,
            ),
            then(
                "What does skewed traffic change?",
                "Nearly everything for the better: few adapters take most requests and stay in slots. Plan with the "
                "real distribution.",
                f"{src.SLORA}, abstract",
            ),
        ),
        sources=(src.VLLM_CODE, f"{src.SLORA}, section 5", f"{src.PUNICA}, section 4"),
    ),
    ask(
        id="server-cold-start", level="medium", kind="numeric", calculate=calc.cold_start, model=MODEL, fits=gated,
        given={"r": 16, "gigabits": 10},
        question="An adapter of rank {{r}} on every linear map of {{model}}, bfloat16, has to be fetched over a "
        "network of {{gigabits}} gigabits per second. How many milliseconds does that add to the first request, at "
        "best?",
        answer="{{value}} for {{megabytes}} MB, before it is unpacked and copied to the GPU. Users feel that once "
        "per cold adapter; keep a local copy.",
        listen_for=("bits against bytes", "cold only", "then disk, CPU, GPU"),
        wrong=("takes gigabits for gigabytes",),
        follow_ups=(
            then(
                "What else is in a cold start?",
                "Finding it, checking it, reading the file, moving it to the slot, and for some engines a new "
                "graph; each of these can exceed the transfer.",
                src.VLLM,
                src.ALGEBRA,
            ),
            then(
                "How do you hide it?",
                "Load when the session starts, not when the prompt arrives; pin the important ones; route to "
                "replicas that have it.",
                f"{src.SLORA}, section 5",
            ),
        ),
        sources=(src.ALGEBRA, src.VLLM),
    ),
    ask(
        id="server-modules-to-save", level="medium", kind="free",
        question="Training used `modules_to_save=['lm_head']`. vLLM refuses the adapter. Why, and what do you offer "
        "the team?",
        answer="A slot holds low-rank pairs for maps of the base. A whole trained head is no such pair: each "
        "adapter would need its own head for its rows of a batch, so vLLM accepts only adapters without "
        "`modules_to_save`. Offer: merge adapter and head into a model of its own and serve that; train again with "
        "LoRA on the head if the server supports it, or without the head; for new tokens, put them into the base "
        "once for all. And test loading into the server before the long run.",
        listen_for=(
            "The server's slots hold low-rank pairs; a whole trained head is no such pair.",
            "Each adapter would need its own head for its rows of the batch.",
            "Offer: merge into a model of its own, or train again with LoRA on the head or without the head.",
            "Test loading into the server before the long run.",
        ),
        wrong=("removes the key from the config and loads it anyway",),
        follow_ups=(
            then(
                "What happens if one deletes the entry from the config?",
                "The head's weights are ignored or rejected, and the model answers with the base's head: wrong and "
                "silent.",
                src.VLLM_CODE,
                src.ALGEBRA,
            ),
            then(
                "Which other settings are refused?",
                "Ranks above the limit, biases, and so far DoRA; the server checks the config as it loads an adapter.",
                src.VLLM_CODE,
            ),
        ),
        sources=(src.VLLM_CODE, f"{src.PEFT}, modules_to_save"),
    ),
    ask(
        id="server-activated-prefill", level="hard", kind="numeric", calculate=calc.prefill,
        given={"document": 8_000, "checks": 5, "own": 40},
        question="The base reads a document of {{document}} tokens and answers. Then {{checks}} adapters each check "
        "it, with {{own}} tokens of their own. How many times fewer tokens are read if the adapters are activated "
        "LoRAs, which reuse the base's cache, than with plain LoRA?",
        answer="{{value}}: {{reused}} tokens instead of {{lora}}. Plain LoRA changes keys and values from the first "
        "token on, so each adapter has to read the document anew.",
        listen_for=(
            "cache depends on the weights that wrote it",
            "activated: unchanged before the invocation",
            "gain grows with context and number of adapters",
        ),
        wrong=("nothing, prefix caching does that already",),
        follow_ups=(
            then(
                "Why can ordinary prefix caching not do this?",
                "Keys and values of the document were computed by the base; with an adapter active they would "
                "differ, so the cache entries belong to the base only.",
                ACTIVATED,
                src.ALGEBRA,
            ),
            then("What is the price?", to="server-activated-how"),
        ),
        sources=(ACTIVATED,),
    ),
    ask(
        id="server-activated-how", level="medium", kind="free",
        question="How does an activated LoRA (aLoRA) keep the base's cache usable, and what does it give up for "
        "that?",
        answer="Its weights act only on tokens from the invocation sequence on; everything before is computed by "
        "the base alone, so with causal attention those keys and values are the base's own and can be shared, "
        "between adapters as well. It gives up adapting how the context is read: only later tokens look at "
        "unadapted keys with adapted queries. So it often needs a higher rank (32 is proposed as a start), every "
        "input must contain the invocation sequence, and it cannot be merged, because a merged weight would act on "
        "all tokens.",
        listen_for=(
            "Its weights act only on tokens from the invocation on; all before is computed by the base alone.",
            "So those keys and values are the base's own and can be reused, by several adapters as well.",
            "It gives up adapting how the context is read, which often takes a higher rank.",
            "It cannot be merged, and every input must hold the invocation sequence.",
        ),
        wrong=(
            "'the cache is converted'", "'each adapter needs a cache of its own'",
            "'it acts on the tokens before the invocation'",
        ),
        follow_ups=(
            then(
                "Which tokens would you choose to invoke it?",
                "The template's start of the assistant's turn, or of the user's turn with the adapter's "
                "instruction: special tokens at both ends, so that tokenisation cannot shift.",
                ACTIVATED,
            ),
            then(
                "When is plain LoRA better?",
                "When there is no shared context to reuse, or when the task is about how a long text is read.",
                ACTIVATED,
                src.ALGEBRA,
            ),
        ),
        sources=(ACTIVATED,),
    ),
    ask(
        id="server-parallel-share", level="hard", kind="numeric", calculate=calc.parallel, model="llama-3.1-70b",
        fits=separate_attention, given={"r": 16, "devices": 8},
        question="{{model}} runs with tensor parallelism over {{devices}} GPUs; query maps are split by outputs. By "
        "default only half of LoRA's work is split. How many parameters of a rank-{{r}} adapter on one query map "
        "({{q_in}} inputs, {{q_out}} outputs) does each GPU hold?",
        answer="{{value}}: A is on every GPU, B is divided with the outputs. Fully sharded it would be {{sharded}}.",
        listen_for=(
            "column-parallel: B follows the outputs, A is replicated",
            "row-parallel maps the other way round",
            "fully sharded costs communication of rank-r results",
        ),
        wrong=("everything is divided by the number of GPUs",),
        follow_ups=(
            then(
                "When does the fully sharded form pay?",
                "With long rows, high ranks or many devices, says vLLM's documentation: then the replicated half is "
                "what takes time.",
                src.VLLM_CODE,
            ),
            then("What must be sent then?", to="server-parallel-traffic"),
        ),
        sources=(src.VLLM_CODE,),
    ),
    ask(
        id="server-parallel-traffic", level="hard", kind="free",
        question="Why does LoRA under tensor parallelism need communication that the base does not, and how do the "
        "known layouts avoid most of it?",
        answer="The base splits a pair of maps by columns, then by rows, and sums once at the end. LoRA puts two "
        "more products beside each: with A split, its r outputs are partial sums or pieces and have to be exchanged "
        "before B can use them. If A is replicated on column-parallel maps and B on row-parallel ones, nothing "
        "extra is sent, but half the work is done everywhere. S-LoRA's layout shards both and exchanges only the "
        "rank-r results, which are small beside the base's, and fuses the last sum with the base's. Block-diagonal "
        "LoRA changes the adapter: with as many blocks as devices each block meets only its own shard, and nothing "
        "is exchanged.",
        listen_for=(
            "where a partial sum appears",
            "rank-r results are small",
            "replicate, exchange, or change the adapter",
            "which factor is block-diagonal where",
        ),
        wrong=("'LoRA is too small to matter'",),
        follow_ups=(
            then(
                "Which factor of a query map is block-diagonal in BD-LoRA?",
                "B: the map is split by outputs, so each output shard reads its own block of the rank. For the "
                "output projection, which is split by inputs, it is A.",
                f"{src.PEFT}, BdLoraConfig",
            ),
            then(
                "What does that cost in quality?",
                "The blocks cannot mix: at equal rank there are fewer parameters. And the number of devices is "
                "fixed at training time.",
                f"{src.PEFT}, BdLoraConfig, nblocks",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.SLORA}, abstract", f"{src.PEFT}, BdLoraConfig", src.VLLM_CODE),
    ),
)  # fmt: skip
