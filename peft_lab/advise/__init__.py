"""From a situation to a method, a recipe and a plan: the decision tree (``tree``, ``recommend``), recipes
(:mod:`peft_lab.advise.recipes`), and plans for one or many GPUs (:mod:`peft_lab.advise.plans`).
"""

from __future__ import annotations
