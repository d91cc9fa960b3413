"""Memory: predict any fine-tune's peak."""

from peft_lab.ui.memory.page import memory_page

memory_page()
