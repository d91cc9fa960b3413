"""How a model learns: the one optimizer step (``step``), its loop, losses, optimizers, batches and scores, and the
tasks
(:mod:`peft_lab.training.tasks`). Runs train with it, and the simulation traces it.
"""
