"""What a run records for its drawing and for its method's picture on the tab Inside: start from ``recorder.py``."""

from peft_lab.methods.recording.recorder import Recorder, start

__all__ = ["Recorder", "start"]
