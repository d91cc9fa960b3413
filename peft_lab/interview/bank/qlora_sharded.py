"""Questions on QLoRA and LoRA over several devices: FSDP, ZeRO, and the type that 4-bit codes are stored in."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import qlora_bases as calc
from peft_lab.interview.question import Question, gated, separate_attention, then

LARGE = "llama-3.1-70b"
FSDP = f"{src.PEFT}, Fully Sharded Data Parallel"
DEEPSPEED = f"{src.PEFT}, DeepSpeed"
STORAGE = f"{src.BNB}, FSDP-QLoRA, Quantized data storage"
ask = partial(Question, topic="qlora", model=None)

QUESTIONS = (
    ask(
        id="qlora-storage-packed", level="medium", kind="numeric", calculate=calc.packed, model=LARGE,
        fits=separate_attention,
        question="{{model}} is loaded in 4 bits with `bnb_4bit_quant_storage=torch.bfloat16`. How many entries has "
        "the packed weight of one query map ({{q_out}} × {{q_in}})?",
        answer="{{value}}: four codes share one bfloat16 number. Its value as bfloat16 means nothing; the bits do.",
        listen_for=(
            "storage type is a container",
            "bytes are the same as with uint8",
            "numel is not the number of weights",
        ),
        wrong=("half of the weights, as with uint8",),
        follow_ups=(
            then("Why would anyone store codes as bfloat16?", to="qlora-storage-why"),
            then(
                "What if someone casts that tensor to float32?",
                "The bits change and the codes are lost: a cast converts values, a view keeps bits. Casting a whole "
                "model is therefore a classic way to ruin it.",
                STORAGE,
                src.ALGEBRA,
            ),
        ),
        sources=(STORAGE, f"{FSDP}, QLoRA"),
    ),
    ask(
        id="qlora-storage-why", level="medium", kind="free",
        question="FSDP with a 4-bit model fails, or wraps every layer by itself. What has `bnb_4bit_quant_storage` "
        "to do with it, and which value do you set?",
        answer="FSDP shards floating-point parameters and flattens those of a unit into one tensor, so all of them "
        "need the same dtype; bitsandbytes stores codes as uint8 by default. Its kernels do not care about the "
        "container, so the codes can be stored as bfloat16 or float32. Set it to the dtype in which the other "
        "parameters are loaded (`dtype` of the model): bfloat16 for pure bfloat16 training, float32 with automatic "
        "mixed precision.",
        listen_for=(
            "float dtypes only, one dtype per flat unit",
            "storage equals the dtype of the rest",
            "compute dtype is another setting",
        ),
        wrong=("sets the compute dtype", "unfreezes the base"),
        follow_ups=(
            then(
                "Which three dtypes are there in such a run?",
                "Storage of the codes (container), compute of the products after dequantising, and that of the "
                "parameters that are not quantised, adapters included.",
                STORAGE,
                f"{FSDP}, QLoRA",
            ),
            then(
                "And with float16?",
                "PEFT advises float32 as the storage for automatic mixed precision in float16, for stability.",
                f"{FSDP}, QLoRA",
            ),
        ),
        sources=(STORAGE, f"{FSDP}, QLoRA", src.FSDP_QLORA),
    ),
    ask(
        id="qlora-shard-bytes", level="basic", kind="numeric", calculate=calc.shard, model=LARGE, fits=gated,
        given={"devices": 2},
        question="{{model}} in NF4 with double quantisation (embeddings, norms and output layer in 16 bits) is "
        "sharded evenly over {{devices}} GPUs. How many bytes of weights does each hold?",
        answer="{{value}} of {{whole}} GB. On two consumer cards little is left for a gathered layer and "
        "activations, which is why the known recipe offloads parameters to the CPU as well.",
        listen_for=("sharding divides weights, not activations", "room for the gathered unit is needed on top"),
        wrong=("the whole model on each",),
        follow_ups=(
            then("How large is the unit that has to be whole?", to="qlora-gathered"),
            then(
                "What did the recipe measure?",
                "For Llama 2 70B on two cards PEFT's guide reports 35.6 GB a card without and 19.6 GB with CPU "
                "offload, and about 107 GB of CPU memory.",
                f"{FSDP}, QLoRA, Memory usage",
            ),
        ),
        sources=(f"{FSDP}, QLoRA", f"{src.QLORA}, section 3"),
    ),
    ask(
        id="qlora-gathered", level="hard", kind="numeric", calculate=calc.gathered, model=LARGE, fits=gated,
        given={"devices": 2},
        question="FSDP gathers one layer at a time of {{model}}, sharded over {{devices}} GPUs, blocks in NF4 with "
        "double quantisation. How many bytes of linear maps are put together for one layer's turn?",
        answer="{{value}}: weights travel packed. In bfloat16 it would be {{half}}. Each map is dequantised on the "
        "device only while it is used.",
        listen_for=(
            "one unit at a time",
            "packed on the wire: a quarter of the traffic",
            "dequantised map as a further temporary",
        ),
        wrong=("all layers", "in 16 bits"),
        follow_ups=(
            then(
                "When is more than one layer whole?",
                "With prefetching, the next layer is gathered while the present one computes; and without "
                "resharding after the forward pass all stay.",
                "PyTorch documentation, FullyShardedDataParallel",
                FSDP,
            ),
            then("Why must the adapter be wrapped apart?", to="qlora-wrapping"),
        ),
        sources=(FSDP, f"{src.QLORA}, section 3"),
    ),
    ask(
        id="qlora-wrapping", level="medium", kind="free",
        question="PEFT's guide to FSDP sets `use_orig_params=False` and replaces the wrap policy. What is special "
        "about LoRA under FSDP?",
        answer="A flat parameter is trained or frozen as a whole. LoRA mixes both in every layer: if A and B are "
        "flattened together with the frozen maps, gradients and optimizer memory are kept for all of it, and "
        "nothing is saved. `fsdp_auto_wrap_policy` wraps trainable and frozen parameters in units of their own. "
        "With original parameters exposed mixing is possible, but the guide finds that the memory is then not saved.",
        listen_for=(
            "one flat tensor, one requires_grad",
            "separate units for trained and frozen",
            "memory is the symptom",
        ),
        wrong=("'FSDP does not support LoRA'",),
        follow_ups=(
            then(
                "And with PyTorch's newer `fully_shard` (FSDP2)?",
                "It splits each parameter by itself and flattens none, so trained and frozen ones may stand in one "
                "unit and the special policy is not needed. What is said above is about the flat parameters of the "
                "first version, which the guide is written for.",
                "PyTorch documentation, torch.distributed.fsdp.fully_shard",
            ),
            then(
                "Can you merge under FSDP?",
                "PEFT says that it is unsupported and raises an error: gather a full state dict, and merge in a "
                "process without sharding.",
                f"{FSDP}, Caveats",
            ),
            then(
                "In which form do you save the adapter?",
                "Switch to a full state dict before saving, or the file holds shards that `from_pretrained` cannot "
                "load.",
                f"{FSDP}, The important parts",
            ),
        ),
        sources=(f"{FSDP}, The important parts",),
    ),
    ask(
        id="qlora-zero-stage", level="basic", kind="choice", correct=2,
        options=("Stage 1", "Stage 2", "Stage 3", "None: frozen weights are never sharded"),
        because=(
            "It shards optimizer states, of which a frozen base has none.",
            "It adds gradients, of which a frozen base has none.",
            "",
            "Stage 3 shards parameters, trained or not.",
        ),
        question="LoRA on a large frozen base with DeepSpeed. From which ZeRO stage on is the base itself divided "
        "between the GPUs?",
        answer="Stage 3: it shards parameters. The earlier stages shard optimizer states and gradients, and a "
        "frozen base has neither.",
        listen_for=("what each stage shards", "which of it LoRA has"),
        wrong=("stage 2, as in full fine-tuning",),
        follow_ups=(
            then("What does stage 2 save with LoRA?", to="qlora-zero-two"),
            then("What does stage 3 cost?", to="qlora-zero-traffic"),
        ),
        sources=(DEEPSPEED,),
    ),
    ask(
        id="qlora-zero-two", level="medium", kind="numeric", calculate=calc.second_stage, model=LARGE, fits=gated,
        given={"r": 16, "devices": 8},
        question="LoRA of rank {{r}} on every linear map of {{model}}, trained parameters, gradients and Adam "
        "moments in float32, on {{devices}} GPUs. How many bytes does ZeRO-2 save on each GPU against plain data "
        "parallelism?",
        answer="{{value}}, beside {{base}} GB of base weights in bfloat16 that every GPU still holds in full.",
        listen_for=(
            "gradients and moments only",
            "small, because only the adapter has them",
            "stage 3 or 4 bits is what helps",
        ),
        wrong=("seven eighths of everything",),
        follow_ups=(
            then(
                "When is ZeRO-2 worth it then?",
                "With very high ranks, trained embeddings or full fine-tuning, where gradients and moments outweigh "
                "the base.",
                DEEPSPEED,
                src.ALGEBRA,
            ),
            then(
                "What does it do at inference?",
                "Nothing: there are no gradients and no optimizer states.",
                DEEPSPEED,
            ),
        ),
        sources=(DEEPSPEED, f"{src.ADAM}, algorithm 1"),
    ),
    ask(
        id="qlora-zero-traffic", level="hard", kind="numeric", calculate=calc.traffic, model=LARGE, fits=gated,
        given={"devices": 8, "speed": 300},
        question="ZeRO-3 holds {{model}} ({{total}} parameters, bfloat16, frozen) on {{devices}} GPUs and lets "
        "weights go after use. How many bytes does each GPU receive in a step to compute forward and backward once?",
        answer="{{value}}: at {{speed}} GB per second at least {{seconds}} s, whatever the batch. Make the batch "
        "large enough to hide it, or hold the base in 4 bits.",
        listen_for=(
            "two gathers, no reduction for frozen weights",
            "independent of the tokens in the step",
            "4 bits cut it to a quarter",
        ),
        wrong=("three passes, as in full training", "forgets that its own part is there"),
        follow_ups=(
            then(
                "What does full fine-tuning add?",
                "A reduce-scatter of gradients as large as the weights: half as much again.",
                "PyTorch documentation, FullyShardedDataParallel",
            ),
            then(
                "And with gradient accumulation over k batches?",
                "The gathers are repeated for each of them: k times the traffic for one update.",
                "PyTorch documentation, FullyShardedDataParallel",
                src.ALGEBRA,
            ),
        ),
        sources=("PyTorch documentation, FullyShardedDataParallel", src.ALGEBRA),
    ),
    ask(
        id="qlora-shard-plan", level="hard", kind="free",
        question="Two cards of 24 GB, a 70B model, LoRA. Walk through what makes it fit, in the order in which you "
        "would try it.",
        answer="First 4 bits with double quantisation: the weights fall to about a quarter, still more than one "
        "card. Shard them over both cards (FSDP or ZeRO-3), with the codes stored in the dtype of the rest. "
        "Gradient checkpointing and a batch of one row, so that activations are a layer's inputs. A fused or "
        "chunked loss, since logits of a vocabulary of 128 thousand are large. If a gathered layer and activations "
        "still do not fit, offload the sharded parameters to the CPU, which turns the run into one that waits for "
        "the bus. Paged or 8-bit optimizers come last: for LoRA the states are small.",
        listen_for=(
            "order by bytes saved",
            "sharding is for weights, checkpointing for activations",
            "what each step costs in time",
            "optimizer last",
        ),
        wrong=("starts with an 8-bit optimizer", "data parallelism on both cards"),
        follow_ups=(
            then(
                "Why is the CPU's memory a limit, too?",
                "Loading and offloading keep the parameters there; the guide reports about 107 GB. Efficient "
                "loading lets only one process read the checkpoint.",
                f"{FSDP}, QLoRA, Memory usage",
            ),
            then("Would renting one 80 GB card be cheaper?", to="plan-which-card"),
        ),
        sources=(f"{FSDP}, QLoRA", src.FSDP_QLORA, f"{src.CHECKPOINTING}, section 4"),
    ),
)  # fmt: skip
