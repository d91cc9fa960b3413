"""How much a method trains: rank, alpha, targets, dropout, virtual tokens, adapter width."""

from __future__ import annotations

import math

from peft_lab.advise.recipes.job import BILLION, LARGE, Job, Said, rule
from peft_lab.core import references as src

ALL_LINEAR = "all-linear"
LEAST_RANK, MOST_RANK = 8, 256
LARGE_RANK = 64  # from this rank on, the scale alpha/r shrinks what each rank adds
_EASY = ("classification", "extraction", "style")


def per_rank(job: Job) -> int:
    """Return the parameters that one rank trains on all linear maps."""
    return sum((group.in_features + group.out_features) * group.count for group in job.shape.matrices)


def _power(number: float) -> int:
    """Return the next power of two from a number up, within the ranks that the sources used."""
    if number <= LEAST_RANK:
        return LEAST_RANK
    return int(min(2 ** math.ceil(math.log2(number)), MOST_RANK))


# -- rank --------------------------------------------------------------------------------------------------------------


@rule(
    "r",
    src.LORA_REGRET,
    "Reinforcement learning; How much capacity is needed",
    "Llama 3.1 8B, Qwen3 8B",
    LARGE,
)
def rank_by_tokens(job: Job) -> Said | None:
    """Enough when "the number of trainable parameters exceeds the amount of information to be learned": about 1 bit a
    token at 2 bits a parameter, 1 bit an episode in policy gradients, where rank 1 was enough here (not to others)."""
    if not job.low_rank or job.kind == "encoder":
        return None
    if job.objective == "rl":
        return Said(LEAST_RANK, 1, MOST_RANK)
    if job.objective not in ("sft", "cpt"):  # labels, names or choices are learnt, not the rows' tokens
        return None
    need = job.tokens / per_rank(job)
    return Said(max(16, _power(need)), _power(need / 2), MOST_RANK)


@rule("r", src.QLORA, "appendix A", "LLaMA 7B in 4 bits, Alpaca", LARGE)
def rank_hardly_matters(job: Job) -> Said | None:
    """ "LoRA r is unrelated to final performance if LoRA is used on all layers"; 64 in all later runs."""
    fits = job.low_rank and job.kind == "causal-lm" and job.answers()
    return Said(64, 8, 256) if fits else None


@rule("r", src.LEARNS_LESS, "section 4.7 and appendix C", "Llama 2 7B, code and mathematics", LARGE)
def rank_for_code(job: Job) -> Said | None:
    """ "a rank of 256, since ranks 16 − 64 tend not to suffice for code"; on mixed instructions 16 was competitive."""
    fits = job.low_rank and job.kind == "causal-lm" and job.objective in ("sft", "cpt")
    return Said(256, 16, 256) if fits else None


@rule("r", src.LORA, "section 7.2 and tables 9 to 12", "RoBERTa, GPT-2, GPT-3")
def small_ranks(job: Job) -> Said | None:
    """8 on RoBERTa, 4 on GPT-2, 1 to 8 on GPT-3."""
    easy = job.kind == "encoder" or job.objective in _EASY
    return Said(8, 4, 16) if job.low_rank and easy else None


@rule("r", src.QLORA, "appendix A", "T5 small to XXL", LARGE)
def ranks_on_t5(job: Job) -> Said | None:
    """ "r=16 for small, medium, and large T5 models and LoRA r=64 for T5 xl and xxl"."""
    if not job.low_rank or job.kind != "seq2seq":
        return None
    return Said(16 if job.parameters < 1.5 * BILLION else 64)


@rule("r", src.HANDBOOK, "dpo/config_qlora.yaml", "Mistral 7B, DPO", LARGE)
def rank_for_preferences(job: Job) -> Said | None:
    """``lora_r: 128``, and 16 in its first version."""
    return Said(128, 16, 128) if job.low_rank and job.objective == "preference" else None


@rule("r", src.TRL, "PEFT integration", "DPO", LARGE)
def trl_rank_for_preferences(job: Job) -> Said | None:
    """``--lora_r 32``, with ``--lora_alpha 16``."""
    return Said(32) if job.low_rank and job.objective == "preference" else None


