"""What is asked after the questions on memory."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview import computed
from peft_lab.interview.calculations import memory as calc
from peft_lab.interview.calculations.memory import HALF, MIXED, MOMENTS, SINGLE
from peft_lab.interview.computed import Answer, Case, block_entries, told
from peft_lab.interview.question import (
    Challenge,
    FollowUp,
    Question,
    followed,
    give_way,
    hold,
    lab,
    room_for,
    separate_attention,
    then,
)
from peft_lab.models.shapes import ModelShape

LLAMA = "llama-3.2-3b"
BYTE, BITS = 1, 8
GPUS = 8


def _adapter(case: Case) -> int:
    names = [case.shape.target_name(case.matrix(role)) for role in ("q", "v")]
    return case.trained("lora", r=case["r"], target_modules=names)


def _pure(case: Case) -> Answer:
    return told(case.shape.total * HALF * (2 + MOMENTS), "bytes")


def _split(case: Case) -> Answer:
    return told(case.shape.total * MIXED / GPUS, "bytes", gpus=GPUS)


def _narrowed(case: Case) -> Answer:
    """The weights that grouped-query attention saves in keys and values, as a share of the model with full ones."""
    shape = case.shape
    k, v = case.matrix("k"), case.matrix("v")
    saved = sum((shape.heads * shape.head_dim - m.out_features) * m.in_features * m.count for m in (k, v))
    return told(100 * saved / (shape.total + saved), "percent")


def _eight_bit(case: Case) -> Answer:
    trained = _adapter(case)
    saved = trained * MOMENTS * (SINGLE - BYTE)
    return told(saved, "bytes", share=told(100 * saved / (case.shape.total * HALF), "percent").shown)


def _matters_from(case: Case) -> Answer:
    """The rank at which the adapter's training state is a tenth of the base, and by how much sooner on NF4."""
    per_rank = _adapter(case) / case["r"] * (2 + MOMENTS) * SINGLE
    base, blocks = case.shape.total * HALF, block_entries(case.shape)
    in_four_bits = base - blocks * HALF + blocks * computed.nf4_bits(double=True) / BITS
    return told(round(0.1 * base / per_rank), sooner=base / in_four_bits)


def _against_mixed(case: Case) -> Answer:
    own = _adapter(case) * (2 + MOMENTS) * SINGLE
    return told(case.shape.total * (MIXED - HALF) - own, "bytes")


