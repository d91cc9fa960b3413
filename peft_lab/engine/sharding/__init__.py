"""Simulate a training step on several devices as one of them sees it: torch's own DDP, FSDP2 and tensor parallelism run
on tensors without values, in a process group whose other members do not exist.

    result = inspector.submit(simulate_sharded, request, Sharding("fsdp2", devices=8)).result()

:func:`peft_lab.engine.sharding.simulate.simulate_sharded` takes a :class:`~peft_lab.engine.request.StepRequest` (its
batch is one device's) and a :class:`~peft_lab.engine.sharding.wrap.Sharding`, and returns a
:class:`~peft_lab.engine.sharding.simulate.ShardedResult`. All are frozen plain data, and nothing here imports torch
before it is called.
"""
