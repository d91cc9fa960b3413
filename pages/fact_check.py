"""Fact check: claims about PEFT, each with what code finds."""

from peft_lab.ui.claims import fact_check_page

fact_check_page()
