"""What is asked after the questions on serving."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.working import told

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