FOLLOW_UPS: dict[str, tuple[FollowUp, ...]] = {
    "memory-weights": (
        then(
            "What comes on top to run it?",
            "The key/value cache, which grows with every token and every sequence, the activations of one step, and "
            "what the runtime itself needs.",
            src.ALGEBRA, f"{src.GQA}, section 2",
        ),
        then("And to train all of it?", to="memory-mixed-adam"),
    ),
    "memory-gqa-factor": (
        then(
            "Does it change the size of the weights much?",
            "By {{value}} of what the model would have with full key and value maps. The gain is in the cache, and it "
            "is "
            "there for every token of every request.",
            f"{src.GQA}, section 2", calculate=_narrowed,
        ),
        then("So how large is the cache?", to="memory-cache"),
    ),
    "memory-not-saved": (
        then("Which activations does a frozen linear map not need to keep?", to="memory-frozen-activations"),
        then(
            "So what dominates a LoRA run with long sequences?",
            "Activations, and at its peak the logits. Turn the tokens up on the Memory page and see which part grows.",
            src.RUN, opens=lab("memory", model=LLAMA, method="lora", batch=4, seq=2048, tab="curves"),
        ),
    ),
    "memory-parts": (
        then(
            "Why is the second step's peak higher than the first's?",
            "Adam's moments are made in the first update, after the first backward pass. From the second step on they "
            "are there already when the activations are at their largest.",
            src.RUN, f"{src.ADAM}, algorithm 1",
            opens=lab("memory", model=LLAMA, method="full", batch=4, seq=768, tab="timeline"),
        ),
        then("A monitor shows more than the sum of all parts. Why?", to="memory-reserved"),
    ),
    "memory-mixed-adam": (
        then(
            "And in pure bfloat16?",
            "{{value}}: weight, gradient and two moments of two bytes. What is lost is the float32 copy, and with it "
            "small updates.",
            src.ALGEBRA, f"{src.MIXED}, section 3.1", calculate=_pure,
        ),
        then(
            "How is this split over several GPUs?",
            "ZeRO gives each GPU a part of the moments and the copy, then of the gradients, then of the weights. With "
            "everything split over {{gpus}} each holds {{value}}, and activations on top.",
            f"{src.ZERO}, sections 3 and 3.1", calculate=_split,
        ),
        then("How many GPUs would a 70B model need at least?", to="choose-gpus-for-full"),
    ),
    "memory-pure-half": (
        then(
            "What does stochastic rounding do about the lost updates?",
            "It rounds up or down at random, with the nearer neighbour more likely, so that a small update survives "
            "with a chance in proportion to its size: right on average, where rounding to nearest loses it every time.",
            src.PURE_BF16,
        ),
        then("How far apart are bfloat16 numbers, and so which updates are lost?", to="train-bf16-spacing"),
    ),
    "memory-adapter-moments": (
        then(
            "Would an 8-bit optimizer still be worth it?",
            "It would save {{value}}, {{share}} of the base's bytes. Not here; with a large rank on all maps of a "
            "4-bit "
            "base it can be.",
            src.BLOCKWISE, calculate=_eight_bit,
            opens=lab("memory", model=LLAMA, optimizer="adamw8bit", tab="timeline"),
        ),
        then("All that belongs to the adapter: which share of the base is it?", to="memory-adapter-share"),
    ),
    "memory-cache": (
        then(
            "Which PEFT methods make it larger?",
            "Those with virtual tokens, prefix, Prompt and P-Tuning: each token takes what a real one takes, in every "
            "sequence. LoRA, IA³, BitFit and adapters leave it as it is.",
            src.ALGEBRA, src.PEFT,
        ),
        then("How many bytes is one virtual token?", to="prefix-cache"),
    ),
    "memory-adapter-share": (
        then(
            "From which rank on would it be a tenth of the base?",
            "From about {{value}} on. With the layers in 4 bits that point comes {{sooner}} times sooner: embeddings "
            "stay in 16 bits, and sooner still with all linear maps as targets.",
            src.ALGEBRA, calculate=_matters_from, opens=lab("memory", model=LLAMA, targets="all-linear", tab="why"),
        ),
        then("Then calculate it for QLoRA on every map.", to="qlora-adapter-against-base"),
    ),
    "memory-fewer-parameters": (
        then(
            "How would you predict a peak before running?",
            "List the parts: weights, gradients, moments by counting; activations from the shapes and what each "
            "backward pass needs; logits from batch, length and vocabulary. Or simulate the step on tensors without "
            "data, as the Memory page does, and compare with published peaks.",
            src.RUN, opens=lab("memory", model=LLAMA, tab="published"),
        ),
        then("Then explain why IA³ peaks above LoRA.", to="ia3-peak"),
    ),
    "memory-saved-by-lora": (
        then(
            "How does the answer change against mixed precision?",
            "{{value}}: full fine-tuning then keeps a float32 copy and float32 moments as well, LoRA's side is the "
            "same.",
            f"{src.ZERO}, section 3.1", calculate=_against_mixed,
        ),
        then("Say it in words: what does LoRA save, and what does it not?", to="memory-not-saved"),
    ),
    "memory-logits": (
        then(
            "Which PEFT method reduces this?",
            "None: logits come after the model, whatever is trained in it. What helps is code: logits for labelled "
            "positions only, a loss computed in chunks or fused with the output layer.",
            f"{src.FUSED_LOSS}, abstract", opens=lab("memory", model=LLAMA, batch=4, seq=768, tab="timeline"),
        ),
        then("The loss is taken on the answers only. Which share of the tokens counts?",
             to="train-labelled-share"),
    ),
    "memory-checkpoints": (
        then(
            "By how much does the step's arithmetic grow?",
            "By one forward pass: from three units (forward, and two in backward) to four in full fine-tuning. With "
            "LoRA the backward pass is nearly one unit, so two become three and the share is larger.",
            f"{src.CHECKPOINTING}, section 4", f"{src.SCALING}, section 2.1",
            opens=lab("memory", model=LLAMA, checkpointing=True, batch=4, seq=768, tab="timeline"),
        ),
        then("Which trap waits when embeddings are frozen?", to="train-checkpointing-frozen"),
    ),
    "memory-frozen-activations": (
        then(
            "Why does adapting more maps raise memory beyond its parameters?",
            "Each adapted map needs its input again, for the gradient of A. Maps that read the same input share it; "
            "the "
            "down map reads the wide inner activations, which nobody else keeps in that form.",
            src.ALGEBRA, src.RUN, opens=lab("memory", model=LLAMA, targets="all-linear", tab="why"),
        ),
        then(
            "Guess the share that LoRA on queries and values keeps.",
            "The Lab measures the saved tensors of both on a small model.",
            src.RUN, opens=lab("misconceptions", belief="predict-saved-activations"),
        ),
    ),
    "memory-reserved": (
        then(
            "What does emptying the cache do, and what does it not?",
            "It gives unused segments back to the driver, so that other processes can have them. It frees no tensor, "
            "cannot lower the peak of a step, and slows the next allocations down.",
            "PyTorch documentation, CUDA semantics, memory management",
        ),
        then(
            "Out of memory, although gigabytes are reserved and unused. What do you try?",
            "That is fragmentation. Keep lengths alike, by padding to a few sizes or sorting; let segments grow "
            "(`expandable_segments`); lower the peak itself.",
            "PyTorch documentation, CUDA semantics, memory management",
            opens=lab("memory", model=LLAMA, tab="published"),
        ),
    ),
}  # fmt: skip


