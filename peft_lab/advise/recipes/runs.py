"""How a run is made: schedule, warm-up, batch, epochs, optimizer, precision, checkpointing, packing."""

from __future__ import annotations

from peft_lab.advise.recipes.job import ADAFACTOR, ADAMW, BILLION, LARGE, OTHER_TASK, Job, Said, rule
from peft_lab.core import references as src

FEW = 2_000  # rows; LIMA trained on a thousand
LIMA_ROW = 2_048  # tokens: the positions of its base, the first LLaMA, so its rows were no longer
PROMPTS = ("prompt", "ptuning", "prefix")


def _instructions(job: Job) -> bool:
    return job.kind == "causal-lm" and job.answers()


#: Maximum rows of a smaller GLUE set: the lab's own limit, above the largest of them.
SMALLER_SETS = 10_000


def _few(job: Job) -> bool:
    """Return whether there is as little data as LIMA's: few rows, and no more tokens than those could have."""
    return job.rows <= FEW and job.tokens <= FEW * LIMA_ROW


# -- schedule and warm-up ----------------------------------------------------------------------------------------------


@rule("schedule", src.LEARNS_LESS, "appendix A", "Llama 2 7B", LARGE)
def cosine_after_warmup(job: Job) -> Said | None:
    """cosine_with_warmup on instructions; an inverse square root with a cooldown in pretraining."""
    if job.kind != "causal-lm" or not (job.low_rank or job.method == "full"):
        return None
    return Said("inverse square root" if job.objective == "cpt" else "cosine")


@rule("schedule", src.BENCH, "all rows", "Llama 3.2 3B", LARGE)
def cosine_on_bench(job: Job) -> Said | None:
    """Cosine in every row."""
    return Said("cosine") if _instructions(job) else None


@rule("schedule", src.HANDBOOK, "dpo/config_full.yaml and config_qlora.yaml", "Mistral 7B, DPO", OTHER_TASK)
def cosine_for_preferences(job: Job) -> Said | None:
    """``lr_scheduler_type: cosine``."""
    return Said("cosine") if job.objective in ("preference", "rl") else None


@rule("schedule", src.QLORA, "as others quote it", "LLaMA 7B to 65B", LARGE)
def constant_in_qlora(job: Job) -> Said | None:
    """A constant rate."""
    return Said("constant") if job.low_rank and _instructions(job) else None


@rule("schedule", src.LORA_REGRET, "Methods and results", "14 Llama and Qwen models")
def constant_without_warmup(job: Job) -> Said | None:
    """ "We used constant learning rate schedule (no warmup or cooldown)"."""
    fits = job.kind == "causal-lm" and job.objective != "cpt" and (job.low_rank or job.method == "full")
    return Said("constant") if fits else None


@rule("schedule", src.PROMPT, "section 3", "T5 small to XXL", OTHER_TASK)
def constant_for_prompts(job: Job) -> Said | None:
    """ "a constant learning rate of 0.3"."""
    return Said("constant") if job.method == "prompt" and job.kind == "seq2seq" else None


@rule("schedule", src.LORA, "section D and tables 9 to 12", "RoBERTa, GPT-2, GPT-3")
def linear_in_lora(job: Job) -> Said | None:
    """Linear in every table."""
    return Said("linear") if job.low_rank else None


@rule("schedule", src.PREFIX, "section 5.3", "GPT-2 and BART")
def linear_for_prefixes(job: Job) -> Said | None:
    """ "a linear learning rate scheduler"."""
    return Said("linear") if job.method in PROMPTS else None


@rule("schedule", src.TRANSFORMERS, "default of TrainingArguments", "any model")
def linear_by_default(job: Job) -> Said | None:
    """``lr_scheduler_type="linear"``: what scripts that say nothing used."""
    return Said("linear") if job.kind != "causal-lm" or job.method not in ("lora", "qlora", "full") else None


@rule("warmup", src.LEARNS_LESS, "appendix A", "Llama 2 7B", LARGE)
def tenth_of_the_run(job: Job) -> Said | None:
    """``t_warmup=0.1dur``."""
    fits = job.kind == "causal-lm" and (job.low_rank or job.method == "full")
    return Said(0.1, 0.03, 0.1) if fits else None


@rule("warmup", src.TULU3, "tables 11 and 20", "Llama 3.1 8B and 70B", LARGE)
def short_warmup(job: Job) -> Said | None:
    """A ratio of 0.03 on instructions, 0.1 for DPO."""
    if job.kind != "causal-lm":
        return None
    return Said(0.1) if job.objective in ("preference", "rl") else Said(0.03, 0.0, 0.1)


@rule("warmup", src.LORA, "table 9", "RoBERTa base and large, GLUE")
def warmup_of_lora(job: Job) -> Said | None:
    """A ratio of 0.06."""
    return Said(0.06) if job.kind == "encoder" else None


