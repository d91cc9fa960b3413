"""What a run of Prefix Tuning records: the attention on its prefix over the steps, and the prefix's cost in time."""

from __future__ import annotations

from peft_lab.methods.recording.attention import DeepRecorder
from peft_lab.methods.recording.watching import deep_prompts as watched

__all__ = ["RunRecorder", "watched"]


class RunRecorder(DeepRecorder):
    """Record the prefix, which is all that this method trains."""
