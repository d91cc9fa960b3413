"""Runs: everything that was trained here."""

from peft_lab.ui.runs.page import runs_page

runs_page()
