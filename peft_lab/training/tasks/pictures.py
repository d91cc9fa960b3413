"""Read a learner's own images: a folder (or a zip of one) with a folder of PNG or JPEG files for each class.

The class of an image is the name of the folder it is in, whatever folders are above. Untrusted zips are read by
:mod:`peft_lab.training.tasks.apart`; every image is decoded there once, so that a training meets no broken one.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from peft_lab.core import disk, units
from peft_lab.core.errors import BadInput
from peft_lab.training.tasks.base import Row, Splits, is_blank, split_groups, stated_fields
from peft_lab.training.tasks.records import bad, require_unlike, shorten

ZIP = ".zip"
TITLE = "Your images "
ENDINGS = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
MAX_BYTES = 50_000_000
#: The most bytes of an upload to a page, which the server holds in memory meanwhile.
MAX_UPLOAD_BYTES = 20_000_000
MIN_IMAGES = 8
MAX_IMAGES = 2_000
MAX_ENTRIES = 3 * MAX_IMAGES  # of a zip, folders and other files included
MAX_LABELS = 100
MIN_PER_LABEL = 2
MAX_NAME = 200
MAX_LABEL_CHARS = 60
MAX_PIXELS = 24_000_000
TEST_SHARE = 0.2
MAX_TEST = 500
_DATE = (1980, 1, 1, 0, 0, 0)  # the same folder is the same zip
_TOO_MANY = f"There are {{:,}} images; at most {MAX_IMAGES:,} are allowed. Keep a sample of them."
_FIRST = "one folder per class, with PNG or JPEG files in it"


def pack(folder: Path) -> bytes:
    """Return the images of a folder as a zip, the same bytes for the same images. Links are not followed. Raises
    BadInput (there are no images, or more images or bytes than are accepted)."""
    made, size = io.BytesIO(), 0
    files = sorted(_inside(folder))
    if not files:
        raise bad(f"'{shorten(str(folder))}' contains no images. Give {_FIRST}.")
    if len(files) > MAX_IMAGES:
        raise bad(_TOO_MANY.format(len(files)))
    with zipfile.ZipFile(made, "w") as packed:
        for name in files:
            size += (folder / name).stat().st_size
            if size > MAX_BYTES:
                raise too_large(size)
            data = disk.read(folder / name, MAX_BYTES, pipes=False)
            packed.writestr(zipfile.ZipInfo(name, _DATE), data)
    return made.getvalue()


def whole(path: Path) -> tuple[str, bytes]:
    """Return a learner's data to store: its file ending and its bytes; a folder of images becomes a zip. Raises
    BadInput as :func:`pack`, OSError (it cannot be read)."""
    return (ZIP, pack(path)) if path.is_dir() else (path.suffix, disk.read(path, MAX_BYTES, pipes=False))


def _inside(folder: Path) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(where) / name
            if _is_image(name) and path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def check(size: int) -> None:
    """Raise BadInput if images of ``size`` bytes are too large to be read."""
    if size > MAX_BYTES:
        raise too_large(size)


def too_large(size: int) -> BadInput:
    """Return the error for images of that many bytes together."""
    amount, most = units.unlike(size, MAX_BYTES)
    return bad(
        f"The images take {amount} or more; at most {most} are allowed. Make them smaller (the model reads a few "
        "hundred pixels), or keep a sample of them."
    )


def rows_of(data: bytes) -> tuple[tuple[str, ...], Splits]:
    """Return the classes of a zip and its images, split by their names alone: each row's text is an image's name, its
    target the class. Raises BadInput with one sentence: what is wrong, where, and what would work."""
    rows: list[Row] = []
    seen: dict[str, Row] = {}
    with _opened(data) as packed:
        entries = packed.infolist()
        if len(entries) > MAX_ENTRIES:
            raise bad(f"The zip has {len(entries):,} entries; at most {MAX_ENTRIES:,} are allowed.")
        images = [entry for entry in entries if not entry.is_dir() and _is_image(entry.filename)]
        if not images:
            raise bad(f"The zip contains no images. It needs {_FIRST}.")
        if len(images) > MAX_IMAGES:
            raise bad(_TOO_MANY.format(len(images)))
        for entry in sorted(images, key=lambda entry: entry.filename):
            row = Row(entry.filename, _label(entry.filename))
            content = _read(packed, entry)
            digest = hashlib.sha256(content).hexdigest()
            before = seen.setdefault(digest, row)
            if before is not row:
                if before.target != row.target:
                    raise bad(
                        f"'{shorten(before.text)}' and '{shorten(row.text)}' are the same image in two classes. Keep "
                        "one."
                    )
                continue
            check_image(content, entry.filename)
            rows.append(row)
    labels = _labels(rows)
    groups = [[row for row in rows if row.target == label] for label in labels]
    return labels, split_groups(groups, min(TEST_SHARE, MAX_TEST / len(rows)))


def files(place: str, names: Iterable[str]) -> Iterator[bytes]:
    """Yield the bytes of images by their names in a folder or a zip that was checked before. Raises BadInput (an image
    is no longer there)."""
    path, name = Path(place), ""
    try:
        if path.is_dir():
            for name in names:
                yield (path / name).read_bytes()
            return
        with disk.unzipping(), zipfile.ZipFile(path) as packed:
            for name in names:
                yield _read(packed, packed.getinfo(name))
    except (OSError, KeyError, zipfile.BadZipFile) as trouble:
        what = f"The image '{shorten(name)}' is" if name else "The images are"
        raise bad(f"{what} no longer in '{shorten(path.name)}'.") from trouble


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in ENDINGS and not hidden


def _label(name: str) -> str:
    path = PurePosixPath(name)
    label = path.parent.name.strip()
    if len(name) > MAX_NAME or not name.isprintable() or "\\" in name:
        raise bad(f"The name '{shorten(name)}' is not accepted. Use fewer and plainer letters.")
    if path.is_absolute() or ".." in path.parts:
        raise bad(f"'{shorten(name)}' points outside the zip.")
    if is_blank(label):
        raise bad(f"The image '{shorten(name)}' is in no folder. The zip needs {_FIRST}.")
    if len(label) > MAX_LABEL_CHARS:
        raise bad(f"The class '{shorten(label)}' has more than {MAX_LABEL_CHARS} characters.")
    return label


def _opened(data: bytes) -> zipfile.ZipFile:
    try:
        with disk.unzipping():
            return zipfile.ZipFile(io.BytesIO(data))
    except (OSError, zipfile.BadZipFile) as trouble:
        raise bad("This is not a zip archive, or it is damaged.") from trouble


def _read(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return a file's bytes. Raises BadInput if its stated or its real size is over the limit, or it is damaged."""
    if entry.file_size > MAX_BYTES:
        raise too_large(entry.file_size)
    try:
        with disk.unzipping(), packed.open(entry) as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, zipfile.BadZipFile) as trouble:  # OSError: bz2's, too
        raise bad(f"'{shorten(entry.filename)}' cannot be read from the zip: {trouble}.") from trouble
    if len(content) > MAX_BYTES:
        raise too_large(len(content))
    return content


