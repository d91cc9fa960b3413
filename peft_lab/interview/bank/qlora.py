"""What is asked after the questions on QLoRA."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.core.units import Source
from peft_lab.interview import computed
from peft_lab.interview.calculations import qlora as calc
from peft_lab.interview.claims import kept
from peft_lab.interview.computed import BITS, Answer, Case, Given, block_entries, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    followed,
    gated,
    give_way,
    hold,
    lab,
    then,
)

LLAMA, SMOL = "llama-3.2-3b", "smollm2-135m"
BYTE, HALF, SINGLE, MOMENTS = 1, 2, 4, 2
MILLIONS = 40


def _rest_bytes(case: Case) -> Answer:
    return told((case.shape.total - block_entries(case.shape)) * HALF, "bytes")


def _per_ingredient(case: Case) -> Answer:
    return told(
        0,
        "",
        four=f"{BITS * HALF - computed.nf4_bits():.3g}",
        double=f"{computed.nf4_bits() - computed.nf4_bits(double=True):.2g}",
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


# ----------------------------------------
# Questions on QLoRA, the method. Number formats are asked about in ``quantisation``.


MODEL = "llama-2-7b"
ask = partial(Question, topic="qlora", model=MODEL, fits=gated)


def _merged() -> dict[str, Given]:
    """What the fact check on merging found: figures as they stand in a sentence."""
    found = kept.kept_result("qlora-merge")
    assert found is not None, "found.json has every slow check"
    ways = {"unmerged": "unmerged", "expanded": "expanded", "fresh": "fresh", "again": "rounded again"}
    scores: dict[str, Given] = {name: f"{found.values[f'score {way}']:.1f}" for name, way in ways.items()}
    return scores | {name: f"{found.values[name]:.2g}" for name in ("lost", "shift")}


_ASKED = (
    ask(
        id="qlora-ingredients", level="basic", kind="free", model=None,
        question="Name the ingredients of QLoRA and what each of them contributes.",
        answer="4-bit NormalFloat stores the frozen weights in 16 values placed for normally distributed numbers. "
        "Double quantisation stores the scaling constants of the blocks in 8 bits too. Paged optimizers let "
        "optimizer states move to CPU memory during spikes. And ordinary LoRA adapters in 16 or 32 bits on every "
        "linear map carry everything that is learned.",
        listen_for=(
            "4-bit NormalFloat stores the frozen weights.",
            "Double quantisation also quantises the blocks' scaling constants.",
            "Paged optimizers let optimizer states move to the CPU during memory spikes.",
            "LoRA adapters in 16 or 32 bits carry all that is learned.",
        ),
        wrong=(
            "that training happens in 4 bits", "that the adapter is quantised as well",
            "'double quantisation quantises the weights twice'",
        ),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="qlora-storage-compute", level="basic", kind="choice", model=None, correct=1,
        options=(
            "In 4 bits",
            "In the compute type, bfloat16 say, after rebuilding the weights",
            "In 8 bits",
            "In 4 bits forward, 16 bits backward",
        ),
        question="A QLoRA layer multiplies an activation with its frozen weight. In which precision?",
        answer="In the compute type: 4 bits is how the weight is stored. Each forward and backward pass rebuilds "
        "it to bfloat16 first, which costs time.",
        listen_for=(
            "storage type against compute type",
            "dequantised block by block, every time",
            "so memory is saved and time is not",
        ),
        wrong=("in 4 bits, on special hardware",),
        because=(
            "That storage and arithmetic have one format. The 4-bit codes are indices into a table; nobody multiplies "
            "them.",
            "",
            "That this is LLM.int8(), which multiplies integers of 8 bits. QLoRA rebuilds to 16.",
            "That only the gradient needs precision. The weight is rebuilt in both directions, and no product is made "
            "in 4 bits.",
        ),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="qlora-base-bytes", level="basic", kind="numeric", calculate=calc.base_bytes,
        question="The linear maps of {{model}}'s blocks are stored in NF4 with double quantisation (blocks of 64, "
        "constants in 8 bits in groups of 256). How many bytes do they take?",
        answer="{{value}}: a little more than half a byte for each weight.",
        listen_for=("adds the constants to the 4 bits", "divides by eight"),
        wrong=("half a byte each: the constants are missing", "a quarter of 16 bits for the whole model"),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="qlora-largest", level="basic", kind="numeric", calculate=calc.largest_model, model=None,
        given={"gigabytes": 24},
        question="A card has {{gigabytes}} GB (decimal). If nothing but NF4 weights with double quantisation had "
        "to fit, how many parameters could the model have?",
        answer="{{value}} at best. You also need room for 16-bit embeddings, the adapter with gradients and "
        "optimizer states, and the activations.",
        listen_for=("bits per weight with constants", "says at once why it is only an upper bound"),
        wrong=("takes 4 bits flat", "promises that this model could be trained there"),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="qlora-model-bytes", level="medium", kind="numeric", calculate=calc.model_bytes, model="llama-3.2-3b",
        question="bitsandbytes stores the linear maps of {{model}}'s blocks in NF4 with double quantisation; "
        "embeddings, norms and the output layer stay in bfloat16. How large is the model in memory?",
        answer="{{value}}, against {{half}} GB in bfloat16. {{rest}} of it is what was not quantised.",
        listen_for=("asks what is left out of the quantisation", "large vocabularies make that part heavy"),
        wrong=("a quarter of the 16-bit size", "counts a tied output layer twice"),
        sources=(f"{src.QLORA}, section 3", src.RUN),
    ),
    ask(
        id="qlora-left-in-half", level="medium", kind="numeric", calculate=calc.left_in_half, model="llama-3.2-1b",
        question="Which share of {{model}}'s parameters is not in the blocks' linear maps and so stays in 16 bits "
        "under QLoRA? (vocabulary {{vocab}}, hidden {{hidden}})",
        answer="{{value}} of the parameters, and {{bytes_share}} of the bytes, because everything around them has "
        "shrunk.",
        listen_for=(
            "the embedding dominates: vocabulary × hidden",
            "its share of the bytes is far larger than of the parameters",
        ),
        wrong=("that the norms matter", "that all parameters are quantised"),
        sources=(src.RUN, f"{src.QLORA}, section 3"),
    ),
    ask(
        id="qlora-adapter-against-base", level="medium", kind="numeric", calculate=calc.adapter_against_base,
        given={"r": 64},
        question="QLoRA with r = {{r}} on every linear map of {{model}}, adapter in float32, base in NF4 with "
        "double quantisation (embeddings, norms and output layer in bfloat16). The adapter's bytes are which "
        "percentage of the base's?",
        answer="{{value}}. With float32 gradients and two Adam moments the adapter's own training state comes to "
        "{{training}} GB: beside a 4-bit base a large rank is no longer free.",
        listen_for=("4 bytes against half a byte per number", "gradients and moments multiply the adapter by four"),
        wrong=("'under one percent': true of a 16-bit base and a small rank",),
        sources=(src.QLORA, f"{src.ADAM}, algorithm 1"),
    ),
    ask(
        id="qlora-not-saved", level="medium", kind="free", model=None,
        question="What does QLoRA not save?",
        answer="Time: every pass rebuilds the weights. Activations: they are as large as with LoRA and dominate "
        "long sequences until you checkpoint. The parts that stay in 16 bits: embeddings, output layer, norms. And "
        "the logits. So the gain is large for large models and small batches, and little on a small model with long "
        "sequences.",
        listen_for=(
            "Time: every pass has to rebuild the weights.", "Activations: they are as large as with LoRA.",
            "Parts that stay in 16 bits: embeddings, output layer, norms; and the logits.",
            "How much is saved depends on the model's size and the sequence length.",
        ),
        wrong=(
            "'it makes everything four times smaller'", "'it trains faster because numbers are smaller'",
            "'it saves activations'", "'activations are quantised as well'",
        ),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="qlora-gradient-path", level="medium", kind="free", model=None,
        question="If the base is in 4 bits and frozen, how does a gradient reach an adapter in the first layer?",
        answer="Backpropagation needs the gradient with respect to each layer's input, not to its weights. That is "
        "the rebuilt weight, transposed, times the incoming gradient, so the base is dequantised again in the "
        "backward pass. No gradient for the 4-bit values is formed: rounding has none of use.",
        listen_for=(
            "What is needed is the gradient with respect to the layer's input, not that of its weights.",
            "The base's weights are dequantised again in the backward pass and used transposed.",
            "No gradient is formed for the 4-bit values themselves, so no straight-through estimator is needed.",
        ),
        wrong=(
            "that gradients are quantised as well", "that frozen layers need no backward pass",
            "'a straight-through estimator is needed'",
        ),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="qlora-paged", level="medium", kind="free", model=None,
        question="What is a paged optimizer, and when does it help?",
        answer="Its states live in unified memory that the driver moves page by page between GPU and CPU. It helps "
        "against spikes: when one long batch would run out of memory, states are evicted and come back for the "
        "update. If states are moved in every step it becomes slow, and with LoRA the states are small anyway.",
        listen_for=(
            "Its states live in unified memory and are moved page by page between GPU and CPU.",
            "It helps against spikes that would run out of memory.",
            "It is slow if states have to move in every step.", "With LoRA the states are small anyway.",
        ),
        wrong=(
            "that it compresses the states: 8-bit optimizers do that", "'it costs nothing'",
            "'with LoRA the states are large'",
        ),
        sources=(f"{src.QLORA}, section 3",),
    ),
    ask(
        id="qlora-saved-share", level="hard", kind="numeric", calculate=calc.saved_share, model="llama-3.2-1b",
        question="By which percentage do the weights of {{model}} shrink under NF4 with double quantisation, "
        "embeddings, norms and output layer left in 16 bits?",
        answer="By {{value}}, not by the {{ideal}} that the bits of one weight suggest.",
        listen_for=("weighs the two parts", "tied embeddings are one matrix"),
        wrong=("three quarters",),
        sources=(f"{src.QLORA}, section 3", src.RUN),
    ),
    ask(
        id="qlora-numel", level="hard", kind="numeric", calculate=calc.naive_numel,
        question="You load {{model}} in 4 bits and print `p.numel()` of one query map's weight ({{q_out}} × "
        "{{q_in}}). What do you see?",
        answer="{{value}}: the tensor holds bytes, each with two weights. Sums over such a model are too small, so "
        "a percentage printed from them is too large.",
        listen_for=("packed storage", "why 'trainable %' of a 4-bit model can be wrong"),
        wrong=("the true count", "that the model really lost half its weights"),
        sources=(src.RUN,),
    ),
    ask(
        id="qlora-merge", level="hard", kind="free", model=None, origin=Source.MEASURED, given=_merged(),
        question="Your QLoRA adapter is trained. How do you merge it, and what is lost each way?",
        answer="Say ΔW is one percent of W. Rounding the sum to NF4 again errs by {{lost}} times ΔW: the correction "
        "disappears between two code values. Merging into the 16-bit original, which the adapter never saw, moves the "
        "weights by {{shift}} times ΔW, since rounding had moved them so far; that is usually harmless, as it takes "
        "noise away. Dequantising the base and adding ΔW in 16 bits keeps the function that was trained; so does "
        "serving unmerged, which is slower. On a small classifier that was trained here {{unmerged}}% of held-out "
        "answers were right unmerged, {{expanded}}% merged into the dequantised base, {{fresh}}% into the original, "
        "{{again}}% rounded again.",
        listen_for=(
            "Rounding the sum to 4 bits again can swallow the correction.",
            "Merging into the 16-bit original meets weights that the adapter never saw, which is usually harmless.",
            "Dequantise the base that was trained with, and add the update in 16 bits: that keeps the trained "
            "function.", "Or serve it unmerged, which is slower.", "Measure the task's score before and after.",
        ),
        wrong=("'merge_and_unload, done'", "that the merge closest in weights must be the best"),
        sources=("Fact check: However a QLoRA adapter is merged, the model stays as good", f"{src.LOFTQ}, section 3"),
    ),
    ask(
        id="qlora-step-zero", level="hard", kind="free", model=None,
        question="LoRA leaves the model unchanged at step 0. Does QLoRA? What do LoftQ and similar starts do about "
        "it?",
        answer="The adapter changes nothing, but the base is already the rounded one, so step 0 is the quantised "
        "model with its error. LoftQ chooses A, B and the quantised base together so that their sum is close to "
        "the original weights: the adapter then starts by undoing part of the rounding.",
        listen_for=(
            "The adapter adds nothing at step 0.",
            "But the base is already rounded, so step 0 is the quantised model with its error.",
            "LoftQ chooses A, B and the quantised base together so that their sum is near the original weights.",
            "B is then not zero.",
        ),
        wrong=("that B = 0 makes the model equal to the 16-bit one", "'LoftQ trains or quantises the adapter'"),
        sources=(f"{src.LOFTQ}, section 3", f"{src.QLORA}, section 3"),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on QLoRA.


CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "qlora-storage-compute",
        "The product is made in 4 bits, that is why it is so small.",
        "Which unit of the GPU multiplies NF4?",
        "None. 4 bits are how the weight is stored; it is rebuilt to the compute type before every product. That saves "
        "memory and costs time. Blackwell GPUs do multiply four-bit floats, NVFP4 and MXFP4, but NF4 is neither.",
        f"{src.QLORA}, section 3", src.BLOCK_SCALED,
    ),
    hold(
        "qlora-base-bytes",
        "{{value}}.",
        "Four bits are half a byte each, so it must be less.",
        "Half a byte is the code alone. Each block has a constant, in 8 bits, and groups of these have another: a "
        "little more than half a byte.",
        f"{src.QLORA}, section 3",
    ),
    give_way(
        "qlora-not-saved",
        "QLoRA trains faster than LoRA, because there are fewer bytes to move.",
        "Time a step of both on a card on which both fit.",
        "It is slower there: every pass rebuilds the weights. It is worth it where LoRA does not fit, or where the "
        "room "
        "allows a larger batch.",
        f"{src.QLORA}, section 3", opens=lab("qlora", model="smollm2-135m", tab="try it"),
    ),
    hold(
        "qlora-gradient-path",
        "No gradient for the 4-bit weights is formed, and yet adapters in the first layer learn.",
        "Rounding has no useful derivative. So nothing can pass a rounded layer without a straight-through estimator.",
        "What passes is the gradient for the layer's input, the rebuilt weight transposed times the incoming gradient. "
        "The rounded values are constants; nobody differentiates the rounding.",
        f"{src.QLORA}, section 3",
    ),
    hold(
        "qlora-step-zero",
        "With B = 0, QLoRA does not start at the 16-bit model.",
        "B = 0 means that nothing is changed, so it starts exactly there.",
        "Nothing is changed against the base it stands on, and that is the rounded one. The rounding error is there "
        "from the first step; LoftQ is about just that.",
        f"{src.LOFTQ}, section 3",
    ),
    hold(
        "qlora-numel",
        "`numel` shows {{value}}, and the model is whole.",
        "Half the weights are missing from that tensor. Your file must be damaged.",
        "The tensor holds bytes with two weights in each. Count from the shapes; PEFT's own count doubles packed "
        "tensors for that reason.",
        src.PEFT, src.RUN,
    ),
)  # fmt: skip
