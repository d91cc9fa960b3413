"""The packages that a run's figures come from."""

from __future__ import annotations

from importlib import metadata

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")


def versions() -> dict[str, str]:
    """Their versions, by name."""
    return {name: metadata.version(name) for name in PACKAGES}
