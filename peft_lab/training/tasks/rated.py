"""Sentences that people rated from very negative to very positive: movies, products, tweets and editorials.

Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014.
Each rating is the mean of about twenty raters, from -4 to 4.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from peft_lab.core.errors import AssetError
from peft_lab.training.tasks.base import Row, Splits, Task, different_texts, hold_out, label_scores

ASSET = "sentences"
LABELS = ("negative", "positive")
#: A mean rating at most this far from zero is no clear opinion; such sentences are left out.
NEUTRAL = 0.5
#: Of the different texts. Some tweets are six variants of one, made to compare punctuation and capitals.
TEST_SHARE = 0.1


_reading = threading.Lock()


@dataclass(frozen=True)
class _File:
    """The same bytes are one file, whichever lab folder they lie in."""

    sha256: str
    path: Path = field(compare=False)


@lru_cache(maxsize=16)
def _splits(file: _File) -> Splits:
    rows = read_ratings(file.path)
    return hold_out(rows, round(TEST_SHARE * different_texts(rows)))


def read_ratings(path: Path) -> list[Row]:
    """The clearly rated sentences of one file: UTF-8, ``id <tab> mean rating <tab> sentence`` in each line.

    Raises AssetError, with the line, if the file cannot be read as that.
    """
    try:
        # not splitlines(): the sentences may hold the Unicode line separators it also splits at
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as trouble:
        raise AssetError(f"{path.name} cannot be read: {trouble}. Fetch '{ASSET}' again.") from trouble
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            _, rating, text = line.split("\t")
            mean = float(rating)
        except ValueError as trouble:
            raise AssetError(
                f"{path.name}, line {number}: not a rated sentence. Fetch '{ASSET}' again."
            ) from trouble
        if abs(mean) > NEUTRAL:
            rows.append(Row(plain_text(text), LABELS[mean > 0]))
    return rows


def plain_text(text: str) -> str:
    """The sentence as its writer saw it: ``&amp;`` is ``&`` (some were escaped twice), without space around it."""
    while (plain := html.unescape(text)) != text:
        text = plain
    return text.strip()


@dataclass(frozen=True, kw_only=True)
class RatedSentences(Task):
    """Is the sentence positive or negative? ``file`` is its file in the ``sentences`` asset."""

    file: str

    def load(self) -> Splits:
        from peft_lab.models.assets import store as assets

        with (
            _reading
        ):  # of thirty pages that open at once on a new server one reads, and the others have it from there
            return _splits(_File(self.inputs()[ASSET][self.file], assets.path(ASSET) / self.file))

    def inputs(self) -> dict[str, dict[str, str]]:
        from peft_lab.models.assets import store as assets

        # the web server may: it is a megabyte
        return {ASSET: assets.verified(ASSET, [self.file])}

    def score(self, predictions: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """``accuracy`` and ``macro_f1``."""
        return label_scores(predictions, rows, self.labels)


def _task(
    name: str, title: str, file: str, what: str, max_length: int, samples: tuple[str, ...]
) -> RatedSentences:
    return RatedSentences(
        name=name,
        title=title,
        file=file,
        kind="classification",
        model_kinds=("encoder",),
        labels=LABELS,
        metric="accuracy",
        metric_help=(
            "Share of the held-out sentences given the label that people gave them. "
            "'macro_f1' averages the F1 score of both labels, so that answering the more frequent one does not pay."
        ),
        description=(
            f"{what}, each rated from −4 to 4 by about twenty people. A mean above {NEUTRAL} is positive, "
            f"below −{NEUTRAL} negative; the rest is left out."
        ),
        source=(
            "C.J. Hutto and E. Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media "
            "Text, ICWSM 2014; data of the package vaderSentiment 0.5"
        ),
        license="MIT",
        max_length=max_length,
        samples=samples,
        asset=ASSET,
    )


TASKS = (
    _task(
        "sentiment",
        "Movie sentiment",
        "movieReviewSnippets_GroundTruth.txt",
        "Sentences of movie reviews",
        64,
        (
            "A warm, sharp little film that earns every one of its laughs.",
            "Two hours of noise in search of a story.",
            "The first half drags, but the ending is worth the wait.",
        ),
    ),
    _task(
        "products",
        "Product sentiment",
        "amazonReviewSnippets_GroundTruth.txt",
        "Sentences of customers' reviews of five products",
        64,
        (
            "the battery lasts all weekend and the screen is easy to read.",
            "it stopped working after a week and support never answered.",
            "the lens is excellent, the menus are a maze.",
        ),
    ),
    _task(
        "tweets",
        "Tweet sentiment",
        "tweets_GroundTruth.txt",
        "Short messages in the manner of tweets",
        64,
        (
            "Best concert EVER, still smiling :)",
            "ugh, missed the last bus and it's pouring",
            "@anonymous not bad at all, might even go again lol",
        ),
    ),
    _task(
        "editorials",
        "Editorial sentiment",
        "nytEditorialSnippets_GroundTruth.txt",
        "Sentences of newspaper editorials",
        96,
        (
            "The agreement is a rare and welcome act of courage.",
            "The city has let its schools decay for a decade.",
            "The bill is flawed, yet far better than the neglect it would end.",
        ),
    ),
)
