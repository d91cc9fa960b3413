"""The page Myths: guess about a claim, then see its verdict. Start with :mod:`peft_lab.ui.myths.page`."""
