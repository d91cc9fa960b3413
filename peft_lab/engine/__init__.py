"""Simulate a training step: its memory (``simulate``), its time (:mod:`peft_lab.engine.timing`), several devices
(:mod:`peft_lab.engine.sharding`), and the published figures to compare with (:mod:`peft_lab.engine.published`).
Start with ``request.StepRequest`` and ``simulate.simulate``.
"""