@rule("warmup", src.IA3, "section 3.5", "T0 3B and 11B", OTHER_TASK)
def warmup_of_tfew(job: Job) -> Said | None:
    """60 of 1,000 steps."""
    return Said(0.06) if job.kind == "seq2seq" or job.method == "ia3" else None


# -- batch and epochs --------------------------------------------------------------------------------------------------


@rule("batch", src.LORA_REGRET, "Batch size effects", "Llama 3.1 8B, 10,000 rows of reasoning")
def small_batches_for_lora(job: Job) -> Said | None:
    """LoRA "is less tolerant of large batch sizes than FullFT", whatever the rank; the gap is small at 32."""
    fits = job.low_rank and job.kind == "causal-lm" and (job.answers() or job.objective == "preference")
    return Said(32, 1, 32) if fits else None


@rule("batch", src.QLORA, "as others quote it", "LLaMA 7B to 65B", LARGE)
def batch_of_qlora(job: Job) -> Said | None:
    """16 for 7B and 13B, 32 for 33B, 64 for 65B."""
    if not (job.low_rank and _instructions(job)):
        return None
    billions = job.parameters / BILLION
    return Said(16 if billions <= 14 else 32 if billions <= 40 else 64)


@rule("batch", src.TULU3, "tables 11 and 20", "Llama 3.1 8B and 70B, a million rows", LARGE)
def batch_of_tulu(job: Job) -> Said | None:
    """128, on instructions and for DPO."""
    fits = (
        job.method == "full" and job.kind == "causal-lm" and job.objective not in ("cpt", "rl", "embedding")
    )
    return Said(128) if fits else None


@rule("batch", src.LLAMA2, "as others quote it", "Llama 2 7B to 70B", LARGE)
def batch_of_llama(job: Job) -> Said | None:
    """ "a batch size of 64"."""
    return Said(64) if job.method == "full" and _instructions(job) else None


@rule("batch", src.LEARNS_LESS, "appendix A", "Llama 2 7B, rows of 4,096 tokens", LARGE)
def batch_for_code(job: Job) -> Said | None:
    """192 rows of 4,096 tokens."""
    fits = job.kind == "causal-lm" and job.objective == "cpt" and (job.low_rank or job.method == "full")
    return Said(192) if fits else None


@rule("batch", src.GRPO, "section 4.2", "DeepSeekMath 7B", OTHER_TASK)
def batch_of_grpo(job: Job) -> Said | None:
    """ "we sample 64 outputs … and the training batch size is 1024": 16 questions with 64 answers to each."""
    return Said(1024) if job.objective == "rl" else None


@rule("group", src.GRPO, "section 4.2", "DeepSeekMath 7B", OTHER_TASK)
def group_of_grpo(job: Job) -> Said | None:
    """ "For each question, we sample 64 outputs"."""
    return Said(64) if job.objective == "rl" else None


@rule("group", src.LORA_REGRET, "Reinforcement learning", "Llama 3.1 8B, MATH", OTHER_TASK)
def group_of_regret(job: Job) -> Said | None:
    """ "we trained on ~10,000 problems with 32 samples per problem"."""
    return Said(32) if job.objective == "rl" else None


@rule("group", src.TRL, "GRPOConfig, num_generations", "any model", OTHER_TASK)
def group_by_default(job: Job) -> Said | None:
    """ "Number of generations per prompt to sample", 8 by default."""
    return Said(8) if job.objective == "rl" else None


@rule("batch", src.E5_MISTRAL, "as others quote it", "Mistral 7B, contrastive pairs", OTHER_TASK)
def batch_for_embeddings(job: Job) -> Said | None:
    """2,048: the other rows of a batch are the wrong answers that each is told from."""
    return Said(2048, 128, 2048) if job.objective == "embedding" and job.kind == "causal-lm" else None


@rule("batch", src.SENTENCE_TRANSFORMERS, "training arguments", "MPNet base, sentence pairs", OTHER_TASK)
def batch_of_sentences(job: Job) -> Said | None:
    """``per_device_train_batch_size=16``."""
    return Said(16) if job.objective == "embedding" and job.kind == "encoder" else None


@rule("batch", src.BERT, "appendix A.3", "BERT base and large")
def batch_of_bert(job: Job) -> Said | None:
    """ "Batch size: 16, 32"."""
    return Said(16, 16, 32) if job.kind == "encoder" and job.objective != "embedding" else None


@rule("batch", src.PROMPT, "section 3", "T5 small to XXL", OTHER_TASK)
def batch_of_prompts(job: Job) -> Said | None:
    """32."""
    return Said(32) if job.method in PROMPTS else None


