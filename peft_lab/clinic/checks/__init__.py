"""The checks, each a function that looks at one thing. Importing this registers them all."""

from peft_lab.clinic.checks import config, curve, gradients, messages, schedule, tensors

__all__ = ["config", "curve", "gradients", "messages", "schedule", "tensors"]
