"""Estimate how many seconds a training step takes, from the operations that its simulation traced.

    work = inspector.ask(simulate.work_of, request)  # operations of one step; traced in the inspector, no weights
    estimate.seconds(work, "l40s")                   # Seconds(low, value, high, bottleneck, parts)

``devices``, ``link`` and ``sent`` (bytes that a rank sends in a step, which :mod:`peft_lab.engine.sharding` computes)
add the communication that is not hidden. An estimate itself is arithmetic in this process and takes milliseconds.
"""
