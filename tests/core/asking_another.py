"""Questions that a worker asks another worker. In a module of their own, which workers can import."""

from __future__ import annotations

import os

from peft_lab.core import inspector


def here() -> int:
    return os.getpid()


def there() -> list[int]:
    """The worker that was asked, and the one that it asked."""
    return [os.getpid(), inspector.ask(here)]
