from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from peft_lab.core.errors import AssetError, BadInput
from peft_lab.models.assets import store
from peft_lab.models.assets.fetching import ASSETS, sha256
from peft_lab.models.assets.store import PROVENANCE
from peft_lab.training.tasks import get_task, made

BLANK = ",".join(["0"] * 784)


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


@pytest.mark.weights
def test_an_image_that_is_not_there_is_named() -> None:
    for name in ("5000.png", "../secret.png", "x"):
        with pytest.raises(BadInput, match="digit"):
            list(get_task("digits").pictures([name]))


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"1,2,3"), gzip.compress(f"{BLANK},x".encode())],
    ids=[
        "no gzip",
        "short",
        "no number",
    ],  # not the bytes: the time is in them, and workers must collect alike
)
def test_a_file_that_holds_no_digits_is_refused_in_a_sentence(content: bytes, own_home: Path) -> None:
    asset = ASSETS["digits"]
    folder = own_home / asset.folder
    folder.mkdir(parents=True)
    file = folder / made.DIGITS_FILE
    file.write_bytes(content)
    found = file.stat()
    record = {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": sha256(file)}
    (folder / PROVENANCE).write_text(
        json.dumps({"sha256": asset.sha256, "files": {made.DIGITS_FILE: record}})
    )
    with pytest.raises(AssetError, match="Fetch 'digits' again"):
        get_task("digits").load()
