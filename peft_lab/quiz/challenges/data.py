"""Doubts about answers on data, labels and what goes wrong with them."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.quiz.challenge import Challenge, give_way, hold

CHALLENGES: tuple[Challenge, ...] = (
    give_way(
        "data-end-token",
        "Pad and end token may be the same: the loss ignores padding either way.",
        "And what does it do with the end token of the answer?",
        "It ignores that, too, as the collator goes by the token's id. The model is never trained to end. Give "
        "padding a token of its own, or make labels from lengths.",
        "huggingface/transformers issue 23530 and huggingface/trl issue 976",
    ),
    hold(
        "data-template",
        "I would compare the token ids that reach the model in both paths first.",
        "The weights are the same, so the difference has to be sampling: temperature, top-p.",
        "Sampling differs between runs of one path, too, and one can fix it. A template adds role markers, a system "
        "prompt, perhaps a second begin token: the adapter learnt another sequence. Comparing ids takes a minute and "
        "settles it.",
        "Transformers documentation, chat templates",
    ),
    give_way(
        "data-packing",
        "Packing only removes padding, so the result is the same and the run is faster.",
        "May a token of the second example attend to the first?",
        "Not if the examples are to stay apart: attention has to know the boundaries, positions start again, and no "
        "example's first token is predicted from another's last. The number of rows in a batch varies as well.",
        "TRL documentation, Reducing memory usage", "Transformers documentation, DataCollatorWithFlattening",
    ),
    hold(
        "data-fused-loss",
        "A fused loss gives the same gradients; it only never holds all logits.",
        "Chunks are an approximation. You lose exactness for memory.",
        "The loss is a sum over positions, so it can be added up chunk by chunk: up to rounding nothing changes. With "
        "a frozen head only the narrow gradient of the hidden states has to be kept.",
        f"{src.LIGER}, abstract", src.ALGEBRA,
    ),
    hold(
        "debug-flat",
        "First I would print the trainable parameters and the norm of B's gradient after one batch.",
        "A flat loss is a matter of capacity. Raise the rank.",
        "Capacity bends a curve later; it does not keep it flat from the first step. Nothing trained, no gradient, "
        "masked labels and a rate ten times too low are each seen in one batch or fifty steps.",
        f"{src.LORA_REGRET}, Optimal learning rates for LoRA vs. FullFT", src.PEFT,
    ),
    give_way(
        "debug-no-effect",
        "The adapter was loaded without an error, so it is active.",
        "Then why do the outputs equal the base's to the last digit?",
        "Because the product is zero or not used: wrapped anew instead of loaded, keys that did not match, adapters "
        "switched off, or a B that never left zero. Loading without an error proves none of that.",
        f"{src.PEFT}, Troubleshooting", f"{src.PEFT}, get_model_status",
    ),
    hold(
        "debug-empty-file",
        "The training may still be saved: convert the last DeepSpeed checkpoint, which has the shards.",
        "The file is empty, so the weights are lost. Train again.",
        "Only whoever wrote the file had empty tensors, because it did not gather them. The shards lie in the "
        "checkpoint of the training state, if one was kept.",
        "huggingface/accelerate issue 3508, huggingface/trl issue 4416 and huggingface/peft issue 2450",
        f"{src.PEFT}, DeepSpeed",
    ),
    give_way(
        "debug-unscale",
        "The scaler is broken: I would switch it off and go on in float16.",
        "What does the scaler protect, and what are your trained parameters stored in?",
        "Small gradients that float16 would lose. The trained parameters are in float16, where they belong into "
        "float32; the frozen base may stay. Cast those, or train in bfloat16, which needs no scaler.",
        f"{src.PEFT}, Troubleshooting", f"{src.MIXED}, section 3.2",
    ),
)  # fmt: skip
