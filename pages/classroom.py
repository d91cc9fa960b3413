"""Your class: who is where, whose run stands how, and ending one; for the teacher of a class."""

from peft_lab.ui.classroom import class_page

class_page()
