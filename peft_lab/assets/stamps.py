"""What tells a model's folder from what it was when it was read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_MATTERS = (".json", ".safetensors")  # config, tokenizer, weights and their index


def stamp(name: str) -> tuple[tuple[str, int, int], ...]:
    """Name, time (nanoseconds) and size (bytes) of the files that a model is read from. Empty where the name is no
    folder's full path, such as a Hugging Face id."""
    found = []
    if Path(name).is_absolute():
        with suppress(OSError, ValueError), os.scandir(name) as files:
            for file in files:
                if file.name.endswith(_MATTERS):
                    told = file.stat()
                    found.append((file.name, told.st_mtime_ns, told.st_size))
    return tuple(sorted(found))
