"""What PEFT raises when it refuses, on purpose or by accident, and how that is told."""

from __future__ import annotations

import re

# For values it cannot use (a zero rank, a broken pattern), a missing package, a model it was not written for.
REFUSALS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    re.error,
)


def reason(error: Exception) -> str:
    """What PEFT raised, as the end of a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"one of its values has the wrong type ({text})" if isinstance(error, TypeError) else text
