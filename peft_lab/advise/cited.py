"""Figures that the tree decides by or cites: each is a row of ``peft_lab/engine/published``, or counted here."""

from __future__ import annotations

from peft_lab.core import references as src
from peft_lab.core.units import Finding, Source
from peft_lab.engine import published
from peft_lab.engine.published.rows import literature
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model


def _cited(name: str) -> Finding:
    """Return a figure as its paper prints it."""
    row = literature()[name]
    return Finding(row.value, row.unit, Source.CITED, f"{getattr(src, row.paper)}, {row.place}")


def _right(experiment: str) -> Finding:
    """Return the percentage of right answers of a published row."""
    accuracy = published.rows()[experiment].accuracy
    return Finding(100 * accuracy, "percent", Source.CITED, f"{src.BENCH}, prompt_tuning rows")


def _longer(with_adapters: str) -> Finding:
    """Return by how many percent adapters lengthened a forward pass."""
    plain, slow = _cited("gpt2-medium-plain"), _cited(with_adapters)
    return Finding(100 * (slow.value / plain.value - 1), "percent", Source.CITED, slow.note)


def _biases(model: str) -> Finding:
    """Return the percentage of a model's parameters that BitFit trains."""
    entry, bitfit = get_model(model), get_method("bitfit")
    trained = bitfit.formula(entry.shape, bitfit.complete(entry.shape, {})).trainable
    return Finding(100 * trained / entry.parameters, "percent", Source.COUNTED, entry.title)


#: Percentage of BERT base that BitFit trains: its biases.
BIASES_OF_BERT = _biases("bert-base")
#: Rows with which low-rank LoRA fell behind full fine-tuning.
MANY_ROWS = _cited("instruction-rows")
#: Rank with which LoRA hardly fell behind on those rows.
HIGH_RANK = _cited("high-rank")
#: Highest rank that vLLM accepts by default.
VLLM_RANK = _cited("vllm-rank")
#: Bits to learn in a token, and bits that a parameter of LoRA holds.
BITS_A_TOKEN, BITS_A_PARAMETER = _cited("bits-a-token"), _cited("bits-a-parameter")
#: Parameters of the base from which Prompt Tuning comes near full fine-tuning.
PROMPT_SCALE = _cited("prompt-scale")
#: Prompt Tuning's other published rows: with a learning rate of 1e-3 instead of the default 1e-4, and with that
#: rate and a start from the vocabulary.
PROMPT_RATE = _right("prompt_tuning--llama-3.2-3B-lr_0.001")
PROMPT_VOCABULARY = _right("prompt_tuning--llama-3.2-3B-sample_vocab-lr_0.001")
#: Percent that adapters added to GPT-2 medium's forward pass, one row of 128 tokens, smaller and larger kind.
ADAPTER_LATENCY = _longer("gpt2-medium-one-adapter")
ADAPTER_LATENCY_MOST = _longer("gpt2-medium-two-adapters")
