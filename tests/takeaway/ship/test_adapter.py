"""An adapter is read by its header, from a run, a folder, a zip and an upload; what cannot be read is refused."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from peft_lab.core.errors import BadInput
from peft_lab.takeaway.ship import adapter
from peft_lab.takeaway.ship.adapter import CONFIG, WEIGHTS, from_files, read, read_header, read_tensors

TENSORS: dict[str, Any] = {
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((4, 8), np.float32),
    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": np.zeros((8, 4), np.float16),
}
FILES = {
    CONFIG: json.dumps({"peft_type": "LORA", "r": 4, "base_model_name_or_path": "some/base"}).encode(),
    WEIGHTS: save(TENSORS),
    "README.md": b"# a card",
}


def packed(prefix: str = "") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(prefix + name, content)
    return made.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    place.mkdir()
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    (tmp_path / "mine.zip").write_bytes(packed("inner/"))
    return place


@pytest.mark.parametrize("way", ["folder", "zip", "files", "uploaded zip"])
def test_each_way_gives_the_same_adapter(way: str, folder: Path) -> None:
    found = {
        "folder": lambda: read(folder),
        "zip": lambda: read(folder.with_suffix(".zip")),
        "files": lambda: from_files("mine", FILES),
        "uploaded zip": lambda: from_files("mine", {"mine.zip": packed()}),
    }[way]()
    assert (found.type, found.base, found.config["r"]) == ("LORA", "some/base", 4)
    assert {name: (each.shape, each.dtype) for name, each in found.tensors.items()} == dict(
        zip(TENSORS, [((4, 8), "F32"), ((8, 4), "F16")], strict=True)
    )
    assert found.take("README.md") == FILES["README.md"] and found.take(WEIGHTS) == FILES[WEIGHTS]
    assert (found.folder is not None) == (way == "folder")


def test_the_header_says_what_the_whole_file_says() -> None:
    ranged, plain = read_tensors("x", FILES[WEIGHTS]), from_files("x", FILES).tensors
    assert {key: (each.shape, each.dtype) for key, each in ranged.items()} == {
        key: (each.shape, each.dtype) for key, each in plain.items()
    }


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04.",
        FILES[WEIGHTS][:-3],
        (2**60).to_bytes(8, "little") + b"{}",
        (9).to_bytes(8, "little") + b'["a", 12]',
        (13).to_bytes(8, "little") + b'{"x": {"a":1}',
    ],
)
def test_a_damaged_header_is_refused(content: bytes) -> None:
    with pytest.raises(BadInput, match="damaged safetensors file"):
        read_header("x", io.BytesIO(content))


def test_what_is_no_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(BadInput, match="is a pickle"):
        read(folder)
    (folder / "adapter_model.bin").rename(folder / WEIGHTS)
    (folder / CONFIG).unlink()
    assert read(folder).type == ""
    (folder / CONFIG).write_text("[1]")
    with pytest.raises(BadInput, match="no JSON object"):
        read(folder)
    (tmp_path / "torn.zip").write_bytes(packed()[:-40])
    with pytest.raises(BadInput, match="zip file"):
        read(tmp_path / "torn.zip")
    with pytest.raises(BadInput, match="neither a run"):
        read("nothing of that name")


def test_a_zip_member_larger_than_allowed_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = from_files("mine", {"mine.zip": packed()})
    monkeypatch.setattr(adapter, "LARGEST_TEXT", 5)
    with pytest.raises(BadInput, match="too large"):
        found.take("README.md")


def test_in_a_class_no_path_of_the_server_can_be_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFT_LAB_CLASS", "1")
    for name in (folder, folder.with_suffix(".zip"), "owner/name"):
        with pytest.raises(BadInput, match="neither a run"):
            read(name)
