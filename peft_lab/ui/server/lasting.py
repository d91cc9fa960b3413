"""What a server has imported is there for good, and is left out of every search for garbage.

Python looks through all objects only once those that wait for it are a quarter as many as those that stayed. With a
million that never go, drawn pages had piled up by then: a class's server grew by megabytes between two searches.
"""

from __future__ import annotations

import gc


def set_apart() -> None:
    """Everything that is there now. The second search is of nearly nothing: it makes Python count anew what stays."""
    gc.collect()
    gc.freeze()
    gc.collect()
