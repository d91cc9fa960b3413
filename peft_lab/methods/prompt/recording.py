"""What a run of Prompt Tuning notes: its virtual tokens along the steps, read against the vocabulary."""

from __future__ import annotations

from peft_lab.methods.recording.soft_tokens import SoftTokenRecorder
from peft_lab.methods.recording.watching import soft_tokens as watched

__all__ = ["RunRecorder", "watched"]


class RunRecorder(SoftTokenRecorder):
    """The soft tokens are all there is to it."""
