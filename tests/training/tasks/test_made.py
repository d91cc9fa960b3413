"""The rated sentences, the digits and the style task: what their files hold and how answers are scored."""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from PIL import Image

from peft_lab.models.assets import store
from peft_lab.training.tasks import get_task, made
from peft_lab.training.tasks.base import Row, label_scores
from peft_lab.training.tasks.made import STYLE_TASK, read_ratings
from tests.waits import SECONDS


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "rows", "positive"),
    [
        ("sentiment", 10_043, 0.496),
        ("products", 2943, 0.586),
        ("tweets", 3362, 0.684),
        ("editorials", 2788, 0.395),
    ],
)
def test_the_known_figures(name: str, rows: int, positive: float) -> None:
    task = get_task(name)
    splits = task.load()
    targets = [row.target for row in (*splits.train, *splits.test)]
    assert task.rows() == rows
    assert targets.count("positive") / rows == pytest.approx(positive, abs=0.0005)
    assert len(splits.test) == pytest.approx(rows / 10, rel=0.03)


def test_label_scores() -> None:
    rows = [Row(str(n), target) for n, target in enumerate(["a", "a", "a", "b"])]
    assert label_scores(["a", "a", "a", "a"], rows, ("a", "b")) == {
        "accuracy": 0.75,
        "macro_f1": pytest.approx((2 * 3 / 7 + 0) / 2),
    }
    assert label_scores(["A", "positive", "", "b"], rows, ("a", "b"))["accuracy"] == 0.25


@pytest.mark.weights
def test_of_many_who_ask_at_once_one_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages of a class ask as it opens them, on a server that has read nothing yet."""
    made._rated_splits.cache_clear()
    read, together = [], Barrier(6)

    def noted(path: Path) -> list[Row]:
        read.append(path.name)
        return read_ratings(path)

    def ask(_: int) -> int:
        together.wait(SECONDS)
        return len(get_task("editorials").load().train)

    monkeypatch.setattr(made, "read_ratings", noted)
    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(ask, range(6)))) == 1
    assert len(read) == 1
    made._rated_splits.cache_clear()


def test_a_line_is_an_image_row_by_row() -> None:
    pixels = [0] * 784
    pixels[28 * 3 + 5] = 255  # row 3, column 5
    with Image.open(io.BytesIO(made.png_of(",".join(map(str, [*pixels, 7]))))) as found:
        assert (found.size, found.mode, found.getpixel((5, 3)), found.getpixel((3, 5))) == (
            (28, 28),
            "L",
            255,
            0,
        )


@pytest.mark.weights
def test_the_rows_are_a_fair_split_and_each_name_leads_to_its_image() -> None:
    task = get_task("digits")
    splits = task.load()
    assert (len(splits.train), len(splits.test)) == (4_500, 500)
    names = [row.text for row in (*splits.train, *splits.test)]
    assert len(set(names)) == 5_000
    held = Counter(row.target for row in splits.test)
    assert set(held) == set(made.DIGITS_LABELS) and min(held.values()) >= 35
    assert all(Counter(row.target for row in splits.train[:320])[label] >= 15 for label in made.DIGITS_LABELS)
    lines = made.lines_of(store.path("digits") / made.DIGITS_FILE)
    row = splits.test[0]
    line = lines[int(row.text.removesuffix(".png"))]
    assert line[-1] == row.target and list(task.pictures([row.text])) == [made.png_of(line)]
    # different images: nothing that is learned from is held out
    assert len({line.rpartition(",")[0] for line in lines}) == 5_000


def test_every_reference_carries_the_voice() -> None:
    splits = STYLE_TASK.load()
    rows = (*splits.train, *splits.test)
    scores = STYLE_TASK.score([row.target for row in rows], rows)
    assert scores == {"marker_rate": 1.0, "opening_rate": 1.0, "closing_rate": 1.0}


@pytest.mark.parametrize(
    ("answer", "rates"),
    [
        ("\nLog, dog watch: Rest. Course held.\n", (1, 1, 1)),
        ("Log, dog watch: Rest.", (0, 1, 0)),
        ("Rest. Course held.", (0, 0, 1)),
        ("Log, dog watch: Rest. Course held. Log, dog watch: Rest. Cou", (0, 1, 0)),
        ("The log says: Log, dog watch: Rest. Course held.", (0, 0, 1)),
    ],
)
def test_both_ends_are_judged(answer: str, rates: tuple[int, int, int]) -> None:
    scores = STYLE_TASK.score([answer], STYLE_TASK.load().test[:1])
    assert (scores["marker_rate"], scores["opening_rate"], scores["closing_rate"]) == rates