@rule("batch", src.PREFIX, "table 5", "GPT-2 and BART")
def batch_of_prefixes(job: Job) -> Said | None:
    """5 to 14."""
    return Said(10, 5, 14) if job.method in PROMPTS else None


@rule("batch", src.IA3, "section 3.5", "T0 3B and 11B", OTHER_TASK)
def batch_of_tfew(job: Job) -> Said | None:
    """ "a batch size of 8 sequences"."""
    return Said(8) if job.method == "ia3" else None


@rule("batch", src.LLM_ADAPTERS, "authors' code", "LLaMA 7B and 13B", LARGE)
def batch_of_adapters(job: Job) -> Said | None:
    """``--batch_size 16``."""
    return Said(16) if job.method == "adapters" and job.kind == "causal-lm" else None


@rule("batch", src.BITFIT, "authors' code, run_glue.py", "BERT and RoBERTa base, GLUE")
def batch_of_bitfit(job: Job) -> Said | None:
    """8."""
    return Said(8) if job.method == "bitfit" else None


@rule("batch", src.COMPACTER, "authors' code", "T5 base, GLUE", OTHER_TASK)
def batch_on_t5(job: Job) -> Said | None:
    """100, and 50 with prompts, accumulated twice."""
    return (
        Said(100)
        if job.kind == "seq2seq" and job.method in ("full", "adapters", "prompt", "bitfit")
        else None
    )


@rule("epochs", src.LIMA, "as others quote it", "LLaMA 65B, 1,000 rows", LARGE)
def many_passes_over_few_rows(job: Job) -> Said | None:
    """ "15 epochs", of which a checkpoint "between the 5th and the 10th" was chosen on held-out rows."""
    return Said(10, 5, 15) if _few(job) and _instructions(job) else None


@rule("epochs", src.TULU3, "section 4.3", "Llama 3.1 8B and 70B, a million rows", LARGE)
def two_passes(job: Job) -> Said | None:
    """ "training for longer did not yield further improvements, and so used 2 epochs"; one for DPO."""
    if job.kind != "causal-lm" or _few(job):
        return None
    return Said(1) if job.objective in ("preference", "rl") else Said(2) if job.answers() else None


@rule("epochs", src.LLAMA2, "as others quote it", "Llama 2 7B to 70B, 27,540 rows", LARGE)
def two_passes_of_llama(job: Job) -> Said | None:
    """ "fine-tune the model for 2 epochs"."""
    return Said(2) if _instructions(job) and not _few(job) else None


@rule("epochs", src.LORA_REGRET, "LoRA rank", "14 Llama and Qwen models", LARGE)
def one_pass(job: Job) -> Said | None:
    """ "We trained for a single epoch"."""
    return Said(1) if job.kind == "causal-lm" and job.objective != "embedding" and not _few(job) else None


@rule("epochs", src.REPEATING, "abstract", "up to 9B parameters, pretraining", LARGE)
def up_to_four_passes(job: Job) -> Said | None:
    """ "differences tend to be insignificant among models trained for up to 4 epochs"."""
    return Said(1, 1, 4) if job.objective == "cpt" else None


@rule("epochs", src.BERT, "appendix A.3", "BERT base and large")
def few_passes_of_bert(job: Job) -> Said | None:
    """ "Number of epochs: 2, 3, 4"."""
    return (
        Said(3, 2, 4) if job.kind == "encoder" and job.method == "full" and job.objective != "cpt" else None
    )


@rule("epochs", src.LORA, "table 9", "RoBERTa base and large, GLUE")
def passes_of_lora(job: Job) -> Said | None:
    """10 to 80: 10 to 30 on the large sets."""
    return Said(10, 10, 80) if job.kind == "encoder" and job.low_rank else None


@rule("epochs", src.BITFIT, "authors' code, run_glue.py", "BERT and RoBERTa base, GLUE")
def passes_of_bitfit(job: Job) -> Said | None:
    """16."""
    return Said(16) if job.method == "bitfit" else None


@rule("epochs", src.HOULSBY, "section 3.2", "BERT large, GLUE")
def passes_of_adapters(job: Job) -> Said | None:
    """ "number of epochs in {3, 20}"."""
    return Said(3, 3, 20) if job.method == "adapters" else None


@rule("epochs", src.PREFIX, "section 5.3 and table 5", "GPT-2 and BART")
def passes_of_prefixes(job: Job) -> Said | None:
    """10 by default; 5 to 30."""
    return Said(10, 5, 30) if job.method in PROMPTS else None


@rule("epochs", src.COMPACTER, "authors' code", "T5 base, GLUE", OTHER_TASK)
def passes_on_t5(job: Job) -> Said | None:
    """20 on GLUE's smaller sets (MRPC, CoLA and STS-B), 3 on the larger ones, for every method."""
    if job.kind != "seq2seq":
        return None
    return Said(20 if job.rows <= SMALLER_SETS else 3, 3, 20)


