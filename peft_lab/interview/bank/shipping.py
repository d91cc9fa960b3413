"""Questions on shipping: merge and quantise, GGUF and FP8, and proving that it is the same model."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import merging as calc
from peft_lab.interview.question import Question, any_model, then

LLAMA_CPP = "llama.cpp, convert_lora_to_gguf.py and quantize"
ask = partial(Question, topic="merging", model=None)

QUESTIONS = (
    ask(
        id="ship-block-bits", level="basic", kind="numeric", calculate=calc.block_bits,
        given={"block": 32, "stored": 18},
        question="GGUF's Q4_0 stores a block of {{block}} weights in {{stored}} bytes. How many bits is that per "
        "weight?",
        answer="{{value}}: the codes and one 16-bit scale for each block.",
        listen_for=("the name counts the codes, not the scales", "compares with NF4"),
        wrong=("4, as the name says",),
        follow_ups=(
            then("And Q8_0?", "34 bytes for 32 weights: 8.5 bits.", src.GGUF),
            then(
                "How do the K formats differ?",
                "They have superblocks of 256 weights with scales that are quantised themselves: Q4_K takes 144 "
                "bytes, 4.5 bits as well, and Q6_K 210 bytes, 6.5625 bits.",
                src.GGUF,
            ),
        ),
        sources=(src.GGUF,),
    ),
    ask(
        id="ship-file-bytes", level="medium", kind="numeric", calculate=calc.file_bytes, model="llama-3.1-8b",
        fits=any_model, given={"bits": 6.5625},
        question="A merged {{model}} ({{total}} parameters) is shipped as GGUF with every parameter at {{bits}} "
        "bits (Q6_K). How large is the file's tensor data?",
        answer="{{value}}, against {{half}} GB in 16 bits. Real files mix formats: norms stay in float32 and some "
        "tensors take more bits.",
        listen_for=("bits with scales", "real files mix formats"),
        wrong=("six bits for each",),
        follow_ups=(
            then(
                "What do you lose against 16 bits?",
                "Measure it: the loss on held-out text and the task's score of the merged model before and after "
                "quantising, not of the base.",
                src.ALGEBRA,
            ),
            then("Must you merge at all?", to="ship-adapter-or-merged"),
        ),
        sources=(src.GGUF,),
    ),
    ask(
        id="ship-order", level="hard", kind="free",
        question="You trained QLoRA and have to ship a 4-bit model. Which order: merge into the 4-bit base, or "
        "merge into 16 bits and quantise? What is lost in each?",
        answer="Merge into the 16-bit weights (from the original checkpoint, or dequantised from the base that "
        "training saw), then quantise the result once with the format of the target. Merging into 4 bits "
        "dequantises, adds BA and rounds again to the same coarse grid: changes smaller than half a step vanish, "
        "and the scales are fixed by blocks. Either way the shipped weights are not those that were trained on: the "
        "adapter learnt beside NF4's errors, and the new format has others. So compare three models on the task: "
        "base plus adapter as trained, merged in 16 bits, merged and quantised. If the last step costs too much, "
        "calibrate on task data, take more bits, train with the target's rounding simulated (quantisation-aware), or "
        "serve the adapter unmerged on the base it was trained on.",
        listen_for=(
            "one rounding, at the end",
            "small changes vanish in a coarse grid",
            "measures each step",
            "which 16-bit weights",
        ),
        wrong=("'4 bits in, 4 bits out, no loss'", "tests the merged 16-bit model only"),
        follow_ups=(
            then(
                "Original or dequantised weights to merge into?",
                "The dequantised ones are what the adapter was trained on; the original ones are better by "
                "themselves. Try both: which wins is empirical.",
                f"{src.PEFT}, tuners/lora, bnb layers",
                src.ALGEBRA,
            ),
            then(
                "What does quantisation-aware training do, and what does it cost?",
                "Weights are rounded to the target's grid and back in every forward pass while they stay in 16 bits or "
                "more, so training finds values that survive it; the gradient passes the rounding as if it were not "
                "there. The base has to be there in 16 bits for that, so QLoRA's saving is gone.",
                src.QAT,
                src.ALGEBRA,
            ),
            then(
                "What does the library say when you merge into 4 bits?",
                "It warns that generations may differ because of rounding errors.",
                f"{src.PEFT}, tuners/lora, bnb layers",
            ),
        ),
        sources=(f"{src.PEFT}, tuners/lora, bnb layers", f"{src.QLORA}, section 3", src.QAT, src.ALGEBRA),
    ),
    ask(
        id="ship-fp8-step", level="medium", kind="numeric", calculate=calc.e4m3,
        question="A merged model is shipped in FP8 (E4M3). How far is the next E4M3 number above 1?",
        answer="{{value}}: three stored bits of the significand. A merged change below half of that, {{lost}} of "
        "the weight, may disappear, unless a scale moves the weight elsewhere on the grid.",
        listen_for=(
            "relative step",
            "scales per tensor or channel shift, they do not refine",
            "why adapters are added before rounding, in 16 bits",
        ),
        wrong=("bfloat16's step", "an eighth of the largest number"),
        follow_ups=(
            then(
                "What is E4M3's largest number, and why does it matter?",
                "448: weights and activations need scales so that they fit, per tensor or per channel.",
                "PyTorch, torch.finfo(torch.float8_e4m3fn)",
            ),
            then(
                "Is a change of a thousandth of each weight lost then?",
                "Entry by entry mostly, in round-to-nearest; on average over many entries a part survives where "
                "weights lie near the middle between two numbers.",
                src.ALGEBRA,
            ),
        ),
        sources=("PyTorch, torch.finfo(torch.float8_e4m3fn)", src.ALGEBRA),
    ),
    ask(
        id="ship-adapter-or-merged", level="medium", kind="free",
        question="For llama.cpp on laptops: ship a merged GGUF, or the base's GGUF and the adapter as a GGUF of its "
        "own? Argue both.",
        answer="llama.cpp converts a PEFT adapter to a GGUF of its own and applies it to a quantised base when it "
        "runs. That is small to ship, keeps the base shared between tasks, and can be switched off; but the adapter "
        "meets a base with other rounding than in training, runs unmerged at some cost in speed, and only LoRA-like "
        "pairs convert. Merged in 16 bits and then quantised there is one file, full speed, no mismatch of "
        "versions, and the quantiser sees the final weights; but every task is gigabytes. One task: merge. Several "
        "tasks on one device: adapters, after a test on the quantised base.",
        listen_for=(
            "size, sharing, speed, fidelity",
            "adapter must fit the base's exact revision",
            "tests on the quantised base",
        ),
        wrong=("merges each of ten adapters by habit",),
        follow_ups=(
            then(
                "Which adapters will not convert?",
                "Those with more than low-rank pairs: DoRA's magnitudes, trained heads or embeddings, prefixes.",
                LLAMA_CPP,
                src.ALGEBRA,
            ),
            then(
                "What do you pin?",
                "The base's revision and hash, the tokenizer and template, the converter's version, and a checksum "
                "of both files.",
                src.ALGEBRA,
            ),
        ),
        sources=(LLAMA_CPP,),
    ),
    ask(
        id="ship-proof", level="medium", kind="free",
        question="How do you prove that what you ship is the model that you evaluated?",
        answer="Run the shipped artefact, in the shipped engine, through the same evaluation, not the training "
        "process. Before that compare step by step on fixed prompts: logits of base plus adapter against merged in "
        "float32 (agreement to rounding), merged in 16 bits (differences of about a percent), quantised (look at "
        "top tokens and the loss). Check that adapters are really active (differs from the base), the template's "
        "token ids, the end token, and that the tied head was saved. Keep hashes of base, adapter, tokenizer and "
        "config in the model card.",
        listen_for=(
            "evaluates the artefact in the engine",
            "a chain of comparisons that locates the loss",
            "differs from base, equals trained",
            "hashes",
        ),
        wrong=("compares a few answers by eye",),
        follow_ups=(
            then("Outputs differ by a percent after merging in bfloat16. Bug?", to="serve-merge-low-precision"),
            then(
                "Greedy answers differ at the tenth token. Alarm?",
                "Not by itself: a near tie flips by rounding and then everything after differs. Compare logits or "
                "losses, and task scores over many prompts.",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.PEFT}, Troubleshooting", src.RUN),
    ),
)  # fmt: skip