# ----------------------------------------
# Questions on memory in training and inference.


MODEL = "llama-3.2-3b"
CACHED, TRAINED = 4096, 768  # tokens of a sequence, when generating and in a training step
ask = partial(Question, topic="memory", model=MODEL)


def grouped(shape: ModelShape) -> bool:
    return shape.kv_heads < shape.heads


_ASKED = (
    ask(
        id="memory-weights", level="basic", kind="numeric", calculate=calc.weights, model="llama-2-7b",
        question="How many bytes do the weights of {{model}} ({{total}} parameters) take in bfloat16?",
        answer="{{value}}; in float32 {{single}} GB.",
        listen_for=("two bytes each", "GB against GiB named when it matters"),
        wrong=("four bytes each", "bits for bytes"),
        sources=(src.ALGEBRA,),
    ),
    ask(
        id="memory-gqa-factor", level="basic", kind="numeric", calculate=calc.gqa_factor, fits=grouped,
        question="{{model}} has {{heads}} query heads and {{kv_heads}} key/value heads. How many times smaller is "
        "its key/value cache than with one key/value head per query head?",
        answer="{{value}} smaller: {{group}} query heads share one pair.",
        listen_for=("ratio of heads", "the same factor narrows the outputs of k and v, and with them LoRA on v"),
        wrong=("says that queries shrink, too",),
        sources=(f"{src.GQA}, section 2",),
    ),
    ask(
        id="memory-not-saved", level="basic", kind="free", model=None,
        question="What does LoRA save in training memory, and what does it not?",
        answer="It saves gradients and optimizer states of the frozen parameters, and a float32 copy of them where "
        "one was kept. It does not save the base weights, which every forward pass needs, nor most activations: "
        "the gradient has to travel through frozen layers down to the lowest adapter.",
        listen_for=(
            "It saves gradients and optimizer states of the frozen parameters.", "It does not save the base weights.",
            "Nor most activations: the gradient has to travel through the frozen layers.",
        ),
        wrong=(
            "'memory falls with the share of trained parameters'", "'it saves activations'",
            "'the base weights need no memory'",
        ),
        sources=(f"{src.LORA}, section 4.2", src.RUN),
    ),
    ask(
        id="memory-parts", level="basic", kind="free", model=None,
        question="Name the parts of memory in a training step, and say when each of them is at its largest.",
        answer="Weights: always. Activations: grow through the forward pass, largest at its end, where the logits "
        "come on top. Gradients: grow through the backward pass while activations are freed. Optimizer states: "
        "from the first update on. Temporary buffers of kernels, and what the allocator reserves beyond what is "
        "used.",
        listen_for=(
            "order in time: forward, backward, update",
            "peak is usually at the start of backward, not the sum of all maxima",
            "allocator",
        ),
        wrong=("adds up the maxima of all parts",),
        sources=(src.RUN,),
    ),
    ask(
        id="memory-mixed-adam", level="medium", kind="numeric", calculate=calc.mixed_adam, model="llama-2-7b",
        question="Full fine-tuning of {{model}} ({{total}} parameters) in mixed precision with Adam: how many "
        "bytes without activations?",
        answer="{{value}}: {{each}} bytes per parameter for weight, gradient, float32 copy and two float32 "
        "moments, against {{weights}} GB of weights alone.",
        listen_for=(
            "lists what each byte is for",
            "says that activations are extra",
            "knows that other set-ups cost less",
        ),
        wrong=("'in fp16': pure 16-bit training needs far less", "forgets the float32 copy or one moment"),
        sources=(f"{src.ZERO}, section 3.1", f"{src.MIXED}, section 3.1"),
    ),
    ask(
        id="memory-pure-half", level="medium", kind="numeric", calculate=calc.pure_half, model="llama-2-7b",
        question="Full fine-tuning of {{model}} ({{total}} parameters) in pure bfloat16, moments included, no "
        "float32 copy: how many bytes without activations?",
        answer="{{value}}, against {{mixed}} GB in mixed precision. The price is rounding: small updates of large "
        "weights are lost.",
        listen_for=("two bytes, four times", "the numerical price"),
        wrong=("keeps float32 moments without being asked",),
        sources=(f"{src.MIXED}, section 3.1", src.BENCH),
    ),
    ask(
        id="memory-adapter-moments", level="medium", kind="numeric", calculate=calc.adapter_moments,
        fits=separate_attention, given={"r": 16},
        question="How many bytes do Adam's float32 moments take for LoRA of rank {{r}} on the query and value maps "
        "of {{model}}?",
        answer="{{value}}. For all parameters they would be {{full}} GB: this is where LoRA saves.",
        listen_for=("eight bytes per trained parameter", "none for frozen ones"),
        wrong=("multiplies the base's parameters",),
        sources=(f"{src.ADAM}, algorithm 1", f"{src.LORA}, section 4.2"),
    ),
    ask(
        id="memory-cache", level="medium", kind="numeric", calculate=calc.cache, fits=room_for(CACHED),
        given={"tokens": CACHED, "batch": 8},
        question="How large is {{model}}'s key/value cache for {{batch}} sequences of {{tokens}} tokens in "
        "bfloat16? ({{layers}} layers, {{kv_heads}} key/value heads of size {{head_dim}})",
        answer="{{value}}, beside {{weights}} GB of weights.",
        listen_for=(
            "keys and values, layers, kv width, bytes, tokens, batch: six factors",
            "compares with the weights",
        ),
        wrong=("uses all query heads where there are fewer key/value heads", "forgets the batch"),
        sources=(f"{src.GQA}, section 2", src.ALGEBRA),
    ),
    ask(
        id="memory-adapter-share", level="medium", kind="numeric", calculate=calc.adapter_share,
        fits=separate_attention, given={"r": 16},
        question="LoRA of rank {{r}} on the query and value maps of {{model}}, adapter in float32 with gradients "
        "and Adam moments, base in bfloat16. All that belongs to the adapter is which percentage of the base's "
        "bytes?",
        answer="{{value}}. Halving it changes nothing that you could see; look at weights and activations instead.",
        listen_for=("adapter, gradient, two moments: sixteen bytes", "conclusion on where to save"),
        wrong=("takes the share of parameters for the share of bytes",),
        sources=(f"{src.LORA}, section 4.2", f"{src.ADAM}, algorithm 1"),
    ),
    ask(
        id="memory-fewer-parameters", level="medium", kind="free", model=None,
        question="'Fewer trained parameters, less memory.' Give two counterexamples and the reason.",
        answer="IA³ and Prompt Tuning both peaked above LoRA in the published comparison of one model, with far "
        "fewer parameters. IA³ has to keep activations for the gradients of its vectors; prompts make every "
        "sequence longer, in training and in the cache when generating. Once the optimizer is small, activations "
        "decide.",
        listen_for=(
            "two real cases",
            "activations, sequence length, cache",
            "peak may come from evaluation, not training",
        ),
        wrong=("'trainable % tells the memory'",),
        sources=(src.BENCH,),
    ),
    ask(
        id="memory-saved-by-lora", level="hard", kind="numeric", calculate=calc.saved_by_lora,
        fits=separate_attention, given={"r": 16},
        question="Compare LoRA of rank {{r}} on the query and value maps of {{model}} (base bfloat16; adapter, its "
        "gradients and Adam moments float32) with full fine-tuning in pure bfloat16 ({{total}} parameters). How "
        "many bytes are saved, activations aside?",
        answer="{{value}}. What remains is mostly the {{left}} GB of the base.",
        listen_for=("same weights on both sides cancel", "subtracts what the adapter costs"),
        wrong=("counts the base as saved",),
        sources=(f"{src.LORA}, section 4.2", f"{src.ADAM}, algorithm 1"),
    ),
    ask(
        id="memory-logits", level="hard", kind="numeric", calculate=calc.logits, fits=room_for(TRAINED),
        given={"tokens": TRAINED, "batch": 4},
        question="A training step of {{model}} (vocabulary {{vocab}}, hidden {{hidden}}) with {{batch}} sequences "
        "of {{tokens}} tokens computes its loss on float32 logits of every position. How many bytes is that one "
        "tensor?",
        answer="{{value}}: {{times}} times the bfloat16 hidden states they come from. With a frozen model this can "
        "be the largest activation of all.",
        listen_for=(
            "as wide as the vocabulary",
            "float32 for the loss, and the gradient again as large",
            "remedy: logits for labelled positions only, or in chunks",
        ),
        wrong=("hidden size instead of vocabulary",),
        sources=(src.RUN, src.ALGEBRA),
    ),
    ask(
        id="memory-checkpoints", level="hard", kind="numeric", calculate=calc.checkpoints, fits=room_for(TRAINED),
        given={"tokens": TRAINED, "batch": 4},
        question="With gradient checkpointing only each layer's input is kept. How many bytes is that for "
        "{{model}} ({{layers}} layers, hidden {{hidden}}), {{batch}} sequences of {{tokens}} tokens, bfloat16?",
        answer="{{value}}, plus one layer's inner activations at a time while it is recomputed.",
        listen_for=("layers × batch × length × hidden × 2", "one forward pass more as the price"),
        wrong=("'nothing is kept'", "forgets that one layer is unfolded at a time"),
        sources=(f"{src.CHECKPOINTING}, section 4", src.RUN),
    ),
    ask(
        id="memory-frozen-activations", level="hard", kind="free", model=None,
        question="A frozen linear map needs no gradient for its weights. Which activations need not be kept "
        "because of that, and which are kept anyway?",
        answer="The input of a frozen map is needed for the gradient of its weights only, so it need not be kept "
        "for that. But the gradient for inputs still has to pass: softmax, normalisation, activation functions, "
        "products such as gate × up and attention need what they saw. On one small model 346 MiB of saved tensors "
        "became 250 MiB with LoRA on q and v, and 310 MiB on all linear maps.",
        listen_for=(
            "The input of a frozen map is needed only for the gradient of its weights, so it need not be kept for "
            "that.", "Nonlinear parts, softmax, normalisation, attention and products need their own values anyway.",
            "An adapted map keeps its input again, for the adapter's gradient.",
            "The gradient still has to pass through the frozen map, which takes its weights, not its input.",
        ),
        wrong=("'frozen layers keep nothing'", "'activations are the same as in full fine-tuning'"),
        sources=(src.RUN,),
    ),
    ask(
        id="memory-reserved", level="hard", kind="free", model=None,
        question="A monitor shows 24 GB in use, PyTorch says that 21 GB are allocated. Explain the difference, and "
        "which figure you would report.",
        answer="PyTorch's caching allocator reserves segments from the driver and hands out blocks: it keeps freed "
        "segments, rounds sizes up, and fragments when sizes vary. The driver's context and libraries' workspaces "
        "come on top. Report peak allocated to compare methods and peak reserved to say whether it fits.",
        listen_for=(
            "PyTorch's caching allocator keeps segments that it has reserved, freed ones too.",
            "The driver's context and libraries' workspaces come on top.",
            "Fragmentation and rounding of sizes leave gaps.",
            "Report peak allocated to compare methods, peak reserved (or the device's total) to say whether it fits.",
        ),
        wrong=("'a memory leak'",),
        sources=("PyTorch documentation, CUDA semantics, memory management", src.BENCH),
    ),
)  # fmt: skip
QUESTIONS = followed(_ASKED, FOLLOW_UPS)


