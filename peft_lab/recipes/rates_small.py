"""Learning rates of the methods that train few parameters: prompts, prefixes, adapters, IA³, BitFit.

They take rates ten to ten thousand times those of all weights, and by optimizer and start more than by model size.
"""

from __future__ import annotations

from peft_lab import references as src
from peft_lab.recipes.job import BILLION, Job
from peft_lab.recipes.rates import RATE
from peft_lab.recipes.rules import ADAFACTOR, LARGE, OTHER_TASK, Said, best_published, rule


def _of(job: Job, method: str, *kinds: str) -> bool:
    return job.method == method and job.kind in kinds


def _on_bench(job: Job, method: str) -> bool:
    """Within reach of the published comparison: Llama 3.2 3B on mathematics."""
    near = BILLION <= job.parameters <= 8.5 * BILLION
    return _of(job, method, "causal-lm") and job.answers() and near


def _deep(job: Job) -> bool:
    """Trained keys and values in every layer without a network before them: P-Tuning v2, and prefixes as PEFT's."""
    if job.method == "ptuning":
        return bool(job.value("version") == "v2")
    return job.method == "prefix" and not job.value("prefix_projection")


# -- Prompt Tuning -----------------------------------------------------------------------------------------------------
# Lester et al. trained T5's at 0.3 with Adafactor, "parameter scaling off", which no optimizer here is.


@rule(
    RATE,
    src.COMPACTER,
    "authors' code, prompt_tuning_tokens_init.json",
    "T5 base with AdamW, GLUE",
    OTHER_TASK,
)
def compacter_prompt(job: Job) -> Said | None:
    """``"learning_rate": 3e-1``, 100 tokens."""
    return Said(0.3) if _of(job, "prompt", "seq2seq") and job.answers() else None


@rule(RATE, src.TRL, "PEFT integration, recommended learning rates", "instruction data")
def trl_prompt(job: Job) -> Said | None:
    """ "Prompt Tuning: 1.0e-2 to 3.0e-2"."""
    return Said(1e-2, 1e-2, 3e-2) if _of(job, "prompt", "causal-lm") and job.answers() else None


@rule(RATE, src.PEFT, "guide to prompt-based methods", "BLOOMZ 560M with AdamW, 50 rows")
def peft_guide_prompts(job: Job) -> Said | None:
    """``lr = 3e-2``, the same for all methods of the guide."""
    if job.kind != "causal-lm" or not job.answers():
        return None
    fits = job.parameters < BILLION if job.method == "prefix" and _deep(job) else job.method == "prompt"
    return Said(3e-2) if fits and job.parameters <= 3.5 * BILLION else None


@rule(RATE, src.BENCH, "prompt_tuning rows", "Llama 3.2 3B with AdamW, 200 tokens", LARGE)
def bench_prompt(job: Job) -> Said | None:
    """1e-3 was better than 1e-4; nothing higher was tried."""
    return best_published("prompt_tuning") if _on_bench(job, "prompt") else None


@rule(RATE, src.PEFT, "examples, sequence classification", "RoBERTa large, MRPC")
def peft_example_prompt(job: Job) -> Said | None:
    """``lr = 1e-3`` for Prompt Tuning and for P-Tuning."""
    shallow = job.method == "prompt" or (job.method == "ptuning" and not _deep(job))
    return Said(1e-3) if shallow and job.kind == "encoder" and job.objective == "classification" else None


# -- P-Tuning and prefixes ---------------------------------------------------------------------------------------------


@rule(RATE, src.BENCH, "ptuning row", "Llama 3.2 3B, 20 tokens", LARGE)
def bench_ptuning(job: Job) -> Said | None:
    """Its one row: 1e-4."""
    return best_published("ptuning") if _on_bench(job, "ptuning") and not _deep(job) else None


@rule(
    RATE,
    src.PTUNING,
    "authors' code, LAMA/cli.py",
    "BERT, RoBERTa, GPT-2 and an 11B decoder, frozen",
    OTHER_TASK,
)
def ptuning_knowledge(job: Job) -> Said | None:
    """``--lr`` 1e-5, with the language model frozen."""
    shallow = job.method == "ptuning" and not _deep(job) and job.kind != "seq2seq"
    return Said(1e-5) if shallow and job.objective in ("extraction", "classification", "sft") else None


