"""Questions on serving adapted models."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.facts import FIRST, LENGTHENS, MERGES, SERVED, fact
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.calculations import serving as calc
from peft_lab.quiz.fits import gated, room_for, separate_attention
from peft_lab.quiz.follow_ups.serving import FOLLOW_UPS
from peft_lab.quiz.question import Question, followed

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