@rule("r", src.RANK_COLLAPSE, "abstract", "three 8B base models, GRPO", LARGE)
def rank_for_rewards(job: Job) -> Said | None:
    """ "LoRA r=8" stayed trainable at every batch size; "ranks 128 and 256 remain near floor", and 64 does from a batch
    of 128 on. That rank 1 is too little, others found (arXiv 2512.23165, abstract)."""
    return Said(8) if job.low_rank and job.objective == "rl" else None


@rule("r", src.E5_MISTRAL, "sections 4.2 and 5.3", "Mistral 7B, contrastive pairs", LARGE)
def rank_for_embeddings(job: Job) -> Said | None:
    """Rank 16; "pooling types and LoRA ranks does not affect the overall performance substantially", 8 was a little
    better."""
    return Said(16, 8, 32) if job.low_rank and job.objective == "embedding" else None


@rule("use_rslora", src.RSLORA, "section 3", "Llama 2, ranks 4 to 2048", LARGE)
def rank_stabilised(job: Job) -> Said | None:
    """The scale has to fall as 1/√r, or a large rank learns no more than a small one."""
    return Said((job.value("r") or 0) >= LARGE_RANK) if job.low_rank else None


# -- alpha, targets, dropout -------------------------------------------------------------------------------------------


@rule("lora_alpha", src.LEARNS_LESS, "appendix B", "Llama 2 7B, rank 256", LARGE)
def alpha_twice_the_rank(job: Job) -> Said | None:
    """ "In both cases the best accuracy is achieved when α = 2r". The scale is then 2 at every rank."""
    if not job.low_rank:
        return None
    rank = int(job.value("r") or 16)
    return Said(round(2 * math.sqrt(rank)) if job.value("use_rslora") else 2 * rank)


@rule(
    "lora_alpha",
    src.LORA_REGRET,
    "Optimal learning rate and rank",
    "14 Llama and Qwen models, ranks 1 to 512",
)
def alpha_fixed(job: Job) -> Said | None:
    """ "We use α=32 for the experiments in this article, following standard practice"."""
    return Said(32) if job.low_rank and not job.value("use_rslora") else None


@rule("lora_alpha", src.QLORA, "as others quote it", "LLaMA 7B to 65B, rank 64", LARGE)
def alpha_of_qlora(job: Job) -> Said | None:
    """ "We set LoRA r = 64, α = 16"; α is proportional to the rate, so one of the two is enough to tune."""
    return Said(16) if job.low_rank and job.kind == "causal-lm" and not job.value("use_rslora") else None


@rule("lora_alpha", src.LORA, "section 4.1", "GPT-2, GPT-3, RoBERTa")
def alpha_first_rank(job: Job) -> Said | None:
    """ "we simply set α to the first r we try and do not tune it"."""
    return Said(int(job.value("r") or 16)) if job.low_rank and not job.value("use_rslora") else None


@rule("target_modules", src.QLORA, "section 4, figure 2", "LLaMA 7B, Alpaca", LARGE)
def targets_of_qlora(job: Job) -> Said | None:
    """LoRA on all linear maps of the block is needed to match full fine-tuning."""
    return Said(ALL_LINEAR) if job.low_rank else None


@rule("target_modules", src.LORA_REGRET, "Layers Where LoRA Is Applied", "Llama 3.1 8B, Qwen3 30B-A3B")
def targets_with_feed_forward(job: Job) -> Said | None:
    """ "far better results when applying LoRA to all layers, in particular, the MLP"; attention adds nothing to it."""
    return Said(ALL_LINEAR) if job.low_rank else None


@rule("target_modules", src.LEARNS_LESS, "section 4.7", "Llama 2 7B, code", LARGE)
def targets_for_code(job: Job) -> Said | None:
    """ "targeting “All” transformer modules"; most gains come from the MLP."""
    return Said(ALL_LINEAR) if job.low_rank else None


@rule(
    "target_modules",
    src.LORA,
    "section 4.2",
    "GPT-3, RoBERTa",
    "the sweep never adapts query and value alone",
)
def targets_of_lora(job: Job) -> Said | None:
    """Query and value alone."""
    return Said("query and value") if job.low_rank else None