def check_image(content: bytes, name: str) -> None:
    """Decode an image once. Raises BadInput if it is no PNG or JPEG, is damaged, or has too many pixels."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                amount, most = units.unlike(
                    width * height,
                    MAX_PIXELS,
                    lambda pixels: f"{pixels / 1e6:,.0f} million pixels",
                    " pixels",
                )
                raise bad(f"'{shorten(name)}' has {amount}; at most {most} are allowed.")
            image.load()
    except UnidentifiedImageError:
        raise bad(f"'{shorten(name)}' is not a PNG or JPEG image, despite its name.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as trouble:
        raise bad(f"'{shorten(name)}' is damaged: {shorten(str(trouble)).rstrip('.')}.") from trouble


def _labels(rows: Sequence[Row]) -> tuple[str, ...]:
    if len(rows) < MIN_IMAGES:
        raise bad(f"There are {len(rows)} different images; at least {MIN_IMAGES} are needed.")
    counts = Counter(row.target for row in rows)
    labels = sorted(counts)
    require_unlike("classes", labels, "Name their folders alike.")
    if len(labels) < 2:
        raise bad(
            f"All images are in the folder '{labels[0]}'. At least 2 classes are needed, each in a folder."
        )
    if len(labels) > MAX_LABELS:
        raise bad(f"There are {len(labels):,} classes; at most {MAX_LABELS} are allowed.")
    for label in labels:
        if counts[label] < MIN_PER_LABEL:
            raise bad(
                f"The class '{label}' has one image; each class needs at least {MIN_PER_LABEL}, one to train on and "
                "one to test on."
            )
    return tuple(labels)


def fields(name: str, labels: Sequence[str], splits: Splits) -> dict[str, Any]:
    """What a task of these images says of itself; ``name``: of their folder or zip."""
    counts = {"train": f"{len(splits.train):,}", "test": f"{len(splits.test):,}"}
    stated = stated_fields("own images", name=name, classes=len(labels), **counts)
    return {"title": f"{TITLE}{name}", "labels": tuple(labels), **stated}
