from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from peft_lab.core import asking
from peft_lab.core.errors import BadInput
from peft_lab.training.tasks import apart, own, pictures

Files = dict[str, bytes]


def image(number: int, kind: str = "PNG", size: tuple[int, int] = (6, 4)) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size, (number * 40 % 256, number % 256, number * 7 % 256)).save(made, kind)
    return made.getvalue()


def good() -> Files:
    return {
        f"animals/{label}/{number}.{'png' if number % 2 else 'jpg'}": image(
            10 * at + number, "PNG" if number % 2 else "JPEG"
        )
        for at, label in enumerate(("cat", "dog"))
        for number in range(6)
    }


def zipped(files: Files) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return made.getvalue()


def laid_out(files: Files, folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def refusal(data: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        own.parse(data, "mine.zip")
    message = str(caught.value)
    assert caught.value.field == "file" and message.endswith(".") and "\n" not in message
    return message


def test_the_class_is_the_folder_and_a_fifth_is_held_out() -> None:
    beside = {"__MACOSX/cat/._1.png": b"x", "animals/readme.txt": b"x", "animals/cat/.hidden.png": b"x"}
    task = own.parse(zipped(good() | beside), "mine.zip")
    assert (task.labels, task.model_kinds, task.metric) == (("cat", "dog"), ("vision",), "accuracy")
    train, test = task.splits.train, task.splits.test
    assert {row.text for row in (*train, *test)} == set(good())
    assert {row.target for row in test} == {"cat", "dog"} and len(test) == 2
    assert all(row.text.split("/")[1] == row.target for row in (*train, *test))


def test_a_folder_is_its_zip_and_gives_its_files(tmp_path: Path) -> None:
    folder = laid_out(good(), tmp_path / "mine")
    task = apart.load_file(folder)
    kept = tmp_path / "data.zip"
    kept.write_bytes(pictures.pack(folder))
    again = apart.load_file(kept)
    assert task.splits == again.splits and task.sha256 == again.sha256
    names = [row.text for row in task.splits.train]
    assert list(task.pictures(names)) == list(again.pictures(names)) == [good()[name] for name in names]
    (folder / names[0]).unlink()
    with pytest.raises(BadInput, match="mine"):
        list(task.pictures(names))


def test_a_class_uploads_zips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = laid_out(good(), tmp_path / "mine")
    monkeypatch.setattr(asking, "class_is_on", lambda: True)
    with pytest.raises(BadInput, match="directory"):
        apart.load_file(folder)


def without(label: str) -> Files:
    return {name: content for name, content in good().items() if f"/{label}/" not in name}


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip": (lambda: b"text", "not a zip archive"),
    "cut off": (lambda: zipped(good())[:-40], "not a zip archive"),
    "nothing in it": (lambda: zipped({"a.txt": b"x"}), "contains no images"),
    "no folders": (lambda: zipped({f"{n}.png": image(n) for n in range(9)}), "'0.png' is in no folder"),
    "one class": (lambda: zipped({f"cat/{n}.png": image(n) for n in range(9)}), "All images are in the folder 'cat'"),
    "few": (lambda: zipped({f"{'ab'[n % 2]}/{n}.png": image(n) for n in range(4)}), "There are 4 different images"),
    "one of a class": (
        lambda: zipped(without("dog") | {"animals/dog/1.png": image(99), "animals/cat/8.png": image(98),
                                         "animals/cat/9.png": image(97)}), "The class 'dog' has one image"),
    "no image": (lambda: zipped(good() | {"animals/cat/9.png": b"GIF89a"}), "is not a PNG or JPEG image"),
    "half an image": (lambda: zipped(good() | {"animals/cat/9.png": image(7, "PNG", (90, 90))[:60]}), "damaged"),
    "two classes": (lambda: zipped(good() | {"animals/dog/9.png": good()["animals/cat/1.png"]}),
                    "are the same image in two classes"),
    "out of it": (lambda: zipped(good() | {"../cat/9.png": image(9)}), "points outside the zip"),
    "alike": (lambda: zipped({**good(), **{f"ca\u200bt/{n}.png": image(70 + n) for n in range(3)}}), "is not accepted"),
    "bomb": (lambda: zipped(good() | {"animals/cat/9.png": image(3, "PNG", (6_000, 4_100))}), "million pixels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_said_in_a_sentence(case: str) -> None:
    make, said = BAD[case]
    assert said in refusal(make())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_zip_is_refused_or_read(data: st.DataObject) -> None:
    content = bytearray(zipped(good()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        task = own.parse(bytes(content), "mine.zip")
    except BadInput as refused:
        assert str(refused).endswith(".")
    else:
        assert task.images