@rule(RATE, src.PTUNING2, "authors' code, run_script", "BERT and RoBERTa large")
def ptuning2_scripts(job: Job) -> Said | None:
    """5e-3 to 1e-2 on RTE and BoolQ, 3e-2 on names in text (CoNLL 2003), 1e-2 on retrieval."""
    if not _deep(job) or job.kind != "encoder":
        return None
    said = {"classification": 5e-3, "extraction": 3e-2, "embedding": 1e-2}.get(job.objective)
    return None if said is None else Said(said, 5e-3, 3e-2)


@rule(RATE, src.PTUNING2, "authors' code, PT-Retrieval", "BERT base, dense retrieval", OTHER_TASK)
def retrieval_prompts(job: Job) -> Said | None:
    """``run_train_dpr_multidata_prompt.sh``: lr=1e-2."""
    return Said(1e-2) if _of(job, "prompt", "encoder") and job.objective == "embedding" else None


@rule(RATE, src.PREFIX, "table 5", "GPT-2 medium and large, BART large")
def prefix_paper(job: Job) -> Said | None:
    """8e-05 on E2E, 5e-05 on WebNLG, DART and XSUM, with the network that makes the prefix."""
    projected = job.method == "prefix" and job.value("prefix_projection") and job.answers()
    return Said(5e-5, 5e-5, 8e-5) if projected else None


@rule(RATE, src.UNIFIED, "authors' code, run_xsum.sh", "BART large, summaries", OTHER_TASK)
def unified_prefix(job: Job) -> Said | None:
    """``lr=5e-5``, with a network of width 800 that makes the prefix."""
    projected = _of(job, "prefix", "seq2seq") and job.value("prefix_projection") and job.answers()
    return Said(5e-5) if projected else None


@rule(RATE, src.BENCH, "prefixtuning rows", "Llama 3.2 3B, no network before the prefix", LARGE)
def bench_prefix(job: Job) -> Said | None:
    """5e-3 was better than 1e-3; nothing higher was tried."""
    near = job.kind == "causal-lm" and job.answers() and BILLION <= job.parameters <= 8.5 * BILLION
    return best_published("prefixtuning") if _deep(job) and near else None


@rule(
    RATE, src.PEFT, "examples, conditional generation", "T5 large, no network before the prefix", OTHER_TASK
)
def peft_example_prefix(job: Job) -> Said | None:
    """``lr = 1e-2``."""
    return Said(1e-2) if _deep(job) and job.kind == "seq2seq" and job.answers() else None


# -- adapters ----------------------------------------------------------------------------------------------------------


@rule(RATE, src.HOULSBY, "section 3.2 and authors' code", "BERT large, GLUE")
def houlsby_adapters(job: Job) -> Said | None:
    """ "We sweep learning rates in {3·10−5, 3·10−4, 3·10−3}"; the code's example takes 3e-4."""
    fits = _of(job, "adapters", "encoder") and job.objective in ("classification", "extraction")
    return Said(3e-4, 3e-5, 3e-3) if fits else None


@rule(RATE, src.LORA, "authors' code, adapter_pfeiffer_roberta_large_mnli.sh", "RoBERTa large, MNLI")
def lora_paper_adapters(job: Job) -> Said | None:
    """``--learning_rate 3e-4`` for its adapter baselines."""
    fits = _of(job, "adapters", "encoder") and job.objective in ("classification", "extraction")
    return Said(3e-4) if fits else None


@rule(RATE, src.UNIFIED, "authors' code, run_glue.sh", "RoBERTa base, MNLI and SST-2")
def unified_glue(job: Job) -> Said | None:
    """``lr=1e-4`` for the methods it compares on classes."""
    return Said(1e-4) if _of(job, "adapters", "encoder") and job.objective == "classification" else None


@rule(RATE, src.PTUNING2, "authors' code, PT-Retrieval", "BERT base, dense retrieval", OTHER_TASK)
def retrieval_adapters(job: Job) -> Said | None:
    """``run_train_dpr_multidata_adapter.sh``: lr=1e-4."""
    return Said(1e-4) if _of(job, "adapters", "encoder") and job.objective == "embedding" else None


