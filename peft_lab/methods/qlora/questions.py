"""Questions on QLoRA, the method. Number formats are asked about in ``quantisation``."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.claims import kept
from peft_lab.methods.qlora import calculations as calc
from peft_lab.methods.qlora.follow_ups import FOLLOW_UPS
from peft_lab.quiz.computed import Given
from peft_lab.quiz.fits import gated
from peft_lab.quiz.question import Question, followed
from peft_lab.units import Source

MODEL = "llama-2-7b"
ask = partial(Question, topic="qlora", model=MODEL, fits=gated)


def _merged() -> dict[str, Given]:
    """What the fact check on merging found: figures as they stand in a sentence."""
    found = kept.found("qlora-merge")
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
