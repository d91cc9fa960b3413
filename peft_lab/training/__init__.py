"""Train a model: the optimizer step and its loop (``step``), losses, optimizers, batches, scores, and the tasks
(:mod:`peft_lab.training.tasks`). Runs train with it, and the simulation traces it.
"""
