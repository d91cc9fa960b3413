"""Look inside a QLoRA: the corrections it learnt, as for LoRA, over a base in four bits."""

from __future__ import annotations

from peft_lab.ui.inside import lora
from peft_lab.ui.knobs import Choice


def show(choice: Choice) -> None:
    lora.show(choice)
