"""One class, one landscape: each learner guesses and trains one square of rank and learning rate."""

from peft_lab.ui.class_map import class_map_page

class_map_page()
