"""Real photographs through the path of one's own images: a folder of them trains, and the script repeats it.

The two that scikit-learn brings along (CC BY 2.0, danielbuechele and vultilion) in tiles: of which photograph is one?
That shows that photographs are read, resized, learned from and scored. It does not show that the model would know
another temple or flower: tiles that are learned from and tiles that are held out are neighbours in one photograph, and
without any model the tile whose colours are nearest names the photograph of nearly all, as the last test counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from peft_lab.runs.spec import RunRequest
from tests.takeaway.conftest import finish
from tests.takeaway.test_script import assert_same, carry_out

HIGH, WIDE = 61, 64  # pixels of a tile: 7 by 10 of them in a photograph
LEAST = 0.9


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """A folder for each photograph, its tiles as JPEG files."""
    found = load_sample_images()
    for name, photograph in zip(found.filenames, found.images, strict=True):
        place = tmp_path / "photographs" / Path(name).stem
        place.mkdir(parents=True)
        for row in range(photograph.shape[0] // HIGH):
            for column in range(photograph.shape[1] // WIDE):
                top, left = row * HIGH, column * WIDE
                cut = photograph[top : top + HIGH, left : left + WIDE]
                Image.fromarray(cut).save(place / f"{row}-{column}.jpg", quality=95)
    return tmp_path / "photographs"


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.weights
def test_a_folder_of_photographs_is_learned_and_repeated(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finish(RunRequest("dinov2-small", "bitfit", "own", {}, steps=20, batch=16, own_data=str(tiles)))
    before, after = run.view().before, run.view().after
    assert before is not None and after is not None and after.rows == 28
    assert after.metrics["accuracy"] > LEAST > before.metrics["accuracy"]
    assert after.loss < before.loss / 2
    assert_same(run, carry_out(run, tmp_path, monkeypatch))


def test_what_the_tiles_do_not_show(tiles: Path) -> None:
    """Mean and deviation of a tile's colours, and the nearest other tile by them."""
    colours, photograph = [], []
    for number, place in enumerate(sorted(tiles.iterdir())):
        for file in sorted(place.iterdir()):
            seen = np.asarray(Image.open(file), dtype=float)
            colours.append(np.concatenate([seen.mean(axis=(0, 1)), seen.std(axis=(0, 1))]))
            photograph.append(number)
    assert photograph.count(0) == photograph.count(1) == 70
    apart = np.linalg.norm(np.stack(colours)[:, None] - np.stack(colours), axis=2)
    np.fill_diagonal(apart, np.inf)
    named = np.asarray(photograph)[apart.argmin(axis=1)]
    assert (named == photograph).mean() > LEAST
