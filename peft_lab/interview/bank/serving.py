"""What is asked after the questions on serving."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.facts import FIRST, LENGTHENS, MERGES, SERVED, fact
from peft_lab.interview.calculations import serving as calc
from peft_lab.interview.computed import Answer, Case, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    followed,
    gated,
    give_way,
    hold,
    lab,
    room_for,
    separate_attention,
    then,
)
from peft_lab.models.shapes import ModelShape

LLAMA, MINILM = "llama-3.2-3b", "minilm-l6"
HALF = 2


def _all_merged(case: Case) -> Answer:
    return told(case["tasks"] * case.shape.total * HALF, "bytes")


def _shared_prefix(case: Case) -> Answer:
    return told(2 * case.shape.num_layers * case.shape.kv_width * HALF * case["n"], "bytes")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "serve-adapter-file": (
        then(
            "What else must be known to use the file?",
            "The base and its exact revision, the rank, α and targets (they are in `adapter_config.json`), the "
            "tokenizer and template, and whether a head or embeddings were saved with it.",
            src.PEFT, opens=lab("lora", model="smollm2-135m", tab="take away"),
        ),
        then("It is loaded and gives nonsense. What do you check?", to="serve-base-version"),
    ),
    "serve-per-gigabyte": (
        then(
            "What limits the number of tasks in practice, if not storage?",
            "The requests at once: which tasks are in one batch, kernels that mix them, the cache, and the people who "
            "have to evaluate and maintain every task.",
            src.SLORA,
        ),
        then("How would one batch hold many of them?", to="serve-heterogeneous"),
    ),
    "serve-merged-or-not": (
        then(
            "How do you check that merging changed nothing?",
            "Compare logits of some texts before and after, with a tolerance for the number format, and the score on "
            "the held-out task. Do it on the model that will be served, in its own precision.",
            src.RUN, opens=lab("lora", model="smollm2-135m", tab="look inside"),
        ),
        then("They differ by a percent. Is that a bug?", to="serve-merge-low-precision"),
    ),
    "serve-many-tasks": (
        then(
            "And if all were merged, each into a copy of its own?",
            "{{value}}: a full model for each task.",
            src.ALGEBRA, calculate=_all_merged,
        ),
        then("Each request of a batch has another adapter. How many bytes do they take?", to="serve-mixed-batch"),
    ),
    "serve-merged-copies": (
        then(
            "How could you get the small difference back out of a merged model?",
            "Subtract the base, matrix by matrix, and factor the difference by singular values: it has at most the "
            "adapter's rank, apart from what rounding added. One needs exactly the base it was merged into.",
            src.ALGEBRA,
        ),
        then(
            "How would you tell rounding from signal in that spectrum?",
            "The adapter's directions stand out, up to its rank; behind them follows a flat floor from rounding, whose "
            "height depends on the number format.",
            src.ALGEBRA, opens=lab("misconceptions", belief="predict-merge-precision"),
        ),
    ),
    "serve-swap-time": (
        then(
            "How would you hide this time?",
            "Fetch the adapter while the request waits in the queue or while its batch before is computed, and keep "
            "those resident that are asked for most. S-LoRA does so, from one pool of memory shared with the cache.",
            f"{src.SLORA}, section 5", opens=lab("adapters", model=MINILM, tab="look inside"),
        ),
        then("How many bytes are the adapters of one mixed batch?", to="serve-mixed-batch"),
    ),
    "serve-mixed-batch": (
        then("How is such a batch computed efficiently?", to="serve-heterogeneous"),
        then(
            "And with adapters of different ranks?",
            "Kernels either pad all to the largest rank or take each at its own. Padding wastes work, so servers cap "
            "the rank: vLLM has `max_lora_rank` and reserves room for it.",
            src.VLLM, f"{src.SLORA}, section 5",
        ),
    ),
    "serve-which-merge": (
        then(
            "Which of them can share one batch between tasks?",
            "Unmerged, all of them can in principle: LoRA by gathered products, IA³ by a gathered vector, prompts by "
            "other tokens. Merged, none: the weights then belong to one task. And in ready-made servers it is LoRA "
            "that is supported.",
            f"{src.IA3}, section 3.3", src.VLLM,
        ),
        then("Why is merging an adapter impossible?", to="adapters-not-mergeable"),
        then(
            "Your limit is: no extra latency. What does the Lab advise?",
            "Set the extra latency that is allowed to nothing, and read which methods are left and why.",
            f"{src.LORA}, section 4.1", opens=lab("choose", latency=0),
        ),
    ),
    "serve-base-version": (
        then(
            "What would you write into the adapter's metadata?",
            "The base's id and commit, its precision and quantisation, a hash of tokenizer and template, versions of "
            "the libraries, data and seed, and a few prompts with the expected outputs, so that loading can be tested.",
            src.PEFT, opens=lab("lora", model="smollm2-135m", tab="take away"),
        ),
        then(
            "The outputs are the base's own. What is the likeliest cause?",
            "The adapter is not active, or its names did not match and nothing was loaded: warnings about missing "
            "keys, or B still at zero. Compare the outputs with the adapter on and off; equal outputs settle it.",
            src.PEFT, src.ALGEBRA,
        ),
        then("And if the classifier guesses after loading?", to="train-head"),
    ),
    "serve-unmerged-work": (
        then(
            "At which batch size does the difference in latency vanish?",
            "Where the GPU is limited by arithmetic and the small products are hidden in it: some hundreds of tokens "
            "at "
            "once. In generation at batch 1 it is at its worst, since every kernel that is started counts.",
            f"{src.LORA}, section 3 and table 1", src.ALGEBRA,
        ),
        then("Can hundreds of unmerged adapters be served at once without becoming slow?", to="serve-heterogeneous"),
    ),
    "serve-requests-lost": (
        then(
            "How would you store a prefix that all requests share?",
            "Once: its keys and values lie in pages to which the tables of all requests point. Then it costs {{value}} "
            "in all, and the requests keep their room.",
            src.PREFIX_CACHING, calculate=_shared_prefix,
        ),
        then("Could a prefix be merged away instead?", to="prefix-not-mergeable"),
    ),
    "serve-heterogeneous": (
        then(
            "Which of Adapters, IA³ and Prompt Tuning are easier to mix in a batch, and why?",
            "IA³: a gathered vector and an elementwise product. Prompt Tuning: nothing in the model differs, only the "
            "first tokens. Adapters need gathered products as LoRA does, and in sequence, where nothing hides them.",
            f"{src.IA3}, section 3.3", src.PROMPT, src.ALGEBRA,
        ),
        then(
            "A request comes for an adapter that nobody has used today. What happens to its first token?",
            "It waits: for the file from disk, the copy to the GPU and perhaps for another adapter's eviction. So one "
            "limits ranks, keeps adapters in main memory, and watches the slowest percent, not the mean.",
            f"{src.SLORA}, section 5", src.VLLM,
        ),
        then("How long does the copy take, at best?", to="serve-swap-time"),
    ),
    "serve-merge-low-precision": (
        then(
            "Why does repeated merging and unmerging make it worse?",
            "Every time a sum is stored it is rounded, and the subtraction does not bring back what was rounded away. "
            "The weights drift. Keep the base's own copy and start from it.",
            src.ALGEBRA, src.RUN,
        ),
        then(
            "Guess which format is further off, and by how much.",
            "The Lab merges the same adapter in both formats and compares the outputs.",
            src.RUN, opens=lab("misconceptions", belief="predict-merge-precision"),
        ),
        then("And into a 4-bit base?", to="qlora-merge"),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on serving adapted models.


MODEL = "llama-3.2-3b"
REQUEST, VIRTUAL = 2048, 100  # tokens of a request, and virtual ones in front of them
ask = partial(Question, topic="serving", model=MODEL)


def any_ia3(shape: ModelShape) -> bool:
    return shape.kind != "seq2seq"


_ASKED = (
    ask(
        id="serve-adapter-file", level="basic", kind="numeric", calculate=calc.adapter_file,
        fits=separate_attention, given={"r": 16},
        question="LoRA of rank {{r}} on the query and value maps of {{model}} is saved in float32. How many bytes "
        "of numbers is that?",
        answer="{{value}}, beside {{base}} GB of bfloat16 base. A file has a short header on top.",
        listen_for=("count first, then four bytes", "only A and B are stored"),
        wrong=("assumes the base's precision", "thinks the base is in the file"),
        sources=(f"{src.LORA}, section 4.2", src.PEFT),
    ),
    ask(
        id="serve-per-gigabyte", level="basic", kind="numeric", calculate=calc.per_gigabyte, fits=any_ia3,
        question="How many tasks' IA³ vectors for {{model}} (PEFT's default targets, float32) fit into one "
        "gigabyte (decimal)?",
        answer="{{value}}.",
        listen_for=("works out one task's bytes first",),
        wrong=("forgets the bytes per number",),
        sources=(f"{src.IA3}, section 3.3",),
    ),
    ask(
        id="serve-merged-or-not", level="basic", kind="free", model=None,
        question="When do you merge a LoRA adapter before serving, and when do you keep it apart?",
        answer="Merge when one task has the machine for itself: no extra work, any inference engine, one file. "
        "Keep apart when many tasks share the base, when tasks change often, when the base is quantised, or when "
        "you may want the base's own answers back. Unmerged costs a small share of arithmetic and some latency.",
        listen_for=(
            "Merge when one task has the machine: no extra work, any engine, one file.",
            "Keep it apart when many tasks share the base or change often.",
            "Keep it apart when the base is quantised.", "Unmerged costs a little arithmetic and latency.",
            "Merged weights are a full-size copy.",
        ),
        wrong=("'always merge'", "'merging makes it smaller'", "'merge when there are many adapters'"),
        sources=(f"{src.LORA}, section 4.1", src.SLORA),
    ),
    ask(
        id="serve-many-tasks", level="medium", kind="numeric", calculate=calc.many_tasks, fits=separate_attention,
        given={"r": 16, "tasks": 100},
        question="{{tasks}} tasks are served with LoRA of rank {{r}} on the query and value maps of one {{model}}, "
        "everything in bfloat16. How many bytes of parameters have to be stored?",
        answer="{{value}}. As many fully fine-tuned models would take {{copies}} GB, {{times}} times as much.",
        listen_for=("one base plus the adapters", "ratio to full copies"),
        wrong=("forgets the base", "multiplies the base"),
        sources=(f"{src.LORA}, section 4.2",),
    ),
    ask(
        id="serve-merged-copies", level="medium", kind="numeric", calculate=calc.merged_copies, given={"tasks": 20},
        question="Someone merges {{tasks}} adapters, each into its own copy of {{model}} ({{total}} parameters, "
        "bfloat16). How many bytes does that take?",
        answer="{{value}}: merging gives up the small files.",
        listen_for=("merged = a full model each",),
        wrong=("one model and small differences",),
        sources=(f"{src.LORA}, section 4.1",),
    ),
    ask(
        id="serve-swap-time", level="medium", kind="numeric", calculate=calc.swap_time, fits=gated,
        given={"r": 16, "speed": 16},
        question="Adapters (LoRA of rank {{r}} on every linear map of {{model}}, bfloat16) wait in CPU memory. The "
        "link to the GPU moves {{speed}} GB per second. How many milliseconds does bringing one over take at best?",
        answer="{{value}}. Moving a whole fine-tuned model would take {{whole}} seconds.",
        listen_for=("bytes over bandwidth", "so adapters can be paged per request"),
        wrong=("moves the base as well", "mixes bits and bytes"),
        sources=(f"{src.SLORA}, section 5", src.ALGEBRA),
    ),
    ask(
        id="serve-mixed-batch", level="medium", kind="numeric", calculate=calc.mixed_batch, fits=separate_attention,
        given={"r": 16, "requests": 32},
        question="A batch holds {{requests}} requests, each with another LoRA of rank {{r}} (query and value maps "
        "of {{model}}, bfloat16). How many bytes do their adapters take on the GPU on top of the base?",
        answer="{{value}}, {{share}} of the base's bytes.",
        listen_for=(
            "adapters are small enough to keep many resident",
            "memory is then shared with the key/value cache",
        ),
        wrong=("one adapter at a time, as if batches could not be mixed",),
        sources=(f"{src.SLORA}, section 5", f"{src.PUNICA}, section 4"),
    ),
    ask(
        id="serve-which-merge", level="medium", kind="free", model=None,
        facts=(
            fact("lora", MERGES),
            fact("ia3", MERGES),
            fact("adapters", MERGES, "", "never"),
            fact("prompt", LENGTHENS),
            fact("prefix", LENGTHENS),
            fact("ptuning", LENGTHENS),
        ),
        question="Which PEFT methods leave no trace at inference, and what do the others cost?",
        answer="LoRA and IA³ can be merged, BitFit and full fine-tuning change existing parameters: nothing is "
        "added. Adapters stay as small layers in sequence. Prompt and prefix methods keep virtual tokens: context, "
        "cache and attention. P-Tuning drops its encoder but keeps its tokens.",
        listen_for=("linear corrections merge", "adapters: latency", "virtual tokens: context and cache"),
        wrong=("'all PEFT methods are free at inference'",),
        sources=(f"{src.LORA}, sections 3 and 4.1", f"{src.IA3}, section 3.3"),
    ),
    ask(
        id="serve-base-version", level="medium", kind="free", model=None,
        question="An adapter gives nonsense in production although its file is intact. What do you check?",
        answer="The base: same model, same revision, same precision and quantisation, same tokenizer and special "
        "tokens, same chat template. The adapter: right one active, scale applied once, not merged twice, head "
        "loaded. A difference of weights only means something relative to the weights it was trained against, so "
        "store the base's revision with it.",
        listen_for=(
            "The base: same model, revision, precision and quantisation as in training.",
            "An adapter is a difference to one exact base.", "Tokenizer, special tokens and chat template.",
            "The right adapter is active, scaled once, not merged twice, and its head was loaded.",
        ),
        wrong=("retrains at once", "'any base of the same shape will do'"),
        sources=(src.PEFT, src.RUN),
    ),
    ask(
        id="serve-unmerged-work", level="hard", kind="numeric", calculate=calc.unmerged_work, fits=gated,
        given={"r": 16},
        question="LoRA of rank {{r}} on every linear map of {{model}} is served unmerged. By which percentage do "
        "the multiplications per token in the layers' linear maps grow?",
        answer="By {{value}}: one multiplication per weight and token, for A and B as for W. Latency grows more "
        "than that where the GPU waits for small kernels.",
        listen_for=("parameters of the adapter over parameters of the maps", "arithmetic is not latency"),
        wrong=("includes embeddings in the base",),
        sources=(f"{src.LORA}, section 4.1", f"{src.SCALING}, section 2.1"),
    ),
    ask(
        id="serve-requests-lost", level="hard", kind="numeric", calculate=calc.requests_lost,
        fits=room_for(REQUEST + VIRTUAL), given={"n": VIRTUAL, "length": REQUEST, "gigabytes": 20},
        question="{{gigabytes}} GB (decimal) are left for the key/value cache of {{model}} in bfloat16 ({{layers}} "
        "layers, {{kv_heads}} key/value heads of size {{head_dim}}), requests have {{length}} tokens. How many "
        "fewer requests fit at once if each also carries {{n}} virtual tokens of its own?",
        answer="{{value}} fewer: {{without}} without and {{with}} with them.",
        listen_for=("cache per token", "rounds down twice, then subtracts", "shared prefixes would avoid it"),
        wrong=("none, because prompts have hardly any parameters",),
        sources=(f"{src.GQA}, section 2", src.ALGEBRA),
    ),
    ask(
        id="serve-heterogeneous", level="hard", kind="free", model=None,
        facts=(
            fact("lora", FIRST, tasks="many", kind="causal-lm", storage="roomy"),
            fact("lora", SERVED, "vllm"),
        ),
        question="How can one batch hold requests for hundreds of different LoRA adapters without becoming slow?",
        answer="The base multiplication is done once for the whole batch, since all share W. The corrections are "
        "computed apart by kernels that gather each request's A and B (segmented or batched gather "
        "multiplication). Adapters are paged between CPU and GPU memory with the cache, and requests are scheduled "
        "so that their adapters are resident.",
        listen_for=(
            "base batched, corrections gathered",
            "custom kernels, different ranks in one batch",
            "unified paging of adapters and cache",
        ),
        wrong=("merging and unmerging for each request",),
        sources=(f"{src.PUNICA}, section 4", f"{src.SLORA}, sections 4 and 5"),
    ),
    ask(
        id="serve-merge-low-precision", level="hard", kind="free", model=None,
        question="After merging LoRA in bfloat16 the outputs differ by about a percent; in float32 by a millionth. "
        "Is that a bug?",
        answer="No: adding a small ΔW to a larger W in bfloat16 keeps about 8 significant bits of the sum, so part "
        "of ΔW is rounded away. Merge in float32 and round once at the end, or compare task scores rather than "
        "logits. Into a 4-bit base the rounding can cost as much as ΔW itself.",
        listen_for=(
            "It is no bug: bfloat16 keeps about 8 significant bits, so part of a small ΔW is rounded away in the sum.",
            "Merge in float32 and round once at the end.", "Judge by the task's score rather than by the logits.",
        ),
        wrong=(
            "'merging is exact'", "'bfloat16 is broken'", "'bfloat16 has too small a range'",
            "'merge in bfloat16 and cast afterwards'",
        ),
        sources=(src.RUN,),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on serving.


CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "serve-merged-or-not",
        "I always merge, then there is only one model to serve.",
        "You have a hundred tasks. How many models are that?",
        "A hundred, each at full size. Merging is for one task that has the machine for itself; many tasks share a "
        "base "
        "and keep their adapters apart.",
        f"{src.LORA}, section 4.1", src.SLORA,
    ),
    hold(
        "serve-heterogeneous",
        "Requests for different adapters can share one batch.",
        "Each request needs other weights, so you have to run them one after the other.",
        "They share W, and that product is made once for all. Only the small corrections differ, and gathered kernels "
        "compute those by row.",
        f"{src.PUNICA}, section 4", f"{src.SLORA}, section 5",
    ),
    hold(
        "serve-merge-low-precision",
        "A difference of about a percent after merging in bfloat16 is no bug.",
        "Merging is exact. Find your mistake.",
        "It is exact on paper. The sum of a small ΔW and a larger W is rounded to bfloat16's eight significant bits, "
        "and "
        "part of ΔW is lost. In float32 the same merge differs by a millionth.",
        src.RUN, opens=lab("misconceptions", belief="predict-merge-precision"),
    ),
    give_way(
        "serve-which-merge",
        "All PEFT methods are free at inference once they are trained.",
        "Prompts as well?",
        "No. Prompt and prefix methods keep their tokens in every request, adapters stay as layers. Only what merges, "
        "or "
        "changes what is there, is free.",
        f"{src.LORA}, sections 3 and 4.1", opens=lab("fact_check", claim="leaf-no-overhead"),
    ),
    hold(
        "serve-many-tasks",
        "{{value}}.",
        "A hundred tasks are a hundred models. Multiply the base.",
        "They share one base; each adds its A and B only. Full copies would take {{times}} times as much.",
        f"{src.LORA}, section 4.2",
    ),
    give_way(
        "serve-base-version",
        "Its file is intact, so it must be undertrained. I train again.",
        "On which revision of the base is it being served?",
        "That is to be checked first: an adapter is a difference to one exact base, with its tokenizer and template. "
        "Training again on a wrong base would repeat the fault.",
        src.PEFT, src.RUN,
    ),
)  # fmt: skip
