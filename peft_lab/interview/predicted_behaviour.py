"""Experiments on unexpected behaviour of PEFT that settle a prediction. They run in the inspector process and return
figures."""

from __future__ import annotations

from typing import Any

from peft_lab.studies.tiny import TINY_BERT, lora, seed, tiny, tokens, trainable


def misspelt_target() -> list[float]:
    """Return what PEFT does with one right and one misspelt target: refuse (first), warn (second) or accept (third);
    then how many modules of each name it adapted."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = lora(tiny(), targets=["q_proj", "v_porj"])
        except ValueError:
            return [1.0, 0.0, 0.0, 0.0, 0.0]
    warned = any("v_porj" in str(warning.message) for warning in caught)
    adapted = [name for name, _ in model.named_modules() if name.endswith(".lora_A")]
    counts = [float(sum(f".{target}." in name for name in adapted)) for target in ("q_proj", "v_porj")]
    return [0.0, float(warned), float(not warned), *counts]


def wrapped_twice() -> list[float]:
    """Return trainable parameters after wrapping one base for q, then v, over those of a fresh base wrapped for v."""
    import warnings

    base = tiny()
    lora(base, targets=["q_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT rightly warns about it
        again = trainable(lora(base, targets=["v_proj"]))
    return [again / trainable(lora(tiny(), targets=["v_proj"]))]


def prompt_positions(virtual: int) -> list[float]:
    """Return the number of positions of logits for 12 tokens of text after a soft prompt."""
    import torch
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual)
    model: Any = get_peft_model(tiny(), config)
    with torch.no_grad():
        return [float(model(tokens()[:1]).logits.shape[1])]


def pissa_disabled() -> list[float]:
    """Return by how many percent PiSSA's logits differ from the original model's: at step 0, and without adapter."""
    import torch

    with torch.no_grad():
        original = tiny().eval()(tokens()).logits
        model = lora(tiny(), start="pissa").eval()
        started = model(tokens()).logits
        with model.disable_adapter():
            disabled = model(tokens()).logits
    return [
        100 * float((started - original).norm() / original.norm()),
        100 * float((disabled - original).norm() / original.norm()),
    ]


def prefix_on_encoder() -> list[float]:
    """Try Prefix Tuning on a BERT classifier: runs (first) or is refused (second); then how many of two sentences are
    answered with a prefix, with a prompt and with LoRA."""
    from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig

    lora = LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"])
    prefix = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    prompt = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    answered = [_answered(config) for config in (prefix, prompt, lora)]
    return [float(answered[0] > 0), float(answered[0] == 0), *answered]


def _answered(config: Any) -> float:
    """Return how many sentences a small BERT classifier with this adapter answers; 0 if it takes no past keys."""
    import torch
    from peft import get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    seed()
    model: Any = get_peft_model(BertForSequenceClassification(BertConfig(**TINY_BERT)), config)
    try:
        with torch.no_grad():
            return float(len(model(tokens()).logits))
    except ValueError as error:
        if "past key values" in str(error):
            return 0.0
        raise