# ----------------------------------------
# Doubts about answers on memory.


LLAMA_OF_DOUBTS = "llama-3.2-3b"

CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "memory-not-saved",
        "LoRA trains a thousandth of the parameters, so a thousandth of the memory is enough.",
        "Where are the weights in your sum?",
        "They have to be there, and so have most activations: the gradient travels through frozen layers. What falls "
        "is gradients and optimizer states.",
        f"{src.LORA}, section 4.2", src.RUN, opens=lab("memory", model=LLAMA_OF_DOUBTS, tab="timeline"),
    ),
    hold(
        "memory-mixed-adam",
        "{{value}}.",
        "Two bytes for each weight. You are eight times too high.",
        "Two bytes are the weights alone. Gradient, float32 copy and two float32 moments come with every one of them: "
        "{{each}} bytes.",
        f"{src.ZERO}, section 3.1", f"{src.MIXED}, section 3.1",
    ),
    hold(
        "memory-logits",
        "That tensor alone takes {{value}}.",
        "The hidden states are small. Logits cannot be so much more.",
        "They are as wide as the vocabulary, and float32 for the loss. That is {{times}} times the hidden states, and "
        "the "
        "gradient is as large again.",
        src.ALGEBRA, src.RUN,
    ),
    give_way(
        "memory-parts",
        "The peak is the sum of the largest values of all parts.",
        "Are they at their largest at the same time?",
        "No. Activations are largest at the end of the forward pass, gradients grow while activations are freed. The "
        "peak is a moment, usually early in the backward pass.",
        src.RUN, opens=lab("memory", model=LLAMA_OF_DOUBTS, tab="timeline"),
    ),
    hold(
        "memory-fewer-parameters",
        "Fewer trained parameters do not have to mean a lower peak.",
        "Give me one published case, or take it back.",
        "IA³ and Prompt Tuning: both trained far fewer than LoRA in PEFT's comparison and both reserved more. "
        "Activations "
        "and longer sequences did it.",
        src.BENCH, opens=lab("fact_check", claim="fewer-is-less-memory"),
    ),
    give_way(
        "memory-reserved",
        "The monitor shows more than PyTorch has allocated, so there is a leak.",
        "Does it grow from step to step?",
        "If it does not, it is none: the allocator keeps freed segments, rounds up and fragments, and the driver's "
        "context comes on top.",
        "PyTorch documentation, CUDA semantics, memory management",
    ),
)  # fmt: skip
