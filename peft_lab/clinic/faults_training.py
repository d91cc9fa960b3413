"""Faults of training and of its data."""

from __future__ import annotations

from peft_lab.clinic.fault import Fault, Reference

_PEFT, _HF, _TRL = (f"https://github.com/huggingface/{name}" for name in ("peft", "transformers", "trl"))
TROUBLESHOOTING = "https://huggingface.co/docs/peft/main/en/developer_guides/troubleshooting"

TRAINING = (
    Fault(
        "rate-too-high",
        "The learning rate is too high",
        "training",
        "Each update overshoots. The loss jumps, settles where a constant guess would be, or climbs and stays up.",
        "Divide the rate by ten and start again from the base; add warm-up and clip the gradient's norm at 1.",
        "Follow the loss from the first steps to the last, beside the rate.",
        Reference(
            "LLaVA issue 1301, Loss suddenly increases during fine-tuning with LoRA",
            "https://github.com/haotian-liu/LLaVA/issues/1301",
        ),
    ),
    Fault(
        "rate-too-low",
        "The learning rate is too low for this method",
        "training",
        "Adapters want rates about ten times those of full fine-tuning, soft prompts and IA³ more still. At the rate "
        "of a full fine-tune the loss hardly moves in the steps there are.",
        "Raise the rate: 1e-4 to 1e-3 is usual for LoRA, 1e-3 to 1e-1 for IA³, prefixes and prompts.",
        "Compare the rate with what this method usually gets, and the loss at both ends.",
        Reference("LoRA Without Regret", "https://thinkingmachines.ai/blog/lora/"),
    ),
    Fault(
        "rate-stays-zero",
        "The learning rate stays at zero",
        "training",
        "The schedule never lets go: a warm-up longer than the run, or a run whose planned length is wrong, so the "
        "optimizer multiplies every update by nearly nothing.",
        "Make the warm-up a few percent of the steps that are really made, and look at the logged learning_rate.",
        "Look at the rate that was logged, not the one that was asked for.",
        Reference(
            "autotrain-advanced issue 268, Learning Rate stays at 0.0?",
            "https://github.com/huggingface/autotrain-advanced/issues/268",
        ),
    ),
    Fault(
        "fp16-weights",
        "The trained weights are in fp16",
        "training",
        "In half precision AdamW's epsilon of 1e-8 is zero, and small squared gradients are too: the first update "
        "divides by zero. From then on the weights are no numbers; the loss is logged as NaN or 0.",
        "Keep what is trained in fp32 (the base may stay in 16 bits), or train in bf16.",
        "Look at the loss after the very first update, and at the precision.",
        Reference(
            "peft issue 1522, Different versions seem to have an impact on the results",
            f"{_PEFT}/issues/1522",
        ),
    ),
    Fault(
        "fp16-unscale",
        "A gradient scaler meets fp16 gradients",
        "training",
        "Mixed precision scales the loss and unscales fp32 gradients. A model loaded in fp16 has fp16 gradients, which "
        "the scaler refuses.",
        "Cast what is trained to fp32: cast_mixed_precision_params(model, dtype=torch.float16), or load in fp32.",
        "Read the last line of the log, and the two places where a precision is set.",
        Reference(
            "PEFT documentation, Troubleshooting: Attempting to unscale FP16 gradients", TROUBLESHOOTING
        ),
    ),
    Fault(
        "dtype-mismatch",
        "Two precisions meet in one product",
        "training",
        "A part in fp32, often a head or norm that was cast for training, is given activations in 16 bits outside of "
        "autocast, and the matrix product has no kernel for both.",
        "Give the model one compute precision, or run generation and evaluation under torch.autocast as in training.",
        "Read the last line of the log.",
        Reference(
            "peft issue 1515, QLoRA bf16 + model.generate(): expected mat1 and mat2 to have the same dtype",
            f"{_PEFT}/issues/1515",
        ),
    ),
    Fault(
        "checkpointing-no-grad",
        "Gradient checkpointing without input gradients",
        "training",
        "Reentrant checkpointing passes a gradient on only where an input asks for one. With a frozen embedding none "
        "does, so nothing reaches the adapter.",
        "Call model.enable_input_require_grads() before wrapping, or checkpoint with use_reentrant=False.",
        "Look for what saves activations, and for a warning about inputs.",
        Reference(
            "transformers issue 42489, PEFT training with gradient checkpointing fails", f"{_HF}/issues/42489"
        ),
    ),
    Fault(
        "frozen-after-wrapping",
        "prepare_model_for_kbit_training froze the adapter",
        "training",
        "The function freezes every parameter it is given. Called after get_peft_model, that includes the adapter.",
        "Prepare the base first and wrap it last; check print_trainable_parameters() before training.",
        "Count what is trained, and mind the order of the calls.",
        Reference(
            "transformers issue 26098, LoRA A and B param.requires_grad showing as false during training",
            f"{_HF}/issues/26098",
        ),
    ),
    Fault(
        "loaded-frozen",
        "The adapter was loaded for inference, then trained",
        "training",
        "PeftModel.from_pretrained loads in frozen mode unless it is told is_trainable=True.",
        "Load with is_trainable=True to go on training.",
        "Count what is trained, and look at how the adapter came into the model.",
        Reference(
            "peft issue 282, No Trainable Parameters when PeftModel.from_pretrained()", f"{_PEFT}/issues/282"
        ),
    ),
    Fault(
        "optimizer-without-adapter",
        "The optimizer does not hold the adapter's parameters",
        "training",
        "It was built before the adapter was added. Gradients arrive, but nobody applies them: B stays at zero.",
        "Add the adapter first, then build the optimizer from the parameters that require gradients.",
        "Gradients have a norm. Ask whether anything changed.",
        Reference(
            "adapters issue 260, Train T5 with adapter without using Trainer Class didn't update the adapter's weight",
            "https://github.com/adapter-hub/adapters/issues/260",
        ),
    ),
    Fault(
        "accumulation-not-averaged",
        "Accumulated losses are added up, not averaged",
        "training",
        "Each of N passes contributes a whole mean instead of its N-th part: loss and gradient are N times too large.",
        "Divide each loss by the number of accumulated passes, or take a transformers release with the fix.",
        "Compare the first loss with that of a guess at random.",
        Reference("transformers issue 35207, Scale loss before backward", f"{_HF}/pull/35207"),
    ),
    Fault(
        "alpha-zero",
        "lora_alpha is 0",
        "training",
        "LoRA adds (α/r)·BA. With α = 0 the factor is zero: nothing is added, and no gradient arrives.",
        "Set lora_alpha; α = r or 2r is usual.",
        "Read the adapter's config field by field.",
        Reference("Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1", "https://arxiv.org/abs/2106.09685"),
    ),
    Fault(
        "target-misspelt",
        "No target module has that name",
        "training",
        "target_modules are the ends of module names. Names differ between architectures; one that matches nothing is "
        "refused.",
        "Print model.named_modules() and take the names from there, or target_modules='all-linear'.",
        "Read the last line of the log beside the list of targets.",
        Reference(
            'peft issue 1206, ERROR "Target modules not found in the base model"', f"{_PEFT}/issues/1206"
        ),
    ),
    Fault(
        "target-partly-misspelt",
        "One of the target modules has no such name, and nobody said so",
        "training",
        "PEFT refuses a list of targets only when none of them matches. The others are trained, this one silently is "
        "not.",
        "Compare the list with the keys of the adapter file; print_trainable_parameters() shows too few.",
        "Compare the list of targets with what the adapter file holds.",
        Reference("peft issue 1959, Incorrect target modules does not error", f"{_PEFT}/issues/1959"),
    ),
)

