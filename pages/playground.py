"""Playground: recorded runs of LoRA over a grid of settings, to be moved through with sliders."""

from peft_lab.ui.playground import playground_page

playground_page()
