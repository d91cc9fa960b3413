"""What is asked after the questions on QLoRA."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz import fourbit
from peft_lab.quiz.computed import Answer, Case
from peft_lab.quiz.follow_up import FollowUp, lab, then
from peft_lab.quiz.working import BITS, block_entries, told

LLAMA, SMOL = "llama-3.2-3b", "smollm2-135m"
BYTE, HALF, SINGLE, MOMENTS = 1, 2, 4, 2
MILLIONS = 40


def _rest_bytes(case: Case) -> Answer:
    return told((case.shape.total - block_entries(case.shape)) * HALF, "bytes")


def _per_ingredient(case: Case) -> Answer:
    return told(
        0,
        "",
        four=f"{BITS * HALF - fourbit.bits():.3g}",
        double=f"{fourbit.bits() - fourbit.bits(double=True):.2g}",
    )


def _in_half(case: Case) -> Answer:
    trained = case.trained("lora", r=case["r"], target_modules=["all-linear"])
    each = 2 * HALF + MOMENTS * BYTE
    return told(trained * each, "bytes", each=each, was=SINGLE * (2 + MOMENTS))


def _adapter_moments(case: Case) -> Answer:
    return told(
        MILLIONS * 1e6 * MOMENTS * SINGLE, "bytes", eight=told(MILLIONS * 1e6 * MOMENTS, "bytes").shown
    )


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "qlora-ingredients": (
        then(
            "Which of these saves the most?",
            "The 4-bit weights, by far: {{four}} of 16 bits for each weight. Double quantisation saves {{double}} bits "
            "more. Paging saves nothing on average, it survives spikes; LoRA saves gradients and optimizer states.",
            f"{src.QLORA}, section 3", calculate=_per_ingredient,
        ),
        then(
            "Which could you drop without losing quality?",
            "Paging and double quantisation: both are about memory only. What the paper needed for quality is LoRA on "
            "every linear map, and NF4 rather than FP4.",
            f"{src.QLORA}, section 4", opens=lab("qlora", model=SMOL, bnb_4bit_use_double_quant=False, tab="memory"),
        ),
        then("What does it not save?", to="qlora-not-saved"),
    ),
    "qlora-storage-compute": (
        then(
            "What does that mean for training speed, and for inference?",
            "Training has to rebuild every weight twice or more for each step, so it is slower than LoRA where LoRA "
            "fits. Generation at small batches is limited by reading weights: there 4 bits can be faster, if a kernel "
            "rebuilds them on the way instead of writing them out.",
            f"{src.QLORA}, section 3", opens=lab("qlora", model=SMOL, tab="try it"),
        ),
        then("And is all 4-bit quantisation like that?", to="quant-int8-activations"),
    ),
    "qlora-base-bytes": (
        then(
            "What else of the model takes memory, and in which precision?",
            "Embeddings, output layer and norms, {{value}} here in bfloat16. Then the adapter with gradients and "
            "moments, usually in float32, and the activations.",
            f"{src.QLORA}, section 3", src.RUN, calculate=_rest_bytes,
        ),
        then("So how large is the whole model?", to="qlora-model-bytes"),
    ),
    "qlora-largest": (
        then(
            "What would you subtract first?",
            "Activations and logits, because they grow with tokens at once and decide whether it runs; then the 16-bit "
            "embeddings; then the adapter's training state. And a margin for the allocator.",
            src.RUN, f"{src.QLORA}, section 3", opens=lab("memory", model="llama-3.1-8b", method="qlora", tab="fits"),
        ),
        then(
            "How does sequence length change it?",
            "Saved activations grow in proportion to the tokens at once, logits too. With checkpointing only one "
            "input per layer is kept, which moves the limit far out.",
            f"{src.CHECKPOINTING}, section 4", src.RUN,
        ),
        then("How many bytes does checkpointing keep?", to="memory-checkpoints"),
    ),
    "qlora-model-bytes": (
        then(
            "Why does a small model with a large vocabulary gain so little?",
            "Because the vocabulary's matrix stays in 16 bits and is a large part of a small model; only what is in "
            "the "
            "blocks shrinks.",
            src.RUN, opens=lab("fact_check", claim="qlora-by-size"),
        ),
        then("Which share of a 1B model is that?", to="qlora-left-in-half"),
    ),
    "qlora-left-in-half": (
        then(
            "Would you quantise the embedding?",
            "It is a table that is looked up, so it costs no arithmetic, and 8 bits would usually do. But libraries "
            "leave it out, a tied output layer is more sensitive to error, and new tokens could not be trained in it. "
            "A smaller vocabulary, or a larger model, is the other way out.",
            src.RUN, src.ALGEBRA,
        ),
        then("By how much do the weights shrink, then?", to="qlora-saved-share"),
    ),
    "qlora-adapter-against-base": (
        then(
            "How could you shrink it?",
            "A smaller rank, first of all. Or keep adapter and gradients in bfloat16 and Adam's moments in 8 bits: "
            "{{each}} bytes a parameter instead of {{was}}, {{value}} here.",
            src.BLOCKWISE, src.ALGEBRA, calculate=_in_half,
        ),
        then("How many bytes do the moments take at a small rank on two maps?", to="memory-adapter-moments"),
    ),
    "qlora-not-saved": (
        then(
            "When would you prefer LoRA on the same card?",
            "Whenever it fits with room for the rows you want. It is faster, starts from the exact model, and merges "
            "without a second rounding.",
            f"{src.QLORA}, section 3", opens=lab("memory", model=LLAMA, device="rtx-4090", tab="fits"),
        ),
        then(
            "What does gradient checkpointing add?",
            "It takes what QLoRA leaves, the activations, at the price of one more forward pass, which here rebuilds "
            "the weights once more as well. Together they are what makes large models fit.",
            f"{src.CHECKPOINTING}, section 4", src.QLORA,
        ),
        then("Which trap waits for checkpointing with a frozen base?", to="train-checkpointing-frozen"),
    ),
    "qlora-gradient-path": (
        then(
            "Which layers' backward passes can be skipped entirely?",
            "Those below the lowest trained parameter. If only the upper half carries adapters, the lower half needs "
            "neither a backward pass nor its activations.",
            src.ALGEBRA, opens=lab("qlora", model=SMOL, tab="memory"),
        ),
        then("And which activations need not be kept because the maps are frozen?", to="memory-frozen-activations"),
    ),
    "qlora-paged": (
        then(
            "How large are the states for an adapter of 40 million parameters?",
            "{{value}} with float32 moments, {{eight}} in 8 bits. Beside a base of gigabytes that is not what runs "
            "out: "
            "paging helps full fine-tuning far more than it helps here.",
            f"{src.ADAM}, algorithm 1", calculate=_adapter_moments,
        ),
        then(
            "Then what runs out in a spike?",
            "Activations of one long row or batch. Nothing pages those; evicting the states only makes room for them. "
            "Cap the tokens of a batch, or checkpoint.",
            f"{src.QLORA}, section 3", opens=lab("memory", model=LLAMA, optimizer="paged_adamw8bit", tab="timeline"),
        ),
    ),
    "qlora-saved-share": (
        then(
            "For which models is the difference negligible?",
            "For those whose blocks are nearly everything: from several billion parameters on, or with a small "
            "vocabulary. The Lab's fact check counts it by model.",
            src.RUN, opens=lab("fact_check", claim="qlora-by-size"),
        ),
        then("Which method would be the first to fit a 7B model on 24 GB?", to="choose-least-that-fits"),
    ),
    "qlora-numel": (
        then(
            "How would you count correctly?",
            "From the shapes: in times out features of each map, or the shape kept in the quantisation's state. PEFT's "
            "own count doubles packed tensors. And compare with the published size of the model.",
            src.PEFT, src.RUN, opens=lab("qlora", model="llama-2-7b", tab="parameters"),
        ),
        then(
            "So what does a wrong 'trainable %' do in practice?",
            "With the base at half its size the share is nearly twice as large as it is. Nothing breaks; but two tools "
            "then disagree, and a table that mixes them compares nothing.",
            src.ALGEBRA,
        ),
    ),
    "qlora-merge": (
        then(
            "How would you measure which way is best for your model?",
            "Score each merged model on the held-out task, not on logits alone: unmerged on the 4-bit base as the "
            "reference, merged into 16-bit weights, into dequantised ones, and requantised. Then add size and speed.",
            src.RUN,
        ),
        then(
            "Show me what rounding to 4 bits again does to ΔW.",
            "The Lab merges a correction of one percent of W and measures the error in units of ΔW.",
            src.RUN, opens=lab("misconceptions", belief="predict-merge-four-bit"),
        ),
        then("Is a difference of one percent after merging in bfloat16 a bug?", to="serve-merge-low-precision"),
    ),
    "qlora-step-zero": (
        then(
            "What happens if you later switch that adapter off?",
            "You get the quantised base without its compensation, which is not the original and not even the best "
            "rounding of it. As with PiSSA, base and adapter belong together.",
            f"{src.LOFTQ}, section 3",
        ),
        then("PiSSA starts from the top singular vectors. What does that change?", to="lora-pissa"),
    ),
}  # fmt: skip
