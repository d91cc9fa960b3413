"""Compare: methods against each other on the same data, with their spread over seeds."""

from peft_lab.ui.compare.page import compare_page

compare_page()
