"""Doubts about answers on sharding, optimizers, servers and shipping."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.interview.question import Challenge, give_way, hold

CHALLENGES: tuple[Challenge, ...] = (
    hold(
        "memory-eight-bit-lora",
        "With LoRA an 8-bit optimizer saves next to nothing.",
        "Adam's states are twice the weights. That is the largest part.",
        "Twice the trained weights, and those are some ten million: tenths of a gigabyte. The base, the activations "
        "and the logits are what fills the card.",
        src.BLOCKWISE, src.ALGEBRA,
    ),
    give_way(
        "memory-galore-or-lora",
        "GaLore is LoRA of full rank: I would take it for our twenty tasks.",
        "What would you ship for each?",
        "A whole model for each: it trains W itself. There is no small file, no 4-bit base, and no switching off. It "
        "is for one change of full rank, not for many tasks on one base.",
        f"{src.GALORE}, abstract",
    ),
    hold(
        "qlora-storage-why",
        "Stored as bfloat16, the 4-bit codes are the same codes.",
        "Then they take 16 bits each, and the saving is gone.",
        "It is the container that has 16 bits: four codes lie in one element. FSDP wants one floating-point dtype to "
        "flatten; the kernels do not care how the bytes are called.",
        f"{src.BNB}, FSDP-QLoRA, Quantized data storage",
    ),
    give_way(
        "qlora-wrapping",
        "The usual wrap policy, one unit a layer, is right for LoRA as well.",
        "What is in a unit, and may FSDP treat half of it as frozen?",
        "A flat parameter is trained or frozen as a whole, and a layer has both. Trainable and frozen parameters go "
        "into units of their own, else gradients and states are kept for all of it.",
        f"{src.PEFT}, Fully Sharded Data Parallel, The important parts",
    ),
    hold(
        "qlora-shard-plan",
        "Paged and 8-bit optimizers come last on my list.",
        "They are the cheapest to switch on, so they come first.",
        "Cheap, and for nothing here: LoRA's states are small beside the base's weights, even in 4 bits. What does not "
        "fit is weights, then activations and logits.",
        f"{src.PEFT}, Fully Sharded Data Parallel, QLoRA", src.ALGEBRA,
    ),
    give_way(
        "qlora-qdora-cost",
        "QDoRA adds one number a row, so it costs what QLoRA costs.",
        "What do you divide by?",
        "By the norm of each row of W + s·BA. For that W is dequantised and BA formed as a whole matrix: time, and a "
        "temporary as large as the map.",
        f"{src.PEFT}, LoRA, DoRA, Caveats",
    ),
    hold(
        "qlora-eora-what",
        "EoRA needs no gradients.",
        "Low-rank matrices that are not trained cannot know the task.",
        "They correct the compression, not the task: the error is projected into the eigenspace of calibration inputs "
        "and cut. A task adapter can be trained on top.",
        f"{src.EORA}, abstract",
    ),
    give_way(
        "server-many-adapters",
        "Adapters are megabytes, so the number of them does not matter.",
        "500 adapters, 8 slots: what does a request wait for?",
        "For a slot. A batch mixes at most as many adapters as there are slots, so with uniform traffic requests "
        "queue while the GPU is half empty, and what is not in memory is read first.",
        src.VLLM_CODE, f"{src.SLORA}, section 5",
    ),
    give_way(
        "server-modules-to-save",
        "I would delete `modules_to_save` from the config, then vLLM loads it.",
        "And what does the model then answer with?",
        "With the base's head beside an adapter that was trained against another. Merge adapter and head into a model "
        "of its own, or train again without the head.",
        src.VLLM_CODE, f"{src.PEFT}, modules_to_save",
    ),
    hold(
        "server-activated-how",
        "An aLoRA cannot be merged.",
        "Every low-rank change can be added to the weights.",
        "Then it acts on all tokens, and it was trained to act from the invocation sequence on. The base's keys and "
        "values before it are what makes the cache reusable.",
        f"{src.PEFT}, LoRA, Activated LoRA (aLoRA)",
    ),
    hold(
        "server-parallel-traffic",
        "LoRA under tensor parallelism can need an exchange that the base does not.",
        "LoRA is a hundredth of the work. It cannot matter.",
        "Not the work but the waiting: with A split, its r outputs have to be exchanged before B can use them, in "
        "every map. Known layouts exchange only what is r wide, or nothing.",
        f"{src.SLORA}, abstract", f"{src.PEFT}, BdLoraConfig",
    ),
    give_way(
        "ship-order",
        "I would merge into the 4-bit base: the model stays in 4 bits, so nothing is lost.",
        "What becomes of a change that is smaller than half a step of the grid?",
        "It vanishes when the sum is rounded again. Merge into 16 bits, quantise once for the target, and compare all "
        "three on the task.",
        f"{src.PEFT}, tuners/lora, bnb layers", src.ALGEBRA,
    ),
    hold(
        "ship-adapter-or-merged",
        "For one task I would ship one merged file.",
        "The adapter is a thousandth of the size. Always ship the adapter.",
        "Somebody needs the base anyway. Merged in 16 bits and then quantised it runs at full speed and no versions "
        "can be mixed up. With several tasks on one device the shared base wins.",
        "llama.cpp, convert_lora_to_gguf.py and quantize",
    ),
)  # fmt: skip
