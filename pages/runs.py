"""Runs: everything that was trained here."""

from peft_lab.ui.runs_page import runs_page

runs_page()
