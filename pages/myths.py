"""Myths: things people say about PEFT, each with a guess, a verdict and the experiment behind it."""

from peft_lab.ui.myths.page import myths_page

myths_page()
