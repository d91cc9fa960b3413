"""Learning rates of full fine-tuning, LoRA and the methods that train few parameters.

Each function quotes its source; its range ends where the source stopped, or the lab says how it extrapolates. All
rates are the peak of their schedule, for AdamW or the optimizer named. Learns Less trained with LionW throughout
(appendix A): its rates are used, converted, only if no source has AdamW's for all weights.
"""

from __future__ import annotations

from peft_lab.advise.recipes.job import ADAFACTOR, BILLION, LARGE, OTHER_TASK, Job, Said, best_published, rule
from peft_lab.core import references as src

RATE = "learning_rate"
SHORT_RUN = (
    100  # optimizer steps: in runs up to about this LoRA takes a higher rate (LoRA Without Regret, footnote)
)
#: LoRA's best rate over full fine-tuning's, and the same in a short run (there, Optimal learning rates).
TIMES_FULL, TIMES_FULL_SHORT = 10, 15
#: AdamW's rate over Lion's: "a suitable learning rate for Lion is typically 3-10x smaller than that for AdamW".
OVER_LION = (3, 10)


def _full(job: Job) -> bool:
    return job.method == "full"


def _writes(job: Job) -> bool:
    return job.kind == "causal-lm" and job.answers()


# -- full fine-tuning ------------------------------------------------------------------------------------------------


@rule(RATE, src.BENCH, "full fine-tuning", "Llama 3.2 3B, mathematics", LARGE)
def bench_full(job: Job) -> Said | None:
    """The one row of the published comparison that trains all weights."""
    near = BILLION <= job.parameters <= 8.5 * BILLION
    return best_published("full-finetuning") if _full(job) and _writes(job) and near else None


@rule(RATE, src.TULU3, "section 4.3", "Llama 3.1 8B and 70B, instruction data", LARGE)
def tulu_full(job: Job) -> Said | None:
    """ "5e-6 for our 8B models, and 2e-6 for our 70B models, which we found after a hyperparameter search"."""
    if not (_full(job) and _writes(job)) or job.parameters < 3 * BILLION:
        return None
    return Said(5e-6 if job.parameters < 35 * BILLION else 2e-6)


@rule(RATE, src.LLAMA2, "as others quote it", "Llama 2 7B to 70B, instruction data", LARGE)
def llama_full(job: Job) -> Said | None:
    """ "a cosine learning rate schedule with an initial learning rate of 2 × 10−5"."""
    return Said(2e-5) if _full(job) and _writes(job) and job.parameters >= 3 * BILLION else None


@rule(RATE, src.TRL, "PEFT integration, recommended learning rates", "instruction data, small models")
def trl_full(job: Job) -> Said | None:
    """The table's 2.0e-5 for supervised fine-tuning of all weights; its examples have at most 8B."""
    return Said(2e-5) if _full(job) and _writes(job) and job.parameters <= 14 * BILLION else None


@rule(RATE, src.PREFIX, "table 5", "GPT-2 medium and large, tables to text")
def prefix_paper_full(job: Job) -> Said | None:
    """Its fine-tuning baselines: 5e-05 on E2E, 1e-05 on WebNLG and DART."""
    return Said(1e-5, 1e-5, 5e-5) if _full(job) and _writes(job) and job.parameters < BILLION else None


@rule(RATE, src.TINKER, "hyperparam_utils.py", "LoRA on 28 models, divided by ten", LARGE)
def tinker_full(job: Job) -> Said | None:
    """``get_lr``: the rate that its sweep found for LoRA, divided by 10."""
    if not (_full(job) and _writes(job)) or job.parameters < BILLION:
        return None
    return Said(_tinker(job) / 10)


@rule(RATE, src.BERT, "appendix A.3", "BERT base and large, eleven tasks")
def bert_full(job: Job) -> Said | None:
    """ "Learning rate (Adam): 5e-5, 3e-5, 2e-5" work well across all tasks."""
    fits = _full(job) and job.kind == "encoder" and job.objective in ("classification", "extraction")
    return Said(3e-5, 2e-5, 5e-5) if fits else None


@rule(RATE, src.TRANSFORMERS, "run_glue example", "BERT base, GLUE")
def glue_full(job: Job) -> Said | None:
    """The example for text classification: 2e-5, three epochs, batch 32."""
    return Said(2e-5) if _full(job) and job.kind == "encoder" and job.objective == "classification" else None


