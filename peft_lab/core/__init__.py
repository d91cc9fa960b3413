"""The foundations that every room uses: errors, figures and units, facts, references, colours, files on disk, facts
about this machine, and who is asking. Start with :mod:`peft_lab.core.units` (``Finding``) and
:mod:`peft_lab.core.errors`.
"""
