"""Questions on the data of a run: masks, templates, the end token, packing, attention and the loss."""

from __future__ import annotations

from functools import partial

from peft_lab.core import references as src
from peft_lab.interview.calculations import data as calc
from peft_lab.interview.question import Challenge, Question, causal, give_way, hold, room_for, then

TOKENS = 4096
MODEL = "llama-3.2-3b"
EOS_ISSUE = "huggingface/transformers issue 23530 and huggingface/trl issue 976"
TEMPLATES = f"{src.TRANSFORMERS}, chat templates"
FLATTENING = f"{src.TRANSFORMERS}, DataCollatorWithFlattening"
ask = partial(Question, topic="training", model=None)

QUESTIONS = (
    ask(
        id="data-mixed-loss", level="medium", kind="numeric", calculate=calc.mixed_loss,
        given={"prompt": 300, "completion": 30, "prompt_loss": 2.0, "answer_loss": 0.8},
        question="An example has {{prompt}} tokens of prompt with a mean loss of {{prompt_loss}} and {{completion}} "
        "of answer with {{answer_loss}}. The labels are not masked. Which loss does the log show?",
        answer="{{value}}: the answer is {{part}} of the tokens and {{of_loss}} of the summed loss. A curve with "
        "masked prompts is another quantity, and the two must not be compared.",
        listen_for=(
            "weighted by tokens",
            "the answer hardly shows in an unmasked loss",
            "masked and unmasked curves are not comparable",
        ),
        wrong=("the answer's loss", "the mean of the two"),
        follow_ups=(
            then(
                "How would you see an unmasked prompt in a run?",
                "The first loss is that of general text, not of answers, and it falls little; print the labels of "
                "one batch and look for the ignore index.",
                f"{src.TRL}, SFT Trainer, Label shifting and masking",
            ),
            then(
                "Is training on the prompt ever right?",
                "With short answers and long, informative prompts it can act as a regulariser, and in continued "
                "pretraining everything is text to learn. For chat with fixed system prompts it wastes the update.",
                src.ALGEBRA,
                f"{src.TRL}, SFT Trainer, Computing the loss",
            ),
        ),
        sources=("PyTorch documentation, torch.nn.CrossEntropyLoss, ignore_index", src.ALGEBRA),
    ),
    ask(
        id="data-accumulated", level="medium", kind="numeric", calculate=calc.accumulated,
        given={"tokens_each": (10, 90), "losses": (2, 1)},
        question="Two batches are accumulated. They hold {{tokens_each}} labelled tokens; their mean losses per token "
        "are {{losses}}, in the same order. What is the mean loss per token over both?",
        answer="{{value}}. Averaging the two means gives {{means}}, and weighs a token of the short batch "
        "{{weight}} times as much. A trainer has to divide by the tokens of all batches together.",
        listen_for=(
            "mean of means is not the mean",
            "accumulation should equal one large batch",
            "length and loss are correlated",
        ),
        wrong=("the mean of the two",),
        follow_ups=(
            then(
                "Does the same happen between GPUs?",
                "Yes, if each device averages over its own tokens before gradients are averaged. The count of "
                "labelled tokens has to be summed over devices.",
                src.ALGEBRA,
                f"{src.TRANSFORMERS}, Trainer, num_items_in_batch",
            ),
            then(
                "How do you test a trainer for it?",
                "Train one step with a batch of 8 and with 8 times 1 accumulated, on rows of different length, and "
                "compare gradients.",
                src.ALGEBRA,
            ),
        ),
        sources=(src.ALGEBRA, f"{src.TRANSFORMERS}, Trainer, num_items_in_batch"),
    ),
    ask(
        id="data-end-token", level="hard", kind="free",
        question="After tuning, the model answers well and then never stops. The tokenizer had no pad token, so "
        "`pad_token = eos_token` was set. Explain, and give two fixes.",
        answer="The collator for language modelling sets the label of every pad token to the ignore index. With pad "
        "equal to the end token, the real end tokens are masked as well: the model is never trained to end, so it "
        "talks on. Fixes: give the tokenizer a pad token of its own (an unused special token, or a new one with a "
        "resized embedding), or build the labels from lengths or the attention mask instead of from the token's id. "
        "Then check one batch: the last labelled token of each row must be the end token, and generation must use "
        "the same one.",
        listen_for=(
            "The collator sets the label of every pad token to the ignore index.",
            "With pad equal to the end token the real end tokens are masked too: the model never learns to end.",
            "Fix: a pad token of its own.",
            "Fix: labels from lengths or the attention mask instead of the token's id.",
            "Look at one batch: the last labelled token of each row is the end token, and generation uses the same "
            "one.",
        ),
        wrong=(
            "raises the repetition penalty", "blames the learning rate", "'the pad tokens are included in the loss'",
        ),
        follow_ups=(
            then(
                "Everything is masked rightly and it still does not stop. What else?",
                "The template ends turns with another token than the one generation waits for (a turn end against "
                "an end of text), or truncation cut the end off in training.",
                TEMPLATES,
                EOS_ISSUE,
            ),
            then(
                "Why is a padded row of a decoder masked at all?",
                "Pad positions have no next token worth predicting; without the mask the model learns to produce "
                "padding.",
                f"{src.TRL}, SFT Trainer, Label shifting and masking",
            ),
        ),
        sources=(EOS_ISSUE, f"{src.TRL}, SFT Trainer, Label shifting and masking"),
    ),
    ask(
        id="data-template", level="medium", kind="free",
        question="An adapter trained on your own prompt format scores 90% in your notebook and 60% behind the chat "
        "API. Same weights. What do you compare?",
        answer="The exact token ids that reach the model. A server applies the tokenizer's chat template: role "
        "markers, a default system prompt, a generation prompt at the end, perhaps a second begin token if text "
        "that was templated already is tokenised with special tokens again. The adapter learnt another sequence. "
        "Train with the template that serves (`apply_chat_template` on messages, with the generation prompt for the "
        "answer's start), ship the tokenizer with the adapter, and keep a test that compares ids from both paths.",
        listen_for=(
            "compares ids, not strings",
            "generation prompt, system prompt, double begin token",
            "template belongs to what is shipped",
        ),
        wrong=("blames quantisation first", "tunes again with more data"),
        follow_ups=(
            then(
                "May you choose a new template for a model that was tuned for chat?",
                "You may, but the documentation advises to keep the format it was trained on even when training "
                "further: otherwise the adapter spends itself on the format.",
                f"{TEMPLATES}, What template should I use?",
            ),
            then(
                "And for a base model?",
                "There you are free; take a simple one with clear turn ends, and make sure that its markers are "
                "tokens that are trained.",
                f"{TEMPLATES}, What template should I use?",
            ),
        ),
        sources=(TEMPLATES,),
    ),
    ask(
        id="data-foreign-pairs", level="hard", kind="numeric", calculate=calc.foreign_pairs,
        given={"lengths": (200, 300, 100, 424)},
        question="Examples of {{lengths}} tokens are packed into one sequence, and the attention is plainly causal. "
        "Which share of the query-key pairs looks from one example into another?",
        answer="{{value}}: contamination, and arithmetic for nothing. Attention that is kept apart computes "
        "{{times}} times fewer pairs.",
        listen_for=(
            "pairs, not tokens",
            "later examples see all earlier ones",
            "remedy: boundaries for the kernel, positions that restart",
        ),
        wrong=("the share of tokens of other examples",),
        follow_ups=(
            then(
                "How are examples kept apart without a mask of that size?",
                "Variable-length attention kernels take the cumulative lengths; position ids restart with each "
                "example. In transformers the flattening collator returns both.",
                FLATTENING,
                f"{src.TRL}, Reducing memory usage, Padding-free",
            ),
            then(
                "When does contamination hardly matter?",
                "In pretraining-like data with long documents and an end token between them; with short chat "
                "examples most pairs cross, as here.",
                f"{src.TRL}, Reducing memory usage, Packing",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.TRL}, Reducing memory usage, Packing", src.ALGEBRA),
    ),
    ask(
        id="data-packing", level="medium", kind="free",
        question="Packing and padding-free batches both get rid of padding. How do they differ, and what must be "
        "right for either?",
        answer="Packing joins examples up to a fixed length before training, may cut one in two, and fixes the "
        "number of tokens of a step. Padding-free flattens a sampled batch into one sequence: rows stay whole, the "
        "length varies. Both need attention that knows the boundaries (variable-length kernels such as "
        "FlashAttention's), positions that restart, no loss on the first token of an example predicted from the "
        "last of another, and a count of labelled tokens for the mean. With packing the number of rows in a batch "
        "varies, so rate and steps should be thought of in tokens.",
        listen_for=("cut rows against whole rows", "boundaries in attention, positions and loss", "batch in tokens"),
        wrong=("'packing only changes speed'",),
        follow_ups=(
            then(
                "What does the learner see if the boundaries are missing?",
                "Nothing at first: the loss is even lower where neighbours resemble each other. It shows at "
                "evaluation, on single rows.",
                f"{src.TRL}, Reducing memory usage, Packing",
                src.ALGEBRA,
            ),
            then("How large is the damage to attention?", to="data-foreign-pairs"),
        ),
        sources=(f"{src.TRL}, Reducing memory usage", FLATTENING),
    ),
    ask(
        id="data-attention-scores", level="hard", kind="numeric", calculate=calc.scores, model=MODEL,
        fits=room_for(TOKENS), given={"tokens": TOKENS, "batch": 4},
        question="Attention without a fused kernel writes out the scores of {{batch}} sequences of {{tokens}} "
        "tokens in bfloat16. How many bytes is that for one layer of {{model}} ({{heads}} query heads)?",
        answer="{{value}}, {{hidden}} times the layer's input. A fused kernel (FlashAttention) goes through keys in "
        "blocks, never holds the square, and computes it again in the backward pass; LoRA changes nothing here.",
        listen_for=(
            "square in the length, times heads",
            "per layer, unless checkpointed",
            "frozen weights do not help",
        ),
        wrong=("linear in the length", "LoRA makes it smaller"),
        follow_ups=(
            then(
                "Why does LoRA not help?",
                "Scores are activations of a part without trained weights; gradients pass through it whichever maps "
                "are frozen.",
                src.ALGEBRA,
            ),
            then(
                "What grows with the length once the scores are gone?",
                "The layers' inputs, the logits and the cache, all linearly.",
                f"{src.CHECKPOINTING}, section 4",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.TRANSFORMER}, section 3.2", "PyTorch documentation, scaled_dot_product_attention"),
    ),
    ask(
        id="data-chunked-logits", level="medium", kind="numeric", calculate=calc.chunked_logits, model=MODEL,
        fits=causal, given={"chunk": 1024, "positions_all": 8192},
        question="A fused loss goes through {{positions_all}} positions of {{model}} (vocabulary {{vocab}}) in "
        "chunks of {{chunk}}, float32, and forms the gradient of the logits at once. How many bytes of logits and "
        "their gradient are in memory at a time?",
        answer="{{value}}, {{times}} times less than for all positions together. What is kept is the gradient for "
        "the hidden states, which is narrow.",
        listen_for=(
            "logits and gradient",
            "one chunk at a time",
            "works because the head's gradient is known in the forward pass",
        ),
        wrong=("all positions", "the hidden width"),
        follow_ups=(
            then("Why is it even simpler with a frozen head?", to="data-fused-loss"),
            then(
                "Does a smaller chunk cost time?",
                "Somewhat: smaller products use the device less well. A chunk should be large enough to fill it.",
                f"{src.LIGER}, abstract",
                src.ALGEBRA,
            ),
        ),
        sources=(f"{src.LIGER}, abstract",),
    ),
    ask(
        id="data-fused-loss", level="medium", kind="free",
        question="What does a fused linear and cross-entropy loss do, and why does it suit LoRA well?",
        answer="It never forms all logits. For a chunk of positions it multiplies hidden states with the head, "
        "computes the loss and at once the gradient for these hidden states (and for the head's weights, if they "
        "are trained), and forgets the logits. With LoRA the head is frozen, so only the narrow gradient for the "
        "hidden states has to be kept. The logits of a large vocabulary are often the largest activation of a LoRA "
        "step, so memory falls by much; reported for Liger's kernels together are about 60% less memory and 20% "
        "more throughput on popular models.",
        listen_for=(
            "chunks, gradient in the forward pass",
            "frozen head: one gradient less",
            "no logits to return, so metrics on them are gone",
        ),
        wrong=("'an approximation of the loss'",),
        follow_ups=(
            then(
                "What breaks with it?",
                "Whatever wants the logits afterwards: accuracy by token, distillation, losses of your own. TRL "
                "also warns of its combination with activation offloading.",
                f"{src.TRL}, Reducing memory usage, Activation offloading",
            ),
            then(
                "What else reduces the logits?",
                "Computing them for labelled positions only: with short answers behind long prompts that is most of "
                "them.",
                src.RUN,
            ),
        ),
        sources=(f"{src.LIGER}, abstract",),
    ),
)  # fmt: skip


# ----------------------------------------
# Doubts about answers on data, labels and what goes wrong with them.


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