@rule(RATE, src.SENTENCE_TRANSFORMERS, "training arguments", "MPNet base, sentence pairs", OTHER_TASK)
def sentences_full(job: Job) -> Said | None:
    """The example's ``learning_rate=2e-5``."""
    return Said(2e-5) if _full(job) and job.objective == "embedding" and job.parameters < BILLION else None


@rule(RATE, src.PTUNING2, "authors' code, PT-Retrieval", "BERT base, dense retrieval", OTHER_TASK)
def retrieval_full(job: Job) -> Said | None:
    """``run_train_dpr_multidata_finetune.sh``: lr=1e-5."""
    return Said(1e-5) if _full(job) and job.objective == "embedding" and job.kind == "encoder" else None


@rule(RATE, src.TRANSFORMERS, "T5, tips", "T5, many tasks", OTHER_TASK)
def t5_full(job: Job) -> Said | None:
    """ "Typically, 1e-4 and 3e-4 work well for most problems" with AdamW."""
    return Said(3e-4, 1e-4, 3e-4) if _full(job) and job.kind == "seq2seq" and job.answers() else None


@rule(RATE, src.COMPACTER, "authors' code, baseline.json", "T5 base, GLUE and SuperGLUE", OTHER_TASK)
def compacter_full(job: Job) -> Said | None:
    """``"learning_rate": 3e-4``."""
    return Said(3e-4) if _full(job) and job.kind == "seq2seq" and job.answers() else None


@rule(
    RATE, src.LEARNS_LESS, f"appendix A, with LionW; for AdamW 3 to 10 times that, {src.LION}, authors' README",
    "Llama 2 7B, 20 billion tokens of code or mathematics", LARGE,
)  # fmt: skip
def learns_less_pretraining(job: Job) -> Said | None:
    """LionW: 1.0e-05 for all weights; LoRA 1.0e-05 on code and 4.0e-05 on mathematics."""
    if job.objective != "cpt" or job.kind != "causal-lm" or not (_full(job) or job.low_rank):
        return None
    least, most = OVER_LION
    return Said(least / 1e5, least / 1e5, most * (1 if _full(job) else 4) / 1e5)


# -- preference and reinforcement learning -----------------------------------------------------------------------------


@rule(RATE, src.TULU3, "tables 20 and 21", "Llama 3.1 8B and 70B", OTHER_TASK)
def tulu_preference(job: Job) -> Said | None:
    """DPO 5 × 10-7 and 2 × 10-7; against a verifiable reward 3 × 10-7 and 1 × 10-7."""
    if not _full(job) or job.objective not in ("preference", "rl"):
        return None
    rates = {"preference": (5e-7, 2e-7), "rl": (3e-7, 1e-7)}[job.objective]
    return Said(rates[job.parameters >= 35 * BILLION])


@rule(RATE, src.HANDBOOK, "dpo/config_full.yaml and config_qlora.yaml", "Mistral 7B, DPO", OTHER_TASK)
def handbook_preference(job: Job) -> Said | None:
    """5.0e-7 for all weights, 5.0e-6 for QLoRA."""
    if job.objective != "preference":
        return None
    if _full(job):
        return Said(5e-7) if job.parameters <= 14 * BILLION else None
    return Said(5e-6) if job.low_rank else None


@rule(RATE, src.GRPO, "section 4.2", "DeepSeekMath 7B", OTHER_TASK)
def grpo_full(job: Job) -> Said | None:
    """ "we set the learning rate of the policy model as 1e-6"."""
    near = job.parameters <= 14 * BILLION
    return Said(1e-6) if _full(job) and job.objective == "rl" and near else None


@rule(RATE, src.TRL, "PEFT integration, recommended learning rates", "DPO and GRPO", OTHER_TASK)
def trl_preference(job: Job) -> Said | None:
    """DPO 5.0e-7 and with LoRA 5.0e-6; GRPO 1.0e-6 and with LoRA 1.0e-5."""
    rates = {"preference": (5e-7, 5e-6), "rl": (1e-6, 1e-5)}.get(job.objective)
    small = job.low_rank or (_full(job) and job.parameters <= 14 * BILLION)
    return Said(rates[job.low_rank]) if rates and small else None


