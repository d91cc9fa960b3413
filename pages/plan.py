"""Plan: a training on one or many GPUs, with its memory, its hours and its cost."""

from peft_lab.ui.plan.page import plan_page

plan_page()
