"""Import every method, for the fork server, so that a new method need not be listed anywhere."""

from importlib import import_module

from peft_lab import methods

for _slug in methods.folders():
    import_module(f"{methods.__name__}.{_slug}.spec")
