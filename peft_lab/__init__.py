"""PEFT Lab: parameter-efficient fine-tuning, counted, simulated and measured.

Importing this package imports neither torch nor Streamlit. Torch is loaded inside functions that run in worker
processes; Streamlit only in :mod:`peft_lab.ui`.

From Python: ``peft_lab.count``, ``peak``, ``step_seconds``, ``plan``, ``recommend``, ``passport`` and ``diagnose``; see
:mod:`peft_lab.api`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft_lab.api import Result, count, diagnose, passport, peak, plan, recommend, step_seconds
    from peft_lab.core.errors import BadInput

__version__ = "0.1.0"
__all__ = [
    "BadInput", "Result", "count", "diagnose", "passport", "peak", "plan", "recommend", "step_seconds",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a name of the surface when it is first read, so that the import itself stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'peft_lab' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module("peft_lab.core.errors" if name == "BadInput" else "peft_lab.api"), name)
