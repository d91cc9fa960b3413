"""Sweeps: many runs of one file, how far they are, and which setting is best."""

from peft_lab.ui.sweeps.page import sweeps_page

sweeps_page()
