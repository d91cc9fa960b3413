"""Record a run of Prompt Tuning: its virtual tokens over the steps, compared with the vocabulary."""

from peft_lab.methods.recording.trained_tokens import SoftTokenRecorder as RunRecorder

__all__ = ["RunRecorder"]
