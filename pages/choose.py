"""Choose a method: a decision tree that asks the memory simulation."""

from peft_lab.ui.choose.page import choose_page

choose_page()
