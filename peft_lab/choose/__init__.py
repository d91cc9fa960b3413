"""Which method for which situation: a decision tree as data, asked by hand or by numbers.

``situation`` says what is asked about, ``tree`` holds questions, branches and advice, ``room`` asks the memory
simulation, ``recommend`` walks the tree and checks what it finds, ``flips`` changes one answer at a time.
"""

from __future__ import annotations
