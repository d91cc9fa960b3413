"""Questions on optimizers that need less memory, and on GaLore and LISA as rivals of adapters."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import optimizers as calc
from peft_lab.interview.question import Question, any_model, gated, separate_attention, then

MODEL = "llama-3.2-3b"
EIGHT = f"{src.BNB}, 8-bit optimizers"
ask = partial(Question, topic="memory", model=MODEL)

QUESTIONS = (
    ask(
        id="memory-eight-bit-states", level="medium", kind="numeric", calculate=calc.eight_bits, fits=any_model,
        question="Full fine-tuning of {{model}} ({{total}} parameters) with bitsandbytes' 8-bit Adam: moments in 8 "
        "bits, one float32 constant for each block of 256. How many bytes of states (small tensors neglected)?",
        answer="{{value}}, against {{single}} GB in float32.",
        listen_for=(
            "two moments of one byte",
            "the constants hardly count",
            "weights and gradients stay as they were",
        ),
        wrong=("a quarter of all training memory",),
        follow_ups=(
            then(
                "Why does that work at all with 8 bits?",
                "The map is dynamic: exponents take a varying part of the bits, so that tiny and large moments are "
                "both represented, and blocks keep an outlier from spoiling the rest.",
                src.BLOCKWISE,
            ),
            then("How much does it save with LoRA?", to="memory-eight-bit-lora"),
        ),
        sources=(src.BLOCKWISE, EIGHT),
    ),
    ask(
        id="memory-eight-bit-rank", level="hard", kind="numeric", calculate=calc.least_rank, fits=separate_attention,
        question="bitsandbytes keeps 32-bit moments for tensors of fewer than 4,096 numbers. From which rank on "
        "does LoRA's A on a query map of {{model}} ({{q_in}} inputs) get 8-bit moments?",
        answer="From {{value}}. The narrower the map, the higher that rank: below it an 8-bit optimizer does nothing "
        "for the adapter, and no message says so.",
        listen_for=("the threshold is per tensor", "A has rank times inputs", "checks by measuring"),
        wrong=("always: it is an 8-bit optimizer",),
        follow_ups=(
            then(
                "How do you lower the threshold?",
                "`min_8bit_size` of the optimizer; there is little to win, though.",
                f"{src.BNB}, AdamW, min_8bit_size",
            ),
            then(
                "Why is there a threshold?",
                "Small tensors save nothing worth having, and biases and norms are sensitive.",
                EIGHT,
            ),
        ),
        sources=(f"{src.BNB}, AdamW, min_8bit_size",),
    ),
    ask(
        id="memory-eight-bit-lora", level="medium", kind="free", model=None,
        question="A LoRA run is out of memory. A colleague proposes `adamw_8bit`, another `paged_adamw`. What do "
        "you say?",
        answer="That the optimizer is not where the memory is. LoRA of rank 16 has ten to forty million parameters "
        "on models of a few billion, so Adam's states are a few tenths of a gigabyte; in 8 bits a quarter of that. "
        "Look at the base's weights (4 bits), at activations (checkpointing, shorter rows, smaller batch with "
        "accumulation) and at logits (fused loss, labelled positions). A paged optimizer moves states to the CPU "
        "when a long row needs room: it prevents a crash by a spike of the size of the states, which again are "
        "small with LoRA.",
        listen_for=(
            "With LoRA the optimizer's states are small, so neither helps much.",
            "Look at the weights, activations and logits instead: a 4-bit base, checkpointing, smaller or shorter "
            "batches.", "A paged optimizer helps against spikes, not against steady need.",
        ),
        wrong=("8-bit states as the first remedy", "'the optimizer's states take most of the memory'"),
        follow_ups=(
            then(
                "When are these optimizers right?",
                "In full fine-tuning, or with trained embeddings and very high ranks: there states are the largest "
                "part.",
                src.BLOCKWISE,
            ),
            then(
                "What is special about paged states and checkpoints?",
                "PEFT's guide notes that `paged_adamw_8bit` fails with FSDP and QLoRA when a checkpoint is saved.",
                f"{src.PEFT}, Fully Sharded Data Parallel, Caveats",
            ),
        ),
        sources=(src.BLOCKWISE, f"{src.QLORA}, section 3", EIGHT),
    ),
    ask(
        id="memory-offload-seconds", level="hard", kind="numeric", calculate=calc.offloading, fits=any_model,
        given={"speed": 25},
        question="Full fine-tuning of {{model}} ({{total}} parameters) with the optimizer on the CPU: in each step "
        "bfloat16 gradients go there and bfloat16 weights come back, over a link of {{speed}} GB per second. How "
        "many seconds is that at best?",
        answer="{{value}}, before the CPU has computed anything. Accumulating over more batches pays it less often.",
        listen_for=(
            "gradients one way, weights the other",
            "moments never travel",
            "hidden behind the backward pass in part",
        ),
        wrong=("moments travel as well",),
        follow_ups=(
            then(
                "What would the same offload cost with LoRA?",
                "Next to nothing, and it saves next to nothing: only the adapter's gradients and weights travel. "
                "Offload the base or activations instead.",
                src.ALGEBRA,
            ),
            then(
                "What does offloading the frozen base cost?",
                "All its weights come over the link in the forward and again in the backward pass, in every batch: "
                "accumulation does not help there.",
                f"{src.PEFT}, Fully Sharded Data Parallel",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, DeepSpeed, ZeRO3 and CPU Offloading", src.ALGEBRA),
    ),
    ask(
        id="memory-galore-states", level="hard", kind="numeric", calculate=calc.galore, fits=gated, given={"r": 128},
        question="GaLore projects the gradient of each matrix on its narrow side to rank {{r}} and keeps Adam's "
        "moments there, and the projection. For the up map of {{model}} ({{up_in}} × {{up_out}}): which percentage "
        "of full Adam's states is that, counted in numbers?",
        answer="{{value}}. LoRA's moments at that rank would be {{lora}}%, but its weights are extra, while GaLore "
        "updates W itself.",
        listen_for=(
            "moments of r rows, two of them",
            "the projection is a state, too",
            "gradients and weights of full size remain",
        ),
        wrong=("the rank over the width",),
        follow_ups=(
            then("So does GaLore need less memory than LoRA?", to="memory-galore-or-lora"),
            then(
                "Why is the projection renewed every few hundred steps?",
                "The gradient's main directions move. Renewing it lets the sum of updates have full rank, which a "
                "fixed projection would not.",
                f"{src.GALORE}, abstract",
            ),
        ),
        sources=(f"{src.GALORE}, abstract", src.ALGEBRA),
    ),
    ask(
        id="memory-lisa", level="hard", kind="numeric", calculate=calc.sampled_layers, fits=gated,
        given={"active": 2},
        question="LISA trains {{active}} random layers at a time and always what is outside the layers (embeddings, "
        "output layer, last norm). How many bytes do Adam's float32 moments take on {{model}} ({{layers}} layers, "
        "vocabulary {{vocab}})?",
        answer="{{value}}, against {{full}} GB for all of it. With a large vocabulary most of that is the embedding.",
        listen_for=(
            "embeddings dominate on small models",
            "states of frozen layers are dropped",
            "gradients and activations fall as well",
        ),
        wrong=("two layers' share only",),
        follow_ups=(
            then(
                "What happens to a layer's moments when another one is drawn?",
                "They are dropped, or memory would grow again; the next time they start anew, with bias correction.",
                f"{src.LISA}, abstract",
                src.ALGEBRA,
            ),
            then(
                "What gave the idea?",
                "In LoRA runs the norms of weights moved unevenly: the bottom and top layers dominated and the "
                "middle ones hardly changed. LISA imitates that by sampling.",
                f"{src.LISA}, abstract",
            ),
        ),
        sources=(f"{src.LISA}, abstract", f"{src.ADAM}, algorithm 1"),
    ),
    ask(
        id="memory-galore-or-lora", level="hard", kind="free", model=None,
        question="GaLore and LISA promise full fine-tuning in LoRA's memory. When would you take one of them "
        "instead, and what do you lose?",
        answer="When the change has to be of full rank: continued pretraining, much new text, or LoRA that bends "
        "away from the full curve. Both train W itself, so they need the base in 16 bits and in a form that can be "
        "updated; there is no 4-bit frozen base, no small file, no switching adapters off for a reference, and "
        "every task is a whole model. GaLore saves states, not weights, and pays for SVDs; up to 65.5% of optimizer "
        "memory is what its authors report. LISA saves states, gradients and activations of frozen layers. For many "
        "tasks on one base LoRA stays.",
        listen_for=(
            "rank of the sum of updates",
            "no adapter file, no sharing, no 4-bit base",
            "what each one saves",
            "evidence that LoRA is the bottleneck",
        ),
        wrong=("'they replace LoRA'", "'GaLore adds low-rank matrices'"),
        follow_ups=(
            then(
                "How would you check that you need them?",
                "Raise LoRA's rank on all maps first, at its own best rate. If the curve still leaves that of full "
                "fine-tuning, capacity is the limit.",
                f"{src.LORA_REGRET}, LoRA rank",
            ),
            then(
                "Can one extract an adapter from the result?",
                "The difference of weights has an SVD; cut to rank r it is a LoRA, with whatever was in the rest "
                "lost.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.GALORE}, abstract", f"{src.LISA}, abstract"),
    ),
)  # fmt: skip
