"""What a fault is: its name, why it happens, what mends it in words and as code, and where somebody met it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: Where in the life of an adapter it goes wrong.
Family = Literal["training", "data", "saving", "loading"]
FAMILIES: dict[Family, str] = {
    "training": "how it was trained",
    "data": "what it was trained on",
    "saving": "what was saved",
    "loading": "how it is loaded and used",
}

#: Where in a script a line of a fix belongs, in the order of a script, with the names that the line finds there.
Moment = Literal["config", "wrap", "model", "arguments", "optimizer", "batch", "loss", "save", "load", "use"]
MOMENTS: dict[Moment, str] = {
    "config": "before get_peft_model(base, config)",
    "wrap": "in place of the lines that make model",
    "model": "after model is made, before it is trained",
    "arguments": "before arguments, the TrainingArguments, are given to Trainer",
    "optimizer": "before optimizer and scheduler are given to Trainer",
    "batch": "in the collator, where batch is ready; prompt_lengths are in tokens",
    "loss": "in compute_loss, before loss is returned",
    "save": "in place of the lines that save model to folder",
    "load": "in place of the lines that load the adapter in folder",
    "use": "before model is used",
}


@dataclass(frozen=True)
class Reference:
    """Where the fault was met or is explained. ``title`` as the page has it."""

    title: str
    url: str


@dataclass(frozen=True)
class Fault:
    """One way a fine-tune goes wrong.

    Attributes:
        name: how the command line and addresses call it. title: one line.
        why: the mechanism. fix: what to change. look: where it shows, as a hint that does not name it.
        code: the fix as lines of a script, by where they belong (:data:`MOMENTS`). Tests run them on the fault's case.
        unrun: why there is no code that could be tested; empty where there is.
        like: faults that look alike, among which a case has to be told apart.
    """

    name: str
    title: str
    family: Family
    why: str
    fix: str
    look: str
    reference: Reference
    code: Mapping[Moment, str] = field(default_factory=dict, hash=False)
    unrun: str = ""
    like: tuple[str, ...] = ()
