"""Which parameters belong to a task head that transformers puts on a model."""

HEADS = ("classifier", "score")


def in_head(name: str) -> bool:
    """Whether a parameter or module belongs to a task head that transformers puts on a model.

    By the ending, as PEFT decides what to save whole: DistilBERT's ``pre_classifier`` is part of its head.
    """
    return any(part.endswith(HEADS) for part in name.split("."))
