"""A path as a file or as the part of a link: JSON, and the same packed."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Collection
from typing import Any

from peft_lab.errors import BadInput
from peft_lab.tour.path import Tour

FORMAT = "peft-lab-path"
VERSION = 1
LARGEST = 256_000  # bytes of JSON, packed or not: forty stops with every text at its longest are fewer
LONGEST_LINK = 6_000  # characters; servers and messengers cut longer addresses


def to_document(path: Tour) -> dict[str, Any]:
    """What a path's file holds."""
    return {"format": FORMAT, "version": VERSION, **path.to_dict()}


def from_document(data: Any, pages: Collection[str]) -> Tour:
    """The inverse of :func:`to_document`. Raises :class:`BadInput` for anything else."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadInput("This is not a PEFT Lab path.", "path")
    if data.get("version") != VERSION:
        raise BadInput(
            f"This path was made in format {data.get('version')}; this PEFT Lab reads {VERSION}.", "path"
        )
    return Tour.from_dict(data, pages)


def from_file(content: bytes, pages: Collection[str]) -> Tour:
    """A path from a file's content. Raises :class:`BadInput`."""
    if len(content) > LARGEST:
        raise BadInput(f"This file is larger than {LARGEST:,} bytes; no path is that large.", "path")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput("This file is not valid JSON.", "path") from error
    return from_document(data, pages)


def pack(path: Tour) -> str:
    """A path as text for an address.

    Raises:
        BadInput: it would be longer than addresses safely are.
    """
    text = json.dumps(path.to_dict(), separators=(",", ":"), ensure_ascii=False)
    packed = base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
    if len(packed) > LONGEST_LINK:
        raise BadInput(
            f"The link to this path would have {len(packed):,} characters; above {LONGEST_LINK:,} it may be cut "
            f"off on its way. Share the path as a file.",
            "path",
        )
    return packed


def unpack(text: str, pages: Collection[str]) -> Tour:
    """The inverse of :func:`pack`. Raises :class:`BadInput` for anything else."""
    if len(text) > LONGEST_LINK:
        raise BadInput("This link is longer than any path's.", "path")
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        opener = zlib.decompressobj()
        content = opener.decompress(packed, LARGEST)
        if not opener.eof:
            raise ValueError("cut off, or larger than any path")
        data = json.loads(content)
    except (ValueError, zlib.error, RecursionError) as error:
        raise BadInput("The path in this link is damaged; ask for the link again.", "path") from error
    return Tour.from_dict(data, pages)
