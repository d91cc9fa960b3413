"""What a training step takes: its memory (``simulate``), its seconds (:mod:`peft_lab.engine.timing`), several devices
(:mod:`peft_lab.engine.sharding`), and the published figures it is held against (:mod:`peft_lab.engine.published`).
Start with ``request.StepRequest`` and ``simulate.simulate``.
"""
