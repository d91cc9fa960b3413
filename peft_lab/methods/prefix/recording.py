"""What a run of Prefix Tuning notes: the attention on its prefix along the steps, and what the prefix costs in time."""

from __future__ import annotations

from peft_lab.methods.recording.attention import DeepRecorder
from peft_lab.methods.recording.watching import deep_prompts as watched

__all__ = ["RunRecorder", "watched"]


class RunRecorder(DeepRecorder):
    """The prefix is all there is to it."""
