"""Words explained: the glossary."""

from peft_lab.ui.words import words_page

words_page()