# -- LoRA --------------------------------------------------------------------------------------------------------------


@rule(RATE, src.QLORA, "as others quote it", "LLaMA 7B to 65B in 4 bits, instruction data", LARGE)
def qlora_rates(job: Job) -> Said | None:
    """2e-4 for 7B and 13B, 1e-4 for 33B and 65B."""
    if not (job.low_rank and _writes(job)):
        return None
    return Said(2e-4 if job.parameters <= 14 * BILLION else 1e-4)


@rule(RATE, src.LORA_REGRET, "Optimal learning rates for LoRA vs. FullFT", "14 Llama and Qwen models, Tülu 3")
def ten_times_full(job: Job) -> Said | None:
    """ "The optimal LR for LoRA is consistently 10x the one used for FullFT"; about 15x under some 100 steps."""
    if not (job.low_rank and job.kind == "causal-lm") or job.objective in ("cpt", "embedding"):
        return None
    if job.value("use_rslora"):  # its scale differs, and so does the rate
        return None
    found = [said for said in (says(_as_full(job)) for says in _FULL) if said is not None and said.band]
    if not found:
        return None
    factor = TIMES_FULL_SHORT if job.steps_per_epoch < SHORT_RUN and job.answers() else TIMES_FULL
    lows, highs = zip(*(said.band for said in found if said.band), strict=True)
    return Said(factor * found[0].value, factor * min(lows), factor * max(highs))


@rule(RATE, src.TINKER, "hyperparam_utils.py", "28 models from 1B on, Tülu 3, batch 128, 780 steps", LARGE)
def tinker_lora(job: Job) -> Said | None:
    """``get_lr``: 1e-03 for Llama 3.2 1B and 3B and Qwen3 4B, 8B and 30B-A3B, 3e-04 for Llama 3.1 8B, 70B, Qwen3 32B,
    Qwen3.5 and gpt-oss 120B, 1e-04 for gpt-oss 20B."""
    if not (job.low_rank and _writes(job)) or job.parameters < BILLION:
        return None
    return Said(_tinker(job))


@rule(RATE, src.TRL, "PEFT integration, recommended learning rates", "instruction data")
def trl_lora(job: Job) -> Said | None:
    """ "2.0e-4" with LoRA, ten times the rate of all weights."""
    return Said(2e-4) if job.low_rank and _writes(job) and job.parameters <= 14 * BILLION else None


@rule(RATE, src.LORA, "tables 11 and 12", "GPT-2 medium and large, GPT-3 175B")
def lora_paper_decoders(job: Job) -> Said | None:
    """2E-04 on GPT-2 and on GPT-3, where all weights took 5E-06."""
    ends = job.parameters < BILLION or job.parameters > 35 * BILLION
    return Said(2e-4) if job.low_rank and _writes(job) and ends else None


@rule(RATE, src.BENCH, "LoRA rows", "Llama 3.2 3B, mathematics", LARGE)
def bench_lora(job: Job) -> Said | None:
    """Every LoRA row of the published comparison: 1e-4."""
    near = BILLION <= job.parameters <= 8.5 * BILLION
    return best_published("lora") if job.low_rank and _writes(job) and near else None


@rule(RATE, src.RSLORA, "section 4", "Llama 2, 20,000 rows of instructions, ranks 4 to 2048", LARGE)
def rslora_rate(job: Job) -> Said | None:
    """0.00005 with AdamW at every rank: the scale α/√r is larger than α/r."""
    return Said(5e-5) if job.value("use_rslora") and _writes(job) else None


@rule(RATE, src.DORA, "appendix, commonsense runs", "LLaMA 7B and 13B", LARGE)
def dora_rate(job: Job) -> Said | None:
    """2e-4 with DoRA, where its LoRA baseline took 3e-4."""
    return Said(2e-4) if job.value("use_dora") and _writes(job) and job.parameters >= BILLION else None


@rule(RATE, src.LORA, "table 9", "RoBERTa base and large, GLUE")
def lora_paper_encoders(job: Job) -> Said | None:
    """RoBERTa base 4E-04 to 5E-04, RoBERTa large 2E-04 to 4E-04."""
    if not (job.low_rank and job.kind == "encoder" and job.objective == "classification"):
        return None
    return Said(5e-4, 4e-4, 5e-4) if job.parameters < 200_000_000 else Said(3e-4, 2e-4, 4e-4)


