"""Questions on bases in few bits other than NF4, on QDoRA and on EoRA."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import qlora_bases as calc
from peft_lab.interview.question import Question, gated, then

MODEL = "llama-3.1-8b"
HQQ = f"{src.TRANSFORMERS}, HQQ"
ask = partial(Question, topic="qlora", model=None)

QUESTIONS = (
    ask(
        id="qlora-grouped-bytes", level="medium", kind="numeric", calculate=calc.grouped, model=MODEL, fits=gated,
        given={"group": 128},
        question="A GPTQ or AWQ checkpoint of {{model}} ({{total}} parameters) keeps the blocks' linear maps in 4 "
        "bits, with a 16-bit scale and a 4-bit zero point for each group of {{group}}; the rest is in 16 bits. How "
        "many bytes is that?",
        answer="{{value}}, at {{bits}} bits a weight in the blocks; with NF4 and double quantisation it would be "
        "{{nf4}} GB. As bases for LoRA they cost the same memory; they differ in how they are made.",
        listen_for=(
            "bits per weight with the group's overhead",
            "embeddings and head in 16 bits",
            "size does not decide between them",
        ),
        wrong=("half a byte for every parameter",),
        follow_ups=(
            then("Which of them would you take as a base?", to="qlora-which-base"),
            then(
                "What does a group of 32 change?",
                "The overhead is four times as large, 20/32 of a bit, and outliers spoil fewer neighbours.",
                f"{src.GPTQ}, section 5",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.GPTQ}, section 5", src.ALGEBRA),
    ),
    ask(
        id="qlora-calibration", level="basic", kind="choice", correct=1,
        options=("NF4 in bitsandbytes", "GPTQ", "HQQ", "int8 by rounding to the nearest value"),
        because=(
            "It rounds each block by its own largest value while loading: no data.",
            "",
            "It fits scales to the weights alone, on the fly: no calibration data.",
            "Rounding needs the weights and a scale.",
        ),
        question="You want to train LoRA on a quantised base. Which of these bases was made with calibration data?",
        answer="GPTQ: it rounds weights so that the layer's outputs on calibration data change little. AWQ needs "
        "data, too; NF4 and HQQ do not.",
        listen_for=("weights only, or weights and activations", "consequence: calibration on other data than yours"),
        wrong=("NF4, since its quantiles come from data",),
        follow_ups=(
            then(
                "Why can that matter for fine-tuning?",
                "The rounding is tuned to what the calibration data excite. Your domain may excite other channels, "
                "and the adapter has to repair more.",
                f"{src.TRANSFORMERS}, GPTQ",
                src.ALGEBRA,
            ),
            then(
                "How would you notice?",
                "Compare the loss of the quantised and the 16-bit base on your data before training; the difference "
                "between formats there is what the adapter starts with.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.TRANSFORMERS}, GPTQ", HQQ, f"{src.QLORA}, section 3"),
    ),
    ask(
        id="qlora-which-base", level="medium", kind="free",
        question="NF4, GPTQ, AWQ or HQQ as the frozen base of a LoRA run: how do you decide?",
        answer="By where the model comes from and where it goes. NF4 and HQQ are made from the 16-bit weights while "
        "loading, without data, so any model works at once; HQQ also offers 8, 3, 2 and 1 bits. GPTQ and AWQ are "
        "finished checkpoints with fast inference kernels: take one if you will serve on exactly that base, "
        "unmerged, because the adapter then is trained on the weights it will meet. In PEFT adapters on GPTQ and "
        "AWQ layers cannot be merged; on bitsandbytes and HQQ layers they can, with rounding. Whatever you take, "
        "train and serve on the same base.",
        listen_for=(
            "data needed or not",
            "kernels at serving",
            "merging possible or not",
            "same base in training and serving",
        ),
        wrong=("'4 bits are 4 bits'", "trains on NF4 and serves on AWQ without a test"),
        follow_ups=(
            then(
                "What if training is on NF4 and serving on AWQ?",
                "The adapter learnt to correct NF4's errors and meets others. Often small, but measure it, and "
                "compare with merging into 16 bits and quantising that.",
                src.ALGEBRA,
                f"{src.PEFT}, tuners/lora, gptq and awq layers",
            ),
            then(
                "And a checkpoint in MXFP4, such as gpt-oss?",
                "Transformers runs it but does not train on it: with `Mxfp4Config(dequantize=True)` what was in MXFP4 "
                "is loaded in bfloat16, about four times as large, and LoRA is trained beside that. What is merged and "
                "served in MXFP4 again has to be rounded once more, so test that model.",
                f"{src.TRANSFORMERS}, MXFP4",
                f"{src.TRANSFORMERS}, quantizers/quantizer_mxfp4.py, version 5.24",
                src.ALGEBRA,
            ),
            then(
                "Can a GPTQ base be dequantised to merge?",
                "Yes by hand: compute 16-bit weights from the codes, add BA, and quantise anew with calibration, "
                "which is another model than the one trained on.",
                src.ALGEBRA,
            ),
        ),
        sources=(HQQ, f"{src.PEFT}, tuners/lora, gptq, awq, hqq and bnb layers", f"{src.PEFT}, Quantization"),
    ),
    ask(
        id="qlora-qdora-share", level="medium", kind="numeric", calculate=calc.magnitudes, model=MODEL, fits=gated,
        given={"r": 16},
        question="QDoRA is DoRA on a 4-bit base. On every linear map of {{model}} at rank {{r}}: by which "
        "percentage do the magnitudes raise the number of trained parameters over LoRA?",
        answer="{{value}}. So parameters are not what it costs.",
        listen_for=("one magnitude per output", "cost sits in compute: the norm of W + ΔW"),
        wrong=("doubles them",),
        follow_ups=(
            then("What does it cost then?", to="qlora-qdora-cost"),
            then(
                "How does the share change with the rank?",
                "It falls as 1/r: the magnitudes stay as they are while A and B grow.",
                src.ALGEBRA,
            ),
        ),
        sources=(src.DORA, f"{src.PEFT}, use_dora"),
    ),
    ask(
        id="qlora-qdora-cost", level="hard", kind="free",
        question="What has QDoRA to compute in a forward pass that QLoRA has not, and what would you check before a "
        "long run with it?",
        answer="The norm of each row of W + s·BA, to divide by it and multiply by the learnt magnitude. W is in 4 "
        "bits, so it is dequantised for the norm, and BA is formed as a full matrix: more time and a temporary as "
        "large as the map. PEFT treats the norm as a constant in the backward pass, as the paper proposes, and "
        "reuses the base's result when dropout is zero, so set dropout to zero. Check time per step and peak memory "
        "against QLoRA, whether your sharding supports it (PEFT reports problems with DeepSpeed ZeRO-2, and advises "
        "against 8-bit bases with FSDP), and whether your server loads DoRA: vLLM has long refused it, so plan to "
        "merge.",
        listen_for=(
            "row norms of the merged matrix",
            "dequantise, temporary of full size",
            "dropout zero",
            "serving: merge or another server",
        ),
        wrong=("'only some more parameters'",),
        follow_ups=(
            then(
                "Why may the norm be treated as a constant?",
                "The paper proposes it to save the gradient's memory and reports little effect on accuracy: the "
                "magnitude can follow anyway.",
                src.DORA,
            ),
            then(
                "How is it merged?",
                "Dequantise, compute m · (W + s·BA)/‖W + s·BA‖ by rows, and store that in 16 bits or quantise it "
                "anew.",
                src.DORA,
                f"{src.PEFT}, LoRA, DoRA, Caveats",
            ),
        ),
        sources=(
            f"{src.PEFT}, LoRA, DoRA, Caveats",
            f"{src.PEFT}, Fully Sharded Data Parallel, Caveats",
            src.VLLM_CODE,
        ),
    ),
    ask(
        id="qlora-eora-bytes", level="hard", kind="numeric", calculate=calc.compensation, model=MODEL, fits=gated,
        given={"r": 128},
        question="EoRA adds low-rank matrices of rank {{r}} in bfloat16 to every linear map of {{model}} in NF4 "
        "with double quantisation (embeddings, norms and output layer in 16 bits). By which percentage does the "
        "model grow?",
        answer="{{value}}, or {{gigabytes}} GB. Not for free: a rank this high costs more than a finer format "
        "might, which is why the compensation itself is quantised as well.",
        listen_for=("rank against bits: two ways to spend memory", "base in 4 bits makes the share large"),
        wrong=("under one percent, like any adapter",),
        follow_ups=(
            then("What is in those matrices?", to="qlora-eora-what"),
            then(
                "At which rank would 8 bits for the blocks cost the same?",
                "Where r(d_in + d_out) numbers of two bytes equal half a byte for each weight: r = "
                "d_in·d_out/(4(d_in + d_out)), an eighth of a square map's width.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.EORA}, abstract", src.ALGEBRA),
    ),
    ask(
        id="qlora-eora-what", level="medium", kind="free",
        question="EoRA also puts low-rank matrices beside a quantised map. How does it differ from a LoRA adapter, "
        "and from LoftQ?",
        answer="It is not trained. It takes the compression error of each map, projects it into the eigenspace of "
        "that layer's input activations on some calibration data, and keeps the largest part as two thin matrices: "
        "errors in directions that inputs use count more. It takes minutes and no gradients, and trades rank "
        "against accuracy after the format is fixed. LoftQ also fits low-rank matrices to the quantisation error, "
        "but without activations, and as a start for training. EoRA may be such a start, too, and a task adapter "
        "can then be trained on top.",
        listen_for=(
            "error weighted by activations",
            "no gradients",
            "calibration data",
            "compensation against adaptation",
        ),
        wrong=("'a LoRA with another name'",),
        follow_ups=(
            then(
                "Can it sit in a LoRA server's slot?",
                "It has LoRA's form, so yes; but then the slot is taken by repair. Compensation belongs to the base "
                "and should be there for every request.",
                f"{src.EORA}, abstract",
                src.ALGEBRA,
            ),
            then(
                "How does it pay in latency?",
                "Two more thin products per map: the paper gives a fused kernel because without it the inputs and "
                "outputs cross memory twice.",
                f"{src.EORA}, abstract",
            ),
        ),
        sources=(f"{src.EORA}, abstract", f"{src.LOFTQ}, section 3"),
    ),
)  # fmt: skip
