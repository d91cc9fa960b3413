"""Define the largest values that forms accept, in one place. Larger ones are taken for typing errors.

What one learner of a class may use is in :mod:`peft_lab.core.asking`; where a search for what fits ends is in
:mod:`peft_lab.engine.simulate`.
"""

from __future__ import annotations

BATCH = 65_536  # rows of one step, on one device or over all
SEQ = 4_194_304  # tokens of one row
TOKENS_IN_A_STEP = 2**27
"""Tokens in all rows of a step: at eight times as many torch cannot index an attention matrix."""
NEW_TOKENS = 4096
"""Tokens generated after a step: each is a pass of its own; this many take a minute or two to simulate."""
DEVICES = 4096  # devices that share a step
BUCKET_MB = 4096  # megabytes of DDP's buckets
ROWS = 10**10  # training rows
TASKS = 10**6  # tasks served from one base
LATENCY_PERCENT = 10**6  # percent by which a request may take longer
HOURS = 10**6  # hours to a deadline
STORAGE = 10**15  # bytes that one task may store
DEVICE_GB = 100_000  # memory of a device in GB: a hundred times the largest there is
PRICE = 10_000  # price of one GPU for an hour, in any currency
STEPS = 100_000  # optimizer steps of a run
SEEDS = 20  # seeds of a comparison
HELD_OUT_ROWS = 100_000  # held-out rows that score a run
RATE = 10  # learning rate
EXACT = 2**53 - 1  # the largest whole number that a browser's control holds exactly
