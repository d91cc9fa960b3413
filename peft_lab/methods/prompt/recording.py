"""What a run of Prompt Tuning records: its virtual tokens over the steps, compared with the vocabulary."""

from __future__ import annotations

from peft_lab.methods.recording.soft_tokens import SoftTokenRecorder
from peft_lab.methods.recording.watching import soft_tokens as watched

__all__ = ["RunRecorder", "watched"]


class RunRecorder(SoftTokenRecorder):
    """Record the virtual tokens, which are all that this method trains."""
