"""What the bank has to ask about: the topics of 2026, enough of them computed, and in what proportion."""

from __future__ import annotations

from collections import Counter

import pytest

from peft_lab.interview.bank import all_questions

#: What is asked in interviews, and the questions that ask it.
ASKED: dict[str, tuple[str, ...]] = {
    "rate of LoRA against full": ("lora-rate-tenfold", "lora-rate-rank", "lora-rate-invariance"),
    "feed-forward against attention": ("lora-attention-rank", "lora-mlp-or-attention"),
    "large batches": ("lora-large-batches",),
    "rank against tokens": ("lora-capacity-rank",),
    "rank 1 in RL": ("lora-reward-room", "lora-rank-one"),
    "DPO with adapters off as reference": (
        "preference-reference",
        "preference-after-sft",
        "preference-dpo-start",
    ),
    "GRPO with adapters off as reference": ("preference-kl", "preference-advantage"),
    "intruder dimensions": ("lora-intruders", "lora-intruder-remedy", "lora-intruder-cosine"),
    "A = 0 or B = 0": ("lora-a-or-b-zero", "lora-first-step", "lora-start-nonzero"),
    "LoRA-GA": ("lora-start-ga",),
    "OLoRA": ("lora-start-olora", "lora-start-converted"),
    "EVA": ("lora-start-cap", "lora-start-rest"),
    "CorDA": ("lora-start-corda", "lora-start-covariances"),
    "VeRA": ("lora-vera-count", "lora-vera-file", "lora-vera-why"),
    "LoRA-XS": ("lora-xs-count", "lora-xs-times"),
    "TinyLoRA": ("lora-tiny-untied", "lora-tiny-reasoning"),
    "MiSS": ("lora-miss-count", "lora-miss-how"),
    "RandLoRA": ("lora-randlora-count", "lora-randlora-rank"),
    "OFT": ("choose-oft-count", "choose-oft-why"),
    "BOFT": ("choose-boft-count",),
    "GaLore against PEFT": ("memory-galore-states", "memory-galore-or-lora"),
    "LISA against PEFT": ("memory-lisa", "memory-galore-or-lora"),
    "FSDP with QLoRA": ("qlora-shard-bytes", "qlora-gathered", "qlora-wrapping", "qlora-shard-plan"),
    "ZeRO-3 with QLoRA": ("qlora-zero-stage", "qlora-zero-two", "qlora-zero-traffic"),
    "storage dtype": ("qlora-storage-packed", "qlora-storage-why"),
    "LoRA under tensor parallelism": ("server-parallel-share", "server-parallel-traffic"),
    "servers: ranks": ("server-default-rank", "server-slot-padding"),
    "servers: slots": ("server-slots", "server-many-adapters"),
    "servers: cold start": ("server-cold-start",),
    "aLoRA and reuse of the cache": ("server-activated-prefill", "server-activated-how"),
    "TIES": ("merge-ties-entry",),
    "DARE": ("merge-dare-factor", "merge-dare-spread"),
    "SVD merging": ("merge-svd-energy",),
    "cat merging": ("merge-cat-rank", "merge-which-way"),
    "composition": ("merge-which-way", "merge-linear-value"),
    "routing": ("merge-route", "merge-arrow-weight"),
    "LoRA on experts": ("lora-experts-count", "lora-experts-parameters", "lora-experts-starved"),
    "trainable tokens": ("lora-tokens-count", "lora-tokens-saved"),
    "resized embeddings": ("lora-resized-vocabulary",),
    "modules_to_save": ("lora-head-memory", "server-modules-to-save"),
    "tied heads": ("lora-head-tied",),
    "new language (continued pretraining)": ("choose-new-language", "choose-vocabulary"),
    "new knowledge": ("choose-new-facts",),
    "GPTQ bases": ("qlora-grouped-bytes", "qlora-calibration", "qlora-which-base"),
    "AWQ bases": ("qlora-grouped-bytes", "qlora-which-base"),
    "HQQ bases": ("qlora-calibration", "qlora-which-base"),
    "QDoRA": ("qlora-qdora-share", "qlora-qdora-cost"),
    "EoRA": ("qlora-eora-bytes", "qlora-eora-what"),
    "merge, then quantise": ("ship-order", "ship-proof"),
    "GGUF": ("ship-block-bits", "ship-file-bytes", "ship-adapter-or-merged"),
    "FP8": ("ship-fp8-step",),
    "flash attention": ("data-attention-scores",),
    "packing": ("data-foreign-pairs", "data-packing"),
    "fused loss": ("data-chunked-logits", "data-fused-loss"),
    "8-bit optimizers": ("memory-eight-bit-states", "memory-eight-bit-rank", "memory-eight-bit-lora"),
    "paged optimizers": ("memory-eight-bit-lora", "qlora-paged"),
    "offloaded optimizers": ("memory-offload-seconds",),
    "answer-only loss": ("data-mixed-loss", "data-accumulated"),
    "chat template": ("data-template",),
    "faults of the end token": ("data-end-token",),
    "measuring forgetting": ("safety-mean-change", "safety-rows-needed"),
    "replay": ("safety-replay-tokens", "safety-replay"),
    "safety erosion": ("safety-erosion", "safety-refusals"),
    "adapters as a supply chain": ("safety-supply-chain", "safety-backdoor", "safety-pairs"),
    "embedding LoRA": ("choose-embedding-lora", "choose-embedding-negatives", "choose-embedding-index"),
    "reranking LoRA": ("choose-reranker-cost",),
    "vision LoRA": ("choose-vision-tokens", "choose-vision-part"),
    "diffusion LoRA": ("choose-diffusion-scale", "choose-diffusion-lora"),
    "hypernetworks instead": ("choose-hypernetwork", "choose-hypernetwork-size"),
    "retrieval instead": ("choose-new-facts", "choose-prompt-or-tune"),
    "prompting instead": ("choose-prompt-or-tune", "plan-worth-it"),
    "cost of a given job": ("plan-money", "plan-worth-it"),
    "time of a given job": ("plan-hours", "plan-measured", "plan-utilisation"),
    "debugging: loss 0": ("debug-masked-loss",),
    "debugging: NaN": ("debug-masked-loss", "debug-largest-half", "debug-scaler"),
    "debugging: flat": ("debug-flat",),
    "debugging: adapter without effect": ("debug-no-effect", "debug-order-of-preparing"),
    "debugging: random head after loading": ("debug-chance", "train-head"),
    "debugging: empty adapter under ZeRO-3": ("debug-empty-file",),
}
LORA = ("lora", "qlora")
PRACTICE = ("training", "memory", "planning", "serving", "merging", "preference", "debugging")


@pytest.mark.parametrize("about", ASKED)
def test_it_is_asked(about: str) -> None:
    assert set(ASKED[about]) <= set(all_questions())


def test_size() -> None:
    questions = all_questions().values()
    assert len(questions) >= 290
    assert sum(question.computed for question in questions) >= 155


def test_balance() -> None:
    """About a third on LoRA and QLoRA, a third on training and serving models, and the rest not much more."""
    topics = Counter(question.topic for question in all_questions().values())
    total = topics.total()
    lora, practice = (sum(topics[name] for name in names) for names in (LORA, PRACTICE))
    assert 0.25 <= lora / total <= 0.4
    assert 0.25 <= practice / total <= 0.4
    assert (total - lora - practice) / total <= 0.4
