"""A training step on several devices, simulated as one of them sees it: torch's own DDP and FSDP2 run on tensors
without values, with a process group that reaches nobody.

    result = inspector.submit(simulate_sharded, request, Sharding("fsdp2", devices=8)).result()

:func:`peft_lab.engine.sharding.simulate.simulate_sharded` takes a :class:`~peft_lab.engine.request.StepRequest` (its
batch is that of one device) and a :class:`~peft_lab.engine.sharding.how.Sharding`, and returns a
:class:`~peft_lab.engine.sharding.result.ShardedResult`. All are plain frozen data, and nothing here imports torch
before it is called.
"""
