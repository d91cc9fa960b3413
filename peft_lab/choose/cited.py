"""Figures from the literature that the tree decides by or gives as reasons. Each stands here once, with its place."""

from __future__ import annotations

from peft_lab import published
from peft_lab import references as src
from peft_lab.units import Finding, Source


def _cited(value: float, unit: str, note: str) -> Finding:
    return Finding(value, unit, Source.CITED, note)


def _row(experiment: str) -> Finding:
    """Right answers of a published row."""
    return _cited(100 * published.rows()[experiment].accuracy, "percent", f"{src.BENCH}, prompt_tuning rows")


#: Share of biases in BERT base, which BitFit trains.
BIASES_OF_BERT = _cited(0.09, "percent", f"{src.BITFIT}, section 3")
#: From so many rows on LoRA fell behind full fine-tuning.
MANY_ROWS = _cited(100_000, "rows", f"{src.LEARNS_LESS}, section 4")
#: Rank with which LoRA hardly fell behind there.
HIGH_RANK = _cited(256, "rank", f"{src.LEARNS_LESS}, section 4.1")
#: Rank up to which vLLM takes adapters unless it is told otherwise (max_lora_rank).
VLLM_RANK = _cited(16, "rank", src.VLLM)
#: What there is to learn in a token, and what a parameter of LoRA holds, in bits.
BITS_A_TOKEN, BITS_A_PARAMETER = (
    _cited(bits, "bits", f"{src.LORA_REGRET}, How much capacity is needed") for bits in (1, 2)
)
#: Prompt Tuning comes near full fine-tuning at this size of the base.
PROMPT_SCALE = _cited(10_000_000_000, "parameters", f"{src.PROMPT}, section 3, figure 1")
#: Prompt Tuning in the published comparison beside its default row: with a learning rate of 1e-3 instead of 1e-4, and
#: with a start from the vocabulary as well.
PROMPT_RATE = _row("prompt_tuning--llama-3.2-3B-lr_0.001")
PROMPT_VOCABULARY = _row("prompt_tuning--llama-3.2-3B-sample_vocab-lr_0.001")
_PLAIN, _ONE_SEQUENTIAL, _TWO_SEQUENTIAL = 19.8, 23.9, 25.8  # ms a forward pass
#: What adapters added to GPT-2 medium's forward pass, one row of 128 tokens: smaller and larger of two kinds.
ADAPTER_LATENCY = _cited(100 * (_ONE_SEQUENTIAL / _PLAIN - 1), "percent", f"{src.LORA}, table 1")
ADAPTER_LATENCY_MOST = _cited(100 * (_TWO_SEQUENTIAL / _PLAIN - 1), "percent", f"{src.LORA}, table 1")