DATA = (
    Fault(
        "pad-is-eos",
        "The pad token is the end token, and both are masked",
        "data",
        "The collator sets the label of every pad token to -100. Where padding is the end token, the end of each "
        "answer is left out of the loss too, so the model never learns to stop.",
        "Pad with another token (a reserved one, or a new one), or mask by the attention mask instead of the id.",
        "Look at where the outputs end, and at two tokens of the tokenizer.",
        Reference(
            'llm-course issue 33, Issue with pad_token == eos_token : model not "learning when to stop"',
            "https://github.com/mlabonne/llm-course/issues/33",
        ),
    ),
    Fault(
        "prompt-not-masked",
        "The prompt is trained on, too",
        "data",
        "Without masking, most of the loss is about predicting the user's words. Its curve says little about answers, "
        "and the model learns to write prompts.",
        "Set the prompt's labels to -100: completion_only_loss or assistant_only_loss in TRL.",
        "Ask which tokens the loss is taken over.",
        Reference("trl issue 445, Introducing DataCollatorForCompletionOnlyLM", f"{_TRL}/pull/445"),
    ),
    Fault(
        "all-masked",
        "Every label is masked",
        "data",
        "The response template was never found, or truncation cut the answers off, so all labels are -100. A mean over "
        "no tokens is NaN (or 0), and nothing is learned.",
        "Look at a batch: count its labels that are not -100. Match the template's token ids, raise the length.",
        "The loss is odd from the first step on, before any update. Ask what it is a mean of.",
        Reference(
            "trl issue 1191, DataCollatorForCompletionOnlyLM fails when response_template contains pad_token",
            f"{_TRL}/issues/1191",
        ),
    ),
    Fault(
        "template-mismatch",
        "Prompts are written otherwise than in training",
        "data",
        "The adapter learned to answer after one chat format. Another format is another input: much of what it learned "
        "does not fire.",
        "Use tokenizer.apply_chat_template with add_generation_prompt=True in both places, and ship the template.",
        "Compare the prompt of training with the prompt of inference, letter by letter.",
        Reference(
            "axolotl issue 1832, inst chat jinja template does not match prompt format used while training",
            "https://github.com/axolotl-ai-cloud/axolotl/issues/1832",
        ),
    ),
)
