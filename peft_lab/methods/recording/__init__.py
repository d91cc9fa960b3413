"""What a run records for its drawing and for its method's own picture ("Look inside"): start from ``recorder.py``."""

from peft_lab.methods.recording.recorder import Recorder, start

__all__ = ["Recorder", "start"]