@rule(RATE, src.LLM_ADAPTERS, "authors' code", "LLaMA 7B and 13B, BLOOM, GPT-J, arithmetic", LARGE)
def llm_adapters(job: Job) -> Said | None:
    """``--learning_rate 3e-4`` for bottleneck adapters, parallel ones and LoRA."""
    large = job.parameters >= BILLION and job.answers()
    return Said(3e-4) if _of(job, "adapters", "causal-lm") and large else None


@rule(RATE, src.PREFIX, "table 5", "GPT-2 medium and large, tables to text")
def prefix_paper_adapters(job: Job) -> Said | None:
    """Its adapter baselines: 5e-05 to 8e-05."""
    small = job.parameters < BILLION and job.answers()
    return Said(5e-5, 5e-5, 8e-5) if _of(job, "adapters", "causal-lm") and small else None


@rule(RATE, src.COMPACTER, "authors' code, adapters and bitfit", "T5 base, GLUE", OTHER_TASK)
def compacter_adapters(job: Job) -> Said | None:
    """``"learning_rate": 3e-4`` for adapters and for BitFit."""
    small = job.method in ("adapters", "bitfit") and job.kind == "seq2seq" and job.answers()
    return Said(3e-4) if small else None


@rule(RATE, src.UNIFIED, "authors' code, run_xsum.sh", "BART large, summaries", OTHER_TASK)
def unified_adapters(job: Job) -> Said | None:
    """``lr=5e-5`` for every method it compares on summaries."""
    small = job.method in ("adapters", "bitfit") and job.kind == "seq2seq" and job.answers()
    return Said(5e-5) if small else None


# -- IA³ and BitFit ----------------------------------------------------------------------------------------------------


@rule(
    RATE, src.IA3, "section 3.5", "T0 3B and 11B, some dozens of examples; scaled by parameter, as torch's Adafactor",
    OTHER_TASK, ADAFACTOR,
)  # fmt: skip
def tfew_ia3(job: Job) -> Said | None:
    """ "1,000 steps with a batch size of 8 sequences using the Adafactor optimizer with a learning rate of 3e−3"."""
    return Said(3e-3) if _of(job, "ia3", "seq2seq", "causal-lm") and job.answers() else None


@rule(RATE, src.BENCH, "ia3 rows", "Llama 3.2 3B with AdamW", LARGE)
def bench_ia3(job: Job) -> Said | None:
    """5e-3 with all attention maps; 1e-3 and 1e-4 at the default targets were worse."""
    return best_published("ia3") if _on_bench(job, "ia3") else None


@rule(RATE, src.PEFT, "guide to IA3", "mT0 large with AdamW, sentiment as text", OTHER_TASK)
def peft_guide_ia3(job: Job) -> Said | None:
    """``lr = 8e-3``."""
    return Said(8e-3) if _of(job, "ia3", "seq2seq") and job.answers() else None


@rule(RATE, src.PEFT, "examples, sequence classification", "RoBERTa large, MRPC")
def peft_example_ia3(job: Job) -> Said | None:
    """``lr = 3e-4``, for the vectors and for a head that trains with them."""
    return Said(3e-4) if _of(job, "ia3", "encoder") and job.objective == "classification" else None


@rule(RATE, src.BITFIT, "authors' code, run_glue.py", "BERT base and large, RoBERTa base, GLUE")
def bitfit_glue(job: Job) -> Said | None:
    """``--learning-rate`` 1e-3."""
    fits = _of(job, "bitfit", "encoder") and job.objective in ("classification", "extraction")
    return Said(1e-3) if fits else None


@rule(RATE, src.PTUNING2, "authors' code, PT-Retrieval", "BERT base, dense retrieval", OTHER_TASK)
def retrieval_bitfit(job: Job) -> Said | None:
    """``run_train_dpr_multidata_bitfit.sh``: lr=1e-2."""
    return Said(1e-2) if _of(job, "bitfit", "encoder") and job.objective == "embedding" else None
