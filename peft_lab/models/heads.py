"""Name what a model is loaded as: PEFT's task type, and transformers' auto class for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from peft_lab.models.shapes import ModelKind

#: PEFT's task types. It has none for classifying images: ``IMAGE_CLS`` stands for a config without a task type that
#: saves the head (:func:`peft_lab.methods.shared.peft_backed.config_of`).
TaskType = Literal["CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS", "FEATURE_EXTRACTION", "SEQ_2_SEQ_LM", "IMAGE_CLS"]
CLASSIFYING: tuple[TaskType, ...] = ("SEQ_CLS", "TOKEN_CLS", "IMAGE_CLS")
#: The class of transformers that loads a model for each.
AUTO_CLASSES: Mapping[TaskType, str] = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "FEATURE_EXTRACTION": "AutoModel",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "IMAGE_CLS": "AutoModelForImageClassification",
}
_PLAIN: Mapping[ModelKind, TaskType] = {
    "causal-lm": "CAUSAL_LM",
    "encoder": "FEATURE_EXTRACTION",
    "seq2seq": "SEQ_2_SEQ_LM",
    "vision": "FEATURE_EXTRACTION",
}


def task_type(kind: ModelKind, head: bool = False, per_token: bool = False) -> TaskType:
    """Return the task type of a model. ``head``: it has a classification head. ``per_token``: which labels every token
    rather than the row.

    >>> AUTO_CLASSES[task_type("encoder", head=True, per_token=True)]
    'AutoModelForTokenClassification'
    """
    if not head:
        return _PLAIN[kind]
    if per_token:
        return "TOKEN_CLS"
    return "IMAGE_CLS" if kind == "vision" else "SEQ_CLS"
