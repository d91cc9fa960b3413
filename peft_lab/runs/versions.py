"""The packages that a run's figures come from."""

from __future__ import annotations

from functools import cache
from importlib import metadata

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")


def versions() -> dict[str, str]:
    """Their versions, by name."""
    return dict(_found())


@cache
def _found() -> tuple[tuple[str, str], ...]:
    """Read once: what a process has loaded stays what it was, and reading them takes a hundredth of a second."""
    return tuple((name, metadata.version(name)) for name in PACKAGES)
