"""The foundations that every room uses: errors, figures and units, facts, references, colours, files on disk, facts
about this machine, who is asking; a setting declared once (``field``, ``form``, ``limits``); the child processes that
hold torch (``processes`` starts them, ``inspector`` puts questions to them). Start with :mod:`peft_lab.core.units`
(``Finding``) and :mod:`peft_lab.core.errors`.
"""
