"""Make an engine's files as one zip, for a page to offer. Runs in a worker process: it imports torch."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from peft_lab.takeaway.ship.adapter import of_folder
from peft_lab.takeaway.ship.convert import write


def packed(folder: str, base: str, engine: str) -> bytes:
    """Return a zip of the files that ``engine`` needs for the adapter in a folder. Raises what :func:`write` raises."""
    made = io.BytesIO()
    with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        shipped = write(of_folder(Path(folder)), base, engine, Path(place) / "files")
        for file in shipped.files:
            archive.write(file["path"], Path(file["path"]).name)
    return made.getvalue()
