"""Record a run of Prefix Tuning: the attention on its prefix over the steps, and the prefix's cost in time."""

from peft_lab.methods.recording.trained_tokens import DeepRecorder as RunRecorder

__all__ = ["RunRecorder"]
