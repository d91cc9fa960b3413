"""Every method, imported: for the fork server, so that a method that is new needs to be listed nowhere."""

from importlib import import_module

from peft_lab import methods

for _slug in methods.folders():
    import_module(f"{methods.__name__}.{_slug}.spec")
