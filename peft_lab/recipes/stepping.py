"""How a step is computed: optimizer, precision, checkpointing, packing."""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.recipes.job import Job
from peft_lab.recipes.rules import ADAFACTOR, ADAMW, LARGE, OTHER_TASK, Said, rule

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
