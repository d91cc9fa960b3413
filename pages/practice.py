"""Practice: flash cards and the mock interview."""

from peft_lab.ui.practice.page import practice_page

practice_page()
