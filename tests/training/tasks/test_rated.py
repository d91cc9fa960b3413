from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from peft_lab.core.errors import AssetError
from peft_lab.training.tasks import get_task, made
from peft_lab.training.tasks.base import Row, label_scores, same_text
from peft_lab.training.tasks.made import plain_text, read_ratings
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


@pytest.mark.weights
def test_variants_of_one_tweet_stay_together() -> None:
    splits = get_task("tweets").load()
    text = "yeah my head hurts gravity is such a damn bitch"
    variants = [[row for row in part if same_text(row.text) == text] for part in (splits.train, splits.test)]
    assert sorted(map(len, variants)) == [0, 6]


@pytest.mark.weights
def test_movie_sentences_are_decoded() -> None:
    splits = get_task("sentiment").load()
    text = "\n".join(row.text for row in (*splits.train, *splits.test))
    assert len(splits.test) >= 800
    assert "clichés" in text and "Almodóvar" in text
    assert "Ã" not in text and "\ufffd" not in text and "&amp;" not in text and "\r" not in text


def test_neutral_is_left_out_and_the_limits_are_open(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(
        "1\t0.5\tmild\r\n2\t-0.5\tmild too\r\n3\t0.51\tgood\u2028one\r\n4\t-3\tcaf\u00e9 bad\r\n\r\n".encode()
    )
    assert read_ratings(file) == [Row("good\u2028one", "positive"), Row("caf\u00e9 bad", "negative")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\t2.0\tfine\n2\tgood\ttext\n", "line 2"),
        (b"1\t2.0\n", "line 1"),
        (b"1\t2.0\ta\tb\n", "line 1"),
        ("1\t2.0\tcaf\u00e9\n".encode("latin-1"), "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "movies.txt"
    file.write_bytes(content)
    with pytest.raises(AssetError, match=f"movies.txt.*{message}"):
        read_ratings(file)


def test_a_missing_file_is_an_asset_error(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"none\.txt"):
        read_ratings(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("text", "plain"),
    [("Lovely &amp; Amazing ", "Lovely & Amazing"), ("A.T.&amp;amp;T.", "A.T.&T."), ("I &lt;3 u", "I <3 u")],
)
def test_plain_text(text: str, plain: str) -> None:
    assert plain_text(text) == plain


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