@rule("epochs", src.PEFT, "guide to IA3", "mT0 large, sentiment as text", OTHER_TASK)
def passes_of_ia3(job: Job) -> Said | None:
    """3."""
    return Said(3) if job.method == "ia3" else None


@rule("epochs", src.SENTENCE_TRANSFORMERS, "training arguments", "MPNet base, sentence pairs", OTHER_TASK)
def pass_for_embeddings(job: Job) -> Said | None:
    """``num_train_epochs=1``."""
    return Said(1, 1, 3) if job.objective == "embedding" else None


# ----------------------------------------
# How a step is computed: optimizer, precision, checkpointing, packing.


PAGED = "paged AdamW"
BFLOAT16, MASTER = "bfloat16", "bfloat16, weights kept in float32"


@rule("optimizer", src.QLORA, "section 3", "LLaMA 65B in 4 bits on one card", LARGE)
def paged_in_qlora(job: Job) -> Said | None:
    """Its states move to the host's memory while a long row needs the card's."""
    return Said(PAGED) if job.method == "qlora" else None


@rule("optimizer", src.HANDBOOK, "dpo/config_qlora.yaml", "Mistral 7B in 4 bits", OTHER_TASK)
def paged_in_handbook(job: Job) -> Said | None:
    """``optim: paged_adamw_32bit``."""
    return Said(PAGED) if job.method == "qlora" else None


@rule("optimizer", src.BENCH, "all rows", "Llama 3.2 3B, every method", LARGE)
def adamw_on_bench(job: Job) -> Said | None:
    """AdamW in every row, but for LoRA-FA, which is an optimizer itself."""
    return Said(ADAMW) if job.kind == "causal-lm" and job.method != "qlora" else None


@rule("optimizer", src.LORA, "tables 9 to 12", "RoBERTa, GPT-2, GPT-3")
def adamw_in_lora(job: Job) -> Said | None:
    """AdamW in every table."""
    return Said(ADAMW) if job.method != "qlora" else None


@rule("optimizer", src.PROMPT, "section 3", "T5 small to XXL", OTHER_TASK)
def adafactor_for_prompts(job: Job) -> Said | None:
    """Adafactor, "β2 decay 0.8, and parameter scaling off"."""
    return Said(ADAFACTOR) if job.method == "prompt" and job.kind == "seq2seq" else None


@rule("optimizer", src.IA3, "section 3.5", "T0 3B and 11B", OTHER_TASK)
def adafactor_for_ia3(job: Job) -> Said | None:
    """Adafactor."""
    return Said(ADAFACTOR) if job.method == "ia3" and job.kind == "seq2seq" else None


@rule("dtype", src.MIXED, "section 3.1", "networks trained in half precision")
def master_weights(job: Job) -> Said | None:
    """Weights are updated in float32: an update too small beside its weight is lost in the short format. With 8
    significant bits, as bfloat16 has, that is one below 1/256 of the weight, and rates of 1e-5 make such updates."""
    return Said(MASTER) if job.method in ("full", "bitfit") else None


@rule("dtype", src.QLORA, "section 3", "LLaMA 7B to 65B", LARGE)
def frozen_in_short_format(job: Job) -> Said | None:
    """bfloat16 as the type of computation; the frozen base is never updated."""
    return Said(BFLOAT16) if job.method not in ("full", "bitfit") else None


@rule("dtype", src.BENCH, "all rows", "Llama 3.2 3B", LARGE)
def adapters_in_float32(job: Job) -> Said | None:
    """The base in bfloat16, what is trained beside it in float32."""
    return Said(BFLOAT16) if job.kind == "causal-lm" else None


@rule("checkpointing", src.CHECKPOINTING, "section 4", "deep networks")
def only_if_it_must(job: Job) -> Said | None:
    """It saves activations for one more forward pass: only where a step does not fit without."""
    del job
    return Said(False)


@rule("packing", src.TRL, "LoRA Without Regret", "Qwen2.5 3B, reasoning", LARGE)
def rows_in_one_sequence(job: Job) -> Said | None:
    """``--packing``: short rows fill a sequence instead of being padded, their attention kept apart."""
    return Said(True) if job.kind == "causal-lm" and job.objective in ("sft", "cpt", "style") else None


@rule("packing", src.PEFT, "examples, sequence classification", "RoBERTa large, MRPC")
def padded_rows(job: Job) -> Said | None:
    """One row a sequence, padded to the longest of its batch."""
    return None if job.kind == "causal-lm" and job.objective in ("sft", "cpt", "style") else Said(False)
