"""What PEFT offers inside LoRA: other scales, other starts, other parts. Each is a row with LoRA as its parent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peft_lab.atlas.base import AtlasType, Each, Paper, Usual

_RANK = (Usual("r", (16, 8, 64), "Rank of ΔW."), Usual("lora_alpha", (32, 16), "Scales ΔW."))


def _plain(m: Any, c: Any) -> int:
    return int(c["r"] * (m.in_features + m.out_features))


def _lora(
    variant: str,
    title: str,
    update: str,
    paper: Paper,
    differs: str,
    when: str,
    form: str = "r·(d_in + d_out) per matrix",
    each: Each | None = _plain,
    **settings: Callable[..., Any] | Any,
) -> AtlasType:
    return AtlasType(
        "LORA", title, "low_rank", "LORA", update, paper, _RANK, differs, when,
        variant=variant, settings=settings, form=form, each=each,
    )  # fmt: skip


_PEFT = "PEFT 0.21, LoraConfig"
ENTRIES = (
    _lora(
        "rslora", "rsLoRA", "W + (α/√r)·B·A",
        Paper("Kalajdzievski 2023, rsLoRA", _PEFT, "2312.03732"),
        "The scale falls with the root of the rank, so that a larger rank does not learn more slowly.",
        "At ranks of 64 and more.",
        use_rslora=True,
    ),
    _lora(
        "dora", "DoRA", "m·(W + (α/r)·B·A)/‖W + (α/r)·B·A‖, row by row",
        Paper("Liu et al. 2024, DoRA", _PEFT, "2402.09353"),
        "Length and direction of every row are trained apart.",
        "At very small ranks; each step takes longer.",
        "r·(d_in + d_out) + d_out per matrix",
        lambda m, c: c["r"] * (m.in_features + m.out_features) + m.out_features,
        use_dora=True,
    ),
    _lora(
        "pissa", "PiSSA", "W_rest + (α/r)·B·A, started from W's largest singular directions",
        Paper("Meng et al. 2024, PiSSA", _PEFT, "2404.02948"),
        "A and B start as the main part of W, which is taken out of the base.",
        "To converge faster; the base changes, so the adapter belongs to it.",
        init_lora_weights="pissa",
    ),
    _lora(
        "olora", "OLoRA", "W_rest + (α/r)·B·A, started from a QR decomposition of W",
        Paper("Büyükakyüz 2024, OLoRA", f"{_PEFT}; arXiv abstract", "2406.01775"),
        "A and B start from W's QR decomposition, which is taken out of the base.",
        "As PiSSA, with a quicker start.",
        init_lora_weights="olora",
    ),
    _lora(
        "orthogonal", "Orthogonal start", "W + (α/r)·B·A, started with B·A = 0 and neither of them zero",
        Paper("PEFT, orthogonal start (no paper)", _PEFT),
        "A and B start in the two halves of a random orthogonal basis, so their product is zero and both can move.",
        "To let both learn from the first step and leave the base as it is; the rank has to be even.",
        init_lora_weights="orthogonal",
    ),
    _lora(
        "mica", "MiCA", "W + (α/r)·B·A, with B frozen at W's smallest singular directions",
        Paper("Rüdiger & Raschka 2026, MiCA", f"{_PEFT}; arXiv abstract", "2604.01694"),
        "B is frozen, so half is trained, and it moves what W uses least.",
        "In continued pretraining, to put knowledge in and touch little of what is there.",
        "r·d_in per matrix",
        lambda m, c: c["r"] * m.in_features,
        init_lora_weights="mica",
    ),
    _lora(
        "eva", "EVA", "W + (α/r)·B·A, with A started from the main directions of the inputs",
        Paper("Paischer et al. 2024, EVA", _PEFT, "2410.07170"),
        "A starts from the activations of your data, and with rho above 1 ranks move to the layers that need them.",
        "When a pass over the data before training is no trouble.",
        init_lora_weights="eva", eva_config={"rho": 1.0},
    ),
    _lora(
        "corda", "CorDA", "W_rest + (α/r)·B·A, started from W weighted by the covariance of the inputs",
        Paper("Yang et al. 2024, CorDA", _PEFT, "2406.05223"),
        "Which directions A and B take is decided with sample data: those to keep, or those to change.",
        "When certain knowledge has to survive the training.",
        init_lora_weights="corda",
    ),
    _lora(
        "loftq", "LoftQ", "Q + (α/r)·B·A, started so that it is near W in 16 bits",
        Paper("Li et al. 2023, LoftQ", _PEFT, "2310.08659"),
        "A and B start as what quantising W lost.",
        "Under a 4-bit or 2-bit base.",
        init_lora_weights="loftq", loftq_config={"loftq_bits": 4, "loftq_iter": 1},
    ),
    _lora(
        "lora_ga", "LoRA-GA", "W_rest + (α/r)·B·A, started from the first gradient",
        Paper("Wang et al. 2024, LoRA-GA", "PEFT documentation, LoRA-GA", "2407.05000"),
        "A and B start along the gradient of full fine-tuning.",
        "When the first hundred steps matter.",
        init_lora_weights="lora_ga", lora_ga_config={},
    ),
    _lora(
        "qalora", "QA-LoRA", "W + (α/r)·B·A·pool(x), inputs averaged in groups",
        Paper("Xu et al. 2023, QA-LoRA", _PEFT, "2309.14717"),
        "Inputs are averaged in groups, so that a merge stays on the quantised grid; for GPTQ bases only.",
        "When the merged model has to stay quantised.",
        "", None,
        use_qalora=True,
    ),
    _lora(
        "alora", "aLoRA", "W + (α/r)·B·A from an invocation text onwards",
        Paper("Greenewald et al. 2025, Activated LoRA", _PEFT, "2504.12397"),
        "Tokens before the invocation see the base, so its cache is reused.",
        "When many small skills act on one long conversation.",
        alora_invocation_tokens=[1, 2, 3],
    ),
    _lora(
        "bdlora", "BD-LoRA", "W + (α/r)·B·A, with B made of blocks along the diagonal",
        Paper("Wang et al. 2025, Block-Diagonal LoRA", "PEFT documentation, BD-LoRA", "2510.23346"),
        "One factor is block-diagonal, so that devices need not talk about it.",
        "When many adapters are served on several GPUs.",
        "", None,
        use_bdlora={"target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 2, "match_strict": False},
    ),
    _lora(
        "arrow", "Arrow", "W + Σ_e g_e(x)·(α/r)·B_e·A_e, gates found without training",
        Paper("Ostapenko et al. 2024, Arrow", _PEFT, "2405.11157"),
        "A router over trained LoRAs that is read off their own directions.",
        "When adapters exist and no data to train a router on.",
        "", None,
        arrow_config={},
    ),
    _lora(
        "kasa", "KaSA", "W_trimmed + s·B·diag(σ)·A",
        Paper("Wang et al. 2024, KaSA", _PEFT, "2412.06071"),
        "W loses its r smallest singular directions, and ΔW has trained singular values.",
        "When the base is taken to be noisy; it changes the base for good.",
        "r·(d_in + d_out) + r per matrix",
        lambda m, c: c["r"] * (m.in_features + m.out_features + 1),
        kasa_config={},
    ),
    _lora(
        "velora", "VeLoRA", "W + (α/r)·B·A, with the inputs of A stored compressed",
        Paper("Miles et al. 2024, VeLoRA", _PEFT, "2405.17991"),
        "The backward pass of A works on compressed activations.",
        "When activations are what does not fit.",
        velora_config={},
    ),
    _lora(
        "monteclora", "MonteCLoRA", "W + (α/r)·B·(A + sampled noise), noise with trained spread",
        Paper("Sengupta et al. 2024, MonteCLoRA", "PEFT documentation, MonteCLoRA", "2411.04358"),
        "A is sampled while it trains, and plain LoRA when it answers.",
        "On little or noisy data.",
        "", None,
        monteclora_config={},
    ),
)  # fmt: skip
