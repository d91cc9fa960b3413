"""Define the largest values that forms accept, in one place. Larger ones are taken for typing errors.

What one learner of a class may use is in :mod:`peft_lab.core.asking`; where a search for what fits ends is in
:mod:`peft_lab.engine.simulate`.
"""

from __future__ import annotations

BATCH = 65_536
"""Rows of one step, on one device or over all."""
SEQ = 4_194_304
"""Tokens of one row."""
TOKENS_IN_A_STEP = 2**27
"""Tokens in all rows of a step: at eight times as many torch cannot index an attention matrix."""
NEW_TOKENS = 4096
"""Tokens generated after a step: each is a pass of its own; this many take a minute or two to simulate."""
DEVICES = 4096
"""Devices that share a step."""
BUCKET_MB = 4096
"""Megabytes of DDP's buckets."""
ROWS = 10**10
"""Training rows."""
TASKS = 10**6
"""Tasks served from one base."""
LATENCY_PERCENT = 10**6
"""Percent by which a request may take longer."""
HOURS = 10**6
"""Hours to a deadline."""
STORAGE = 10**15
"""Bytes that one task may store."""
DEVICE_GB = 100_000
"""Memory of a device in GB: a hundred times the largest there is."""
PRICE = 10_000
"""Price of one GPU for an hour, in any currency."""
STEPS = 100_000
"""Optimizer steps of a run."""
SEEDS = 20
"""Seeds of a comparison."""
HELD_OUT_ROWS = 100_000
"""Held-out rows that score a run."""
RATE = 10
"""Learning rate."""
EXACT = 2**53 - 1
"""The largest whole number that a browser's control holds exactly."""
