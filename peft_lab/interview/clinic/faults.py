"""The faults by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from peft_lab.core.errors import UnknownName
from peft_lab.methods.shared.generation import PREFIX_LOST

# ----------------------------------------
# A fault: its name, its cause, its fix in words and as code, and where somebody met it.


#: The stage in an adapter's life at which it goes wrong.
Family = Literal["training", "data", "saving", "loading"]
FAMILIES: dict[Family, str] = {
    "training": "how it was trained",
    "data": "what it was trained on",
    "saving": "what was saved",
    "loading": "how it is loaded and used",
}

#: Where in a script a fix belongs, in script order, with the names that the fix can use there.
Moment = Literal["config", "wrap", "model", "arguments", "optimizer", "batch", "loss", "save", "load", "use"]
MOMENTS: dict[Moment, str] = {
    "config": "before get_peft_model(base, config)",
    "wrap": "in place of the lines that make model",
    "model": "after model is made, before it is trained",
    "arguments": "before arguments, the TrainingArguments, are given to Trainer",
    "optimizer": "before optimizer and scheduler are given to Trainer",
    "batch": "in the collator, where batch is ready; prompt_lengths are in tokens",
    "loss": "in compute_loss, before loss is returned",
    "save": "in place of the lines that save model to folder",
    "load": "in place of the lines that load the adapter in folder",
    "use": "before model is used",
}


@dataclass(frozen=True)
class Reference:
    """Where the fault was met or is explained. ``title`` is that of the page."""

    title: str
    url: str


@dataclass(frozen=True)
class Fault:
    """One way a fine-tune goes wrong.

    Attributes:
        name: its name on the command line and in addresses. title: one line.
        why: the mechanism. fix: what to change. look: where it shows, as a hint that does not name it.
        code: the fix as lines of a script, by where they belong (:data:`MOMENTS`). Tests run them on the fault's case.
        unrun: why there is no testable code; empty if there is.
        like: faults that look alike, offered as options beside it in a case.
    """

    name: str
    title: str
    family: Family
    why: str
    fix: str
    look: str
    reference: Reference
    code: Mapping[Moment, str] = field(default_factory=dict, hash=False)
    unrun: str = ""
    like: tuple[str, ...] = ()


# ----------------------------------------
# Faults of training and of its data.


_PEFT_ISSUES_OF_TRAINING, _HF, _TRL = (
    f"https://github.com/huggingface/{name}" for name in ("peft", "transformers", "trl")
)
TROUBLESHOOTING = "https://huggingface.co/docs/peft/main/en/developer_guides/troubleshooting"
#: Labels for the answers only, whatever the pad token is.
MASK_ALL_BUT_ANSWERS = """\
labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
for row, length in zip(labels, prompt_lengths):
    row[:length] = -100
