"""Break the code on purpose, one small change at a time, and see whether a test notices: ``make mutants``.

cosmic-ray says what can be changed (its operators); :mod:`.changes` chooses those that mean something. A seeded sample
of them is tried (:mod:`.trying`), each in a process forked from one that has torch, transformers and PEFT loaded, and
all of it in a copy of the tree, so that a file under work is never touched. settings.toml names the packages, their
tests and the changes that make no difference.
"""