@rule(RATE, src.PEFT, "examples, sequence and token classification", "RoBERTa large and BERT base")
def peft_examples_encoders(job: Job) -> Said | None:
    """3e-4 for classes on RoBERTa large, 2e-3 for names in text on BERT base with query and key adapted."""
    if not (job.low_rank and job.kind == "encoder"):
        return None
    return {"classification": Said(3e-4), "extraction": Said(2e-3)}.get(job.objective)


@rule(RATE, src.ADALORA, "authors' code, run_bart_xsum.sh", "BART large, summaries", OTHER_TASK)
def adalora_summaries(job: Job) -> Said | None:
    """``--learning_rate 5e-4``, every linear map adapted."""
    return Said(5e-4) if job.low_rank and job.kind == "seq2seq" and job.answers() else None


@rule(RATE, src.PEFT, "examples, conditional generation", "mT0 large, sentiment as text", OTHER_TASK)
def peft_example_seq2seq(job: Job) -> Said | None:
    """``lr = 1e-3``."""
    return Said(1e-3) if job.low_rank and job.kind == "seq2seq" and job.answers() else None


@rule(RATE, src.UNIFIED, "authors' code, run_xsum.sh", "BART large, summaries", OTHER_TASK)
def unified_summaries(job: Job) -> Said | None:
    """``lr=5e-5`` for every method it compares on summaries."""
    return Said(5e-5) if job.low_rank and job.kind == "seq2seq" and job.answers() else None


@rule(RATE, src.E5_MISTRAL, "section 4.2", "Mistral 7B, contrastive pairs, rank 16", OTHER_TASK)
def e5_lora(job: Job) -> Said | None:
    """Rank 16, batch 2,048, a rate of 1e-4 that falls linearly."""
    return Said(1e-4) if job.low_rank and job.objective == "embedding" and job.kind == "causal-lm" else None


@rule(RATE, src.UNSLOTH, "", "Mistral 7B, another language", LARGE)
def unsloth_pretraining(job: Job) -> Said | None:
    """5e-5, and 5e-6 for embeddings and head where they are trained."""
    return Said(5e-5) if job.low_rank and job.objective == "cpt" and job.kind == "causal-lm" else None


#: Rates published for full fine-tuning itself, not derived from LoRA; :func:`ten_times_full` multiplies them.
_FULL = (
    bench_full, tulu_full, llama_full, trl_full, prefix_paper_full, tulu_preference, handbook_preference,
    grpo_full, trl_preference,
)  # fmt: skip


def _as_full(job: Job) -> Job:
    return Job("full", job.shape, job.objective, job.rows, job.row_tokens, job.devices, job.batch)


def _tinker(job: Job) -> float:
    """Return the table's rate for a model family by size; families that the table lacks get Llama's."""
    family = job.shape.model_type
    if family.startswith("gpt_oss"):
        return 1e-4 if job.parameters <= 60 * BILLION else 3e-4
    if family.startswith("qwen3_5"):
        return 3e-4
    largest = 31 if family == "qwen3_moe" else 14 if family.startswith("qwen") else 5
    return 1e-3 if job.parameters <= largest * BILLION else 3e-4


# ----------------------------------------
# Learning rates of the methods that train few parameters: prompts, prefixes, adapters, IA³, BitFit.
#
# Their rates are ten to ten thousand times full fine-tuning's, by optimizer and start more than by model size.


def _of(job: Job, method: str, *kinds: str) -> bool:
    return job.method == method and job.kind in kinds


def _on_bench(job: Job, method: str) -> bool:
    """Return whether a job is near the published comparison: Llama 3.2 3B on mathematics."""
    near = BILLION <= job.parameters <= 8.5 * BILLION
    return _of(job, method, "causal-lm") and job.answers() and near


def _deep(job: Job) -> bool:
    """Return whether keys and values of every layer are trained directly: P-Tuning v2, and PEFT's prefixes."""
    if job.method == "ptuning":
        return bool(job.value("version") == "v2")
    return job.method == "prefix" and not job.value("prefix_projection")


# -- Prompt Tuning -----------------------------------------------------------------------------------------------------
# Lester et al. trained T5 at 0.3 with Adafactor, "parameter scaling off"; no optimizer here does that.


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