batch["labels"] = labels"""

TRAINING = (
    Fault(
        "rate-too-high",
        "The learning rate is too high",
        "training",
        "Each update overshoots. The loss jumps, settles where a constant guess would be, or climbs and stays up.",
        "Start again from the base with a tenth of the rate, a warm-up, and the gradient's norm clipped at 1; divide "
        "again if the loss still jumps.",
        "Follow the loss from the first steps to the last, beside the rate.",
        Reference(
            "LLaVA issue 1301, Loss suddenly increases during fine-tuning with LoRA",
            "https://github.com/haotian-liu/LLaVA/issues/1301",
        ),
        code={
            "arguments": "arguments.learning_rate /= 10\n"
            "arguments.warmup_steps = arguments.max_steps // 10\n"
            "arguments.max_grad_norm = 1.0",
        },
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
        code={"arguments": "arguments.learning_rate = 1e-3  # LoRA"},
    ),
    Fault(
        "rate-stays-zero",
        "The schedule ends before the run does",
        "training",
        "The schedule was planned for fewer updates than are made, for none at all, or is moved on several times an "
        "update. From its end on the rate is zero, and every update is multiplied by nothing.",
        "Plan the schedule for the updates that are really made, and look at the logged learning_rate.",
        "Look at the rate that was logged, not the one that was asked for.",
        Reference(
            "transformers issue 24088, Do not prepare lr scheduler as it as the right number of steps",
            f"{_HF}/pull/24088",
        ),
        code={
            "optimizer": "from transformers import get_scheduler\n"
            "\n"
            'scheduler = get_scheduler("linear", optimizer, 0, num_training_steps=arguments.max_steps)',
        },
        like=("warm-up-too-long", "rate-too-low", "optimizer-without-adapter"),
    ),
    Fault(
        "warm-up-too-long",
        "The warm-up is longer than the run",
        "training",
        "The rate rises from zero over the warm-up's steps. A run that ends before never trains at the rate that was "
        "asked for; of a warm-up 100 times as long it sees a hundredth.",
        "Make the warm-up a few percent of the steps that are really made, not of those that another run made.",
        "Ask where the rate is when the run ends, and which way it is going.",
        Reference(
            "ACE-Step issue 198, Set scheduler interval to step, and fewer warmup steps",
            "https://github.com/ace-step/ACE-Step/pull/198",
        ),
        code={"arguments": "arguments.warmup_steps = arguments.max_steps // 20"},
        like=("rate-stays-zero", "rate-too-low", "optimizer-without-adapter"),
    ),
    Fault(
        "fp16-weights",
        "What is trained is kept in half precision",
        "training",
        "In half precision AdamW's epsilon of 1e-8 is zero, and small squared gradients are too: the first update "
        "divides by zero. From then on the weights are no numbers; the loss is logged as NaN or 0.",
        "Keep what is trained in fp32 (the base may stay in 16 bits), or train in bf16.",
        "Look at the loss after the very first update, and at the precision.",
        Reference(
            "peft issue 1522, Different versions seem to have an impact on the results",
            f"{_PEFT_ISSUES_OF_TRAINING}/issues/1522",
        ),
        code={
            "model": "for parameter in model.parameters():\n"
            "    if parameter.requires_grad:\n"
            "        parameter.data = parameter.data.float()",
        },
    ),
    Fault(
        "fp16-unscale",
        "Mixed precision over weights that are in half precision already",
        "training",
        "Mixed precision scales the loss and unscales fp32 gradients. Weights that were loaded in fp16 and are trained "
        "have fp16 gradients, which the scaler refuses.",
        "Cast what is trained to fp32: cast_mixed_precision_params(model, dtype=torch.float16), or load in fp32.",
        "Read the last line of the log, and the two places where a precision is set.",
        Reference(
            "PEFT documentation, Troubleshooting: Attempting to unscale FP16 gradients", TROUBLESHOOTING
        ),
        code={
            "model": "import torch\n"
            "from peft import cast_mixed_precision_params\n"
            "\n"
            "cast_mixed_precision_params(model, dtype=torch.float16)",
        },
        like=("fp16-weights", "dtype-mismatch", "rate-too-high"),
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
            f"{_PEFT_ISSUES_OF_TRAINING}/issues/1515",
        ),
        code={"model": "import torch\n\nmodel.to(torch.bfloat16)"},
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
        code={
            "arguments": 'how = {"use_reentrant": False}  # of late these are called activation_checkpointing_kwargs\n'
            "arguments.gradient_checkpointing_kwargs = arguments.activation_checkpointing_kwargs = how"
        },
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
        code={
            "wrap": "from peft import get_peft_model, prepare_model_for_kbit_training\n"
            "\n"
            "base = prepare_model_for_kbit_training(base)\n"
            "model = get_peft_model(base, config)",
        },
    ),
    Fault(
        "loaded-frozen",
        "The adapter was loaded for inference, then trained",
        "training",
        "PeftModel.from_pretrained loads in frozen mode unless it is told is_trainable=True.",
        "Load with is_trainable=True to go on training.",
        "Count what is trained, and look at how the adapter came into the model.",
        Reference(
            "peft issue 282, No Trainable Parameters when PeftModel.from_pretrained()",
            f"{_PEFT_ISSUES_OF_TRAINING}/issues/282",
        ),
        code={
            "wrap": "from peft import PeftModel\n"
            "\n"
            "model = PeftModel.from_pretrained(base, folder, is_trainable=True)",
        },
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
        code={
            "optimizer": "import torch\n"
            "\n"
            "trained = [parameter for parameter in model.parameters() if parameter.requires_grad]\n"
            "optimizer = torch.optim.AdamW(trained, lr=arguments.learning_rate)",
        },
    ),
    Fault(
        "accumulation-not-averaged",
        "Accumulated losses are added up, not averaged",
        "training",
        "Each of N passes contributes a whole mean instead of its N-th part: loss and gradient are N times too large.",
        "Divide each loss by the number of accumulated passes, or take a transformers release with the fix.",
        "Compare the first loss with that of a guess at random.",
        Reference("transformers issue 35207, Scale loss before backward", f"{_HF}/pull/35207"),
        code={"loss": "loss = loss / arguments.gradient_accumulation_steps"},
    ),
    Fault(
        "alpha-zero",
        "lora_alpha is 0",
        "training",
        "LoRA adds (α/r)·BA. With α = 0 the factor is zero: nothing is added, and no gradient arrives.",
        "Set lora_alpha; α = r or 2r is usual.",
        "Something is trainable, and yet its gradient is zero. Follow the loss back to it, factor by factor.",
        Reference("Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1", "https://arxiv.org/abs/2106.09685"),
        code={"config": "config.lora_alpha = 2 * config.r"},
        like=("frozen-after-wrapping", "checkpointing-no-grad", "optimizer-without-adapter"),
    ),
    Fault(
        "target-misspelt",
        "No target module has that name",
        "training",
        "target_modules are the ends of module names. Names differ between architectures; one that matches nothing is "
        "refused.",
        "Take the names from model.named_modules(), or target_modules='all-linear'.",
        "Read the last line of the log beside the list of targets.",
        Reference(
            'peft issue 1206, ERROR "Target modules not found in the base model"',
            f"{_PEFT_ISSUES_OF_TRAINING}/issues/1206",
        ),
        code={"config": 'config.target_modules = "all-linear"'},
    ),
    Fault(
        "target-partly-misspelt",
        "One of the target modules has no such name, and nobody said so",
        "training",
        "PEFT refuses a list of targets only when none of them matches. The others are trained, this one silently is "
        "not.",
        "Take every name from base.named_modules(); compare the list with the keys of the adapter file.",
        "Compare the list of targets with what the adapter file holds.",
        Reference(
            "peft issue 1959, Incorrect target modules does not error",
            f"{_PEFT_ISSUES_OF_TRAINING}/issues/1959",
        ),
        code={
            "config": "import difflib\n"
            "\n"
            'known = {name.rsplit(".", 1)[-1] for name, _ in base.named_modules()}\n'
            "config.target_modules = {difflib.get_close_matches(name, known, 1)[0] for name in config.target_modules}",
        },
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
            'llm-course issue 33, Issue with pad_token == eos_token: model not "learning when to stop"',
            "https://github.com/mlabonne/llm-course/issues/33",
        ),
        code={"batch": MASK_ALL_BUT_ANSWERS},
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
        code={"batch": MASK_ALL_BUT_ANSWERS},
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
        code={"batch": MASK_ALL_BUT_ANSWERS},
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
        code={
            "use": "prompts = [\n"
            "    tokenizer.apply_chat_template(\n"
            '        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True\n'
            "    )\n"
            "    for text in texts\n"
            "]",
        },
    ),
)


# ----------------------------------------
# Faults of saving, loading and using an adapter.


_PEFT, _HF_OF_USE, _TRL_OF_USE = (
    f"https://github.com/huggingface/{name}" for name in ("peft", "transformers", "trl")
)

SAVING = (
    Fault(
        "head-not-saved",
        "The trained head is not in the adapter",
        "saving",
        "A new classification head starts at random. Unless task_type or modules_to_save names it, it is not stored, "
        "and loading makes another random one.",
        "Set task_type='SEQ_CLS', or modules_to_save=['classifier'] (or 'score'), and train again.",
        "Compare before saving and after loading; look for the head among the tensors.",
        Reference(
            "peft issue 310, LoRA for SequenceClassification models do not save output layer weights",
            f"{_PEFT}/issues/310",
        ),
        code={"config": 'config.task_type = "SEQ_CLS"'},
    ),
    Fault(
        "empty-adapter",
        "The adapter file is empty",
        "saving",
        "Under ZeRO-3 each process holds a shard and the parameter itself has size 0. Saved without gathering, the "
        "file has a header and no weights.",
        "Gather before saving (stage3_gather_16bit_weights_on_model_save, or transformers 5).",
        "Look at the size of the file and at the shapes in it.",
        Reference(
            "trl issue 4416, SFTTrainer creates empty adapter.safetensors file while saving when training with LoRA "
            "and Deepspeed Zero3",
            f"{_TRL_OF_USE}/issues/4416",
        ),
        unrun="It takes ZeRO-3 on two devices: the case's file is emptied by hand, and there is nothing to gather.",
    ),
    Fault(
        "never-trained",
        "What was saved is a fresh adapter",
        "saving",
        "LoRA's B starts at zero. If it is zero in the file, no update ever reached it, or a fresh adapter was saved "
        "in place of the trained one: it changes nothing.",
        "Save the model that was trained; load with PeftModel.from_pretrained, not get_peft_model.",
        "Look at the numbers in the adapter file, B above all.",
        Reference(
            "peft issue 793, Lora model (after fine tuning) working exactly the same as base model",
            f"{_PEFT}/issues/793",
        ),
        code={"save": "model.save_pretrained(folder)"},
    ),
    Fault(
        "compiled-keys",
        "The keys carry torch.compile's prefix",
        "saving",
        "A compiled module's keys begin with _orig_mod. The loader looks for names without it, finds none, warns, and "
        "goes on with a fresh adapter.",
        "Save the module under the compiled one (model._orig_mod), or strip the prefix from the keys.",
        "Read the names in the adapter file.",
        Reference(
            "Soup issue 335, use_fsdp2_compile writes a dead adapter: torch.compile's _orig_mod. prefix",
            "https://github.com/MakazhanAlpamys/Soup/issues/335",
        ),
        code={"save": 'getattr(model, "_orig_mod", model).save_pretrained(folder)'},
    ),
    Fault(
        "vocabulary-not-saved",
        "New tokens without their embeddings",
        "saving",
        "The vocabulary was extended, but the rows of the embedding that belong to the new tokens are not in the "
        "adapter. After loading they are as resizing makes them, alike or random, or the sizes do not fit.",
        "Train and save them: trainable_token_indices, or modules_to_save=['embed_tokens', 'lm_head']; resize before "
        "wrapping, and again before loading.",
        "Count the tokens of the tokenizer, and look for embeddings among the tensors.",
        Reference(
            "peft issue 1300, Regarding bugs generated by tasks that require the addition of custom tokens",
            f"{_PEFT}/issues/1300",
        ),
        code={
            "config": "base.resize_token_embeddings(len(tokenizer))\n"
            "new = tokenizer.convert_tokens_to_ids(new_tokens)\n"
            'config.trainable_token_indices = {"word_embeddings": new}  # embed_tokens in Llama',
        },
    ),
    Fault(
        "base-changed",
        "Trained on a base that the initialisation had changed",
        "saving",
        "PiSSA and OLoRA take the adapter's start out of the base weights. The saved adapter fits only that changed "
        "base; on the published one it gives other outputs.",
        "Save with path_initial_model_for_weight_conversion, which makes a plain LoRA of it.",
        "Look at how the adapter was initialised.",
        Reference("peft issue 2184, PiSSA Updates Base Model Weights Silently", f"{_PEFT}/issues/2184"),
        code={
            "model": "model.save_pretrained(start)",
            "save": "model.save_pretrained(folder, path_initial_model_for_weight_conversion=start)",
        },
    ),
)

LOADING = (
    Fault(
        "wrong-base",
        "The adapter belongs to another base",
        "loading",
        "An adapter is a difference to one set of weights. On a model of another size the shapes do not fit; on "
        "another revision of the same size it loads and is wrong.",
        "Load the base and the revision it was trained on, and note both beside the adapter.",
        "Compare the shapes in the file with those of the base that the config names.",
        Reference(
            "peft issue 1932, load_adapter seems to require the base model to be identical",
            f"{_PEFT}/issues/1932",
        ),
        code={
            "load": "from peft import PeftConfig, PeftModel\n"
            "from transformers import AutoModelForCausalLM\n"
            "\n"
            "named = PeftConfig.from_pretrained(folder).base_model_name_or_path\n"
            "base = AutoModelForCausalLM.from_pretrained(named)\n"
            "model = PeftModel.from_pretrained(base, folder)",
        },
    ),
    Fault(
        "wrapped-twice",
        "The model was wrapped twice",
        "loading",
        "get_peft_model changes the model in place. Wrapping its result again, or giving a wrapped model and a "
        "config to a trainer, makes adapters of adapters; keys are nested and do not load.",
        "Wrap once: either get_peft_model, or peft_config of the trainer. Reload the base to change the config.",
        "Read the names of the tensors, or the warning before training.",
        Reference(
            "cookbook issue 338, FIX Error in VLM fine-tuning notebook (PEFT applied twice)",
            "https://github.com/huggingface/cookbook/pull/338",
        ),
        code={"wrap": "from peft import get_peft_model\n\nmodel = get_peft_model(base, config)"},
    ),
    Fault(
        "fresh-then-loaded",
        "get_peft_model and from_pretrained were both called",
        "loading",
        "The first puts in a fresh adapter. The second looks for its keys one level deeper, misses them all, warns, "
        "and the outputs are those of the base.",
        "Load with PeftModel.from_pretrained(base, folder) alone, and read 'Found missing adapter keys' as an error.",
        "Read the warning on loading, and count the calls that wrap.",
        Reference(
            "peft issue 2115, Ineffective Fine-Tuning Bug: Using get_peft_model() Before Loading LoRA Produces Outputs "
            "Identical to the Base Model",
            f"{_PEFT}/issues/2115",
        ),
        code={"load": "from peft import PeftModel\n\nmodel = PeftModel.from_pretrained(base, folder)"},
    ),
    Fault(
        "adapter-disabled",
        "The adapter is switched off",
        "loading",
        "Inside disable_adapter(), or after disable_adapter_layers(), the base answers alone.",
        "Leave the context, call enable_adapter_layers(), and check get_model_status().enabled.",
        "Compare the outputs with those of the base.",
        Reference(
            "peft issue 912, Shall we have enable_adapter in PeftModel attributions?", f"{_PEFT}/issues/912"
        ),
        code={"use": "model.enable_adapter_layers()"},
    ),
    Fault(
        "merged-into-4-bit",
        "Merged into a 4-bit base",
        "loading",
        "Merging adds the update and rounds the sum to 16 levels again. Much of a small update is rounded away.",
        "Load the base in 16 bits, merge there, and quantise once afterwards.",
        "Compare before and after merging, and mind the precision of the base.",
        Reference(
            "peft issue 2321, Merge lora module to 4-bit linear may get different generations",
            f"{_PEFT}/issues/2321",
        ),
        code={
            "load": "import torch\n"
            "from peft import PeftConfig, PeftModel\n"
            "from transformers import AutoModelForCausalLM\n"
            "\n"
            "named = PeftConfig.from_pretrained(folder).base_model_name_or_path\n"
            "base = AutoModelForCausalLM.from_pretrained(named, dtype=torch.bfloat16)\n"
            "model = PeftModel.from_pretrained(base, folder).merge_and_unload()",
        },
    ),
    Fault(
        "tied-head-merged",
        "An adapter on a tied head was merged",
        "loading",
        "lm_head and the embedding share one matrix. Merging into the head changes the embedding with it.",
        "Untie first (a copy of the matrix, tie_word_embeddings=False), or leave lm_head out of the targets.",
        "Compare before and after merging, and see what shares its weights.",
        Reference(
            "peft issue 2018, With tied embeddings adapter merged to tied layers", f"{_PEFT}/issues/2018"
        ),
        code={
            "config": "import torch\n"
            "\n"
            "base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().clone())\n"
            "base.config.tie_word_embeddings = False",
        },
    ),
    Fault(
        "prefix-ignored",
        "The prefix does not reach generate",
        "loading",
        "A prefix is keys and values given as a cache. Where generate starts from an empty cache, as the inner model's "
        "does, the prefix is not there.",
        f"Compare the outputs with the base's. {PREFIX_LOST} Right everywhere: one forward pass per token.",
        "Compare what is written with what the base writes.",
        Reference(
            'PrefixTuning issue 37, Should\'ve mentioned about "CRITICAL" modifications done in transformers source '
            "code",
            "https://github.com/XiangLi1999/PrefixTuning/issues/37",
        ),
        code={
            "use": "import torch\n"
            "\n"
            "for _ in range(new_tokens):\n"
            "    following = model(input_ids=ids).logits[:, -1:].argmax(-1)\n"
            "    ids = torch.cat([ids, following], dim=1)",
        },
    ),
    Fault(
        "right-padding",
        "Prompts of a batch are padded on the right",
        "loading",
        "A causal model goes on from the last position. Where that is padding, it answers to padding.",
        "Set tokenizer.padding_side = 'left' to generate.",
        "Compare one prompt alone with the same prompt in a batch.",
        Reference(
            "transformers issue 19067, Generate: add warning when left padding should be used",
            f"{_HF_OF_USE}/pull/19067",
        ),
        code={"use": 'tokenizer.padding_side = "left"'},
    ),
    Fault(
        "left-in-training-mode",
        "Dropout is on at inference",
        "loading",
        "In training mode LoRA's dropout drops inputs at random: equal inputs give different outputs.",
        "Call model.eval() before using it.",
        "Run the same input twice.",
        Reference("PEFT documentation, Troubleshooting: Random deviations", TROUBLESHOOTING),
        code={"use": "model.eval()"},
    ),
)


@cache
def all_faults() -> dict[str, Fault]:
    """Return all faults, in the order of an adapter's life: trained, saved, loaded."""
    return {fault.name: fault for fault in (*TRAINING, *DATA, *SAVING, *LOADING)}


def get_fault(name: str) -> Fault:
    """Return a fault by name. Raises :class:`UnknownName`."""
    if name not in all_faults():
        raise UnknownName("fault", name, all_faults(), "fault")
    return all_faults()[name]
