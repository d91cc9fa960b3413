"""A sweep to begin with: small enough for minutes on a laptop, with all that a sweep's page can show."""

from __future__ import annotations

NAME = "sweep.yaml"
FILE = """\
model: minilm-l6
task: sentiment
methods: [lora]
steps: 30
eval_rows: 200
seeds: [0, 1]
grid:
  r: [2, 8]
  learning_rate: [0.001, 0.003, 0.01]
"""
COMMAND = f"python -m peft_lab sweep {NAME}"
