"""A second opinion on free answers. PEFT Lab itself grades none: see :mod:`peft_lab.ui.practice.reading`."""
