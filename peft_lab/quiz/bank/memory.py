"""Questions on memory in training and inference."""

from __future__ import annotations

from functools import partial

from peft_lab import references as src
from peft_lab.models.shapes import ModelShape
from peft_lab.quiz.calculations import memory as calc
from peft_lab.quiz.fits import room_for, separate_attention
from peft_lab.quiz.follow_ups.memory import FOLLOW_UPS
from peft_lab.quiz.question import Question, followed

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
