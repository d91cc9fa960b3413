"""Practice: flash cards, the mock interview, predictions."""

from peft_lab.ui.practice.page import practice_page

practice_page()
