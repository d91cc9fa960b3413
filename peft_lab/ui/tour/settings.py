"""Which settings of a page a teacher can fix, and what they are called."""

from __future__ import annotations

from peft_lab.methods import all_methods, get_method
from peft_lab.ui import pages
from peft_lab.ui.sweeps.choosing import SWEEP

# Pages whose controls are shown locked when they are fixed. The others open with the settings and can be moved.
_OTHER_PAGES = ("memory", "practice")
# Where one looks, which run is shown and who practises are no settings of an experiment.
_FREE = frozenset({"tab", "run", "profile", "method"})
_LABELS = {
    "model": "Model", "task": "Task", "steps": "Steps", "batch": "Batch size", "lr": "Learning rate", "seed": "Seed",
    "rows": "Held-out rows", "seq": "Tokens per row", "device": "Device", "dtype": "The base is stored in",
    "optimizer": "Optimizer", "checkpointing": "Gradient checkpointing", "offload": "Offloading",
    "targets": "LoRA and QLoRA adapt", "row": "Published run", "topic": "Topic", "level": "Level",
}  # fmt: skip


def of_one_person(page: str) -> frozenset[str]:
    """Names in a page's address whose values are somebody's own: in a class nobody else has that run, that name to
    practise under or that sweep."""
    if page in pages.method_pages():
        return frozenset({"run"})
    return frozenset({"practice": {"profile"}, "sweeps": {SWEEP}}.get(page, set()))


def lockable(page: str) -> bool:
    return page in pages.method_pages() or page in _OTHER_PAGES


def fixable(names: list[str] | dict[str, str]) -> list[str]:
    """Those of a page's settings that can be fixed."""
    return [name for name in names if name not in _FREE]


def labels(page: str) -> dict[str, str]:
    """What stands at the controls, by the setting's name."""
    if page not in all_methods():
        return _LABELS
    return _LABELS | {knob.name: knob.label for knob in get_method(page).knobs}