@rule("lora_dropout", src.QLORA, "as others quote it", "LLaMA 7B to 65B", LARGE)
def dropout_of_qlora(job: Job) -> Said | None:
    """0.1 up to 13B, 0.05 for 33B and 65B; its appendix A says 0.05 for small models and none for large ones."""
    if not (job.low_rank and job.kind == "causal-lm"):
        return None
    return Said(0.1, 0.05, 0.1) if job.parameters <= 14 * BILLION else Said(0.05, 0.0, 0.05)


@rule("lora_dropout", src.LEARNS_LESS, "appendix A", "Llama 2 7B", LARGE)
def dropout_for_code(job: Job) -> Said | None:
    """``lora_dropout=0.05``."""
    return Said(0.05) if job.low_rank and job.kind == "causal-lm" else None


@rule("lora_dropout", src.BENCH, "LoRA rows", "Llama 3.2 3B", LARGE)
def dropout_of_bench(job: Job) -> Said | None:
    """None in any row."""
    return Said(0.0, 0.0, 0.0) if job.low_rank and job.kind == "causal-lm" else None


@rule("lora_dropout", src.PEFT, "examples, sequence classification", "RoBERTa large, MRPC")
def dropout_of_peft(job: Job) -> Said | None:
    """``lora_dropout=0.1``."""
    return Said(0.1, 0.0, 0.1) if job.low_rank and job.kind == "encoder" else None


@rule("loraplus_lr_ratio", src.LORAPLUS, "its recommended ratio", "RoBERTa, GPT-2, Llama 7B", LARGE)
def ratio_of_loraplus(job: Job) -> Said | None:
    """B learns faster than A: "greater than 1 for best performance", about 16 with the usual start."""
    return Said(16.0, 1.0, 32.0) if job.low_rank and (job.value("loraplus_lr_ratio") or 1) > 1 else None


# -- other methods -----------------------------------------------------------------------------------------------------


@rule("num_virtual_tokens", src.PROMPT, "section 3.2", "T5 small to XXL")
def tokens_of_prompts(job: Job) -> Said | None:
    """Past 20 tokens gains are small, past 100 none; at XXL a single one nearly does."""
    return Said(20, 1, 100) if job.method == "prompt" else None


@rule("num_virtual_tokens", src.PREFIX, "table 5", "GPT-2 and BART")
def tokens_of_prefixes(job: Job) -> Said | None:
    """5 to 10 for tables, 100 for summaries."""
    long = job.kind == "seq2seq" or job.row_tokens > 512
    return Said(100 if long else 10, 5, 100) if job.method == "prefix" else None


@rule("num_virtual_tokens", src.BENCH, "prefixtuning rows", "Llama 3.2 3B", LARGE)
def tokens_on_bench(job: Job) -> Said | None:
    """50 did better than 200."""
    return Said(50, 50, 200) if job.method == "prefix" and job.kind == "causal-lm" else None


@rule("num_virtual_tokens", src.PTUNING2, "authors' code, run_script", "BERT and RoBERTa large")
def tokens_of_deep_prompts(job: Job) -> Said | None:
    """11 on names, 8 to 128 on questions."""
    deep = job.method == "ptuning" and job.value("version") == "v2"
    return Said(128 if job.objective == "classification" else 11, 8, 128) if deep else None


@rule("num_virtual_tokens", src.PEFT, "guide to prompt-based methods", "BLOOMZ 560M, RoBERTa large")
def tokens_of_ptuning(job: Job) -> Said | None:
    """``num_virtual_tokens=20``."""
    return Said(20) if job.method == "ptuning" and job.value("version") != "v2" else None


@rule("bottleneck", src.HOULSBY, "section 3.2", "BERT large, GLUE")
def width_of_adapters(job: Job) -> Said | None:
    """ "selecting the best size per task from {8, 64, 256}"; always 64 costs 0.4 points."""
    return Said(64, 8, 256) if job.method == "adapters" else None


@rule("bottleneck", src.LLM_ADAPTERS, "authors' code", "LLaMA 7B and 13B", LARGE)
def width_on_decoders(job: Job) -> Said | None:
    """``bottleneck_size=256``."""
    return Said(256) if job.method == "adapters" and job.kind == "causal-lm" else None
