"""Values and files of options: every text becomes a checked value, every path is read, or one clear sentence."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.cli import start
from peft_lab.cli.options import (
    parse_sets,
    read_adapter_config,
    split_assignment,
)
from peft_lab.core import disk, journal
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import Knob
from tests.cli.conftest import Run

KNOBS = [(method, knob) for method in all_methods().values() for knob in method.knobs]
MODULE_NAMES = st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,8})?", fullmatch=True)


def texts_of(knob: Knob) -> st.SearchStrategy[tuple[str, object]]:
    """Texts that a knob takes, each with the value it stands for."""
    if knob.kind == "bool":
        return st.sampled_from(
            [("true", True), ("True", True), (" yes ", True), ("0", False), ("off", False)]
        )
    if knob.kind == "choice":
        return st.sampled_from(knob.choices).map(lambda choice: (choice, choice))
    if knob.kind == "modules":
        names = st.lists(MODULE_NAMES, min_size=1, max_size=4, unique=True)
        return names.map(lambda chosen: (",".join(chosen), tuple(chosen)))
    if knob.kind == "int":
        numbers = st.integers(int(knob.min or 0), int(knob.max if knob.max is not None else 10**6))
        return numbers.map(lambda number: (str(number), number))
    if knob.kind == "float":
        floats = st.floats(knob.min, knob.max, allow_nan=False, allow_infinity=False)
        return floats.map(lambda number: (repr(number), number))
    plain = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=20)
    return plain.map(lambda text: (text, text.strip()))


@given(st.data())
def test_a_value_survives_its_own_text(data: st.DataObject) -> None:
    method, knob = data.draw(st.sampled_from(KNOBS), label="knob")
    text, value = data.draw(texts_of(knob), label="text")
    assert parse_sets([f"{knob.name}={text}"], [method]) == {method.slug: {knob.name: value}}


@given(st.sampled_from(KNOBS), st.text(max_size=30))
def test_any_text_is_a_checked_value_or_refused_in_one_sentence(
    place: tuple[object, Knob], text: str
) -> None:
    method, knob = place
    try:
        parsed = parse_sets([f"{knob.name}={text}"], [get_method(method.slug)])  # type: ignore[attr-defined]
    except BadInput as refusal:
        assert knob.label in str(refusal)
        assert refusal.field == knob.name
    else:
        value = parsed[method.slug][knob.name]  # type: ignore[attr-defined]
        assert knob.check(value) == value


@pytest.mark.parametrize(
    "number", ["inf", "-inf", "nan", "1e999", "9" * 400, "9" * 5000, "1.5", "-3", "", "0x10"]
)
def test_numbers_that_are_none(number: str) -> None:
    with pytest.raises(BadInput, match="Rank"):
        parse_sets([f"r={number}"], [get_method("lora")])


@given(st.text(max_size=20))
def test_an_assignment_has_a_key_and_an_equals_sign(text: str) -> None:
    key, equals, value = text.partition("=")
    if equals and key.strip():
        assert split_assignment(text) == (key.strip(), value)
    else:
        with pytest.raises(BadInput, match="KEY=VALUE"):
            split_assignment(text)


def test_a_knob_set_twice_is_no_guess() -> None:
    with pytest.raises(BadInput, match="twice"):
        parse_sets(["target_modules=q_proj", "target_modules=v_proj"], [get_method("lora")])


def test_with_several_methods_a_knob_goes_to_those_that_have_it() -> None:
    methods = [get_method("lora"), get_method("full")]
    assert parse_sets(["r=4"], methods) == {"lora": {"r": 4}, "full": {}}
    with pytest.raises(UnknownName):
        parse_sets(["bottleneck=4"], methods)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[1]", "JSON object"),
        (b"\xff\xfe\x00{", "UTF-8"),
        (b"[" * 100_000, "not valid JSON"),
        (b" " * (5 << 20), "too large"),
    ],
)
def test_a_bad_adapter_config_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_bytes(content)
    with pytest.raises(BadInput, match=said) as refusal:
        read_adapter_config(file)
    assert str(file) in str(refusal.value)


def test_an_adapter_folder_will_do(tmp_path: Path) -> None:
    content = {"peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text("\ufeff" + json.dumps(content), "utf-8")
    assert read_adapter_config(tmp_path).content == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=('{"peft_type": "LORA"}',), daemon=True).start()
    assert read_adapter_config(pipe).content == {"peft_type": "LORA"}


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither such devices nor pipes")
MODEL = ("--model", "smollm2-135m")
#: What is given in place of a file; the options below take files, and the last ones folders.
STRANGE = ("device", "pipe", "loop", "socket", "endless", "below a file", "nowhere")
FILES = {
    "sweep": ("sweep",),
    "--adapter-config": ("count", *MODEL, "--adapter-config"),
    "--config": ("diagnose", "--config"),
    "--log": ("diagnose", "--log"),
    "--lengths": ("plan", "--model", "llama-3.2-1b", "--gpu", "h100", "--lengths"),
    "--own": ("train", *MODEL, "--method", "lora", "--own"),
}
FOLDERS = {
    "--start": ("train", *MODEL, "--task", "sentiment", "--start"),
    "--adapter": ("diagnose", "--adapter"),
    "--adopt": ("runs", "--adopt"),
    "--models": ("serve", "--class", "--no-fetch", "--models"),
    "--model": ("count", "--method", "lora", "--model"),
}
OUT = {
    "serve --log": ("serve", "--no-fetch", "--log"),
    "plan --out": ("plan", "--model", "llama-3.2-1b", "--gpu", "h100", "--out"),
}


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """A wait without end is a failure, not a test without end."""

    def late(*_: object) -> NoReturn:
        raise AssertionError("it waits for something that never comes")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is started with what should have been refused."""
    monkeypatch.setattr(start, "_run_child", lambda *_: 99)


def made(what: str, place: Path) -> Path:
    path = place / what.replace(" ", "-")
    if what == "device":
        return Path("/dev/zero")
    if what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif what == "endless":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif what == "folder":
        path.mkdir()
    elif what == "file":
        path.touch()
    elif what == "below a file":
        path.touch()
        return path / "below"
    return path


@pytest.mark.parametrize("option", [*FILES, *FOLDERS])
def test_what_cannot_be_read_is_refused_in_a_sentence(
    option: str, run: Run, own_home: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_WRITER_SECONDS", 0.05)
    for what in (*STRANGE, "folder" if option in FILES else "file"):
        given = made(what, short)
        said = run(*{**FILES, **FOLDERS}[option], str(given)).refused()
        assert given.name in said or (option, what) == ("--own", "endless"), what


@pytest.mark.parametrize("option", OUT)
def test_where_nothing_can_be_written_is_said_first(
    option: str, run: Run, own_home: Path, short: Path
) -> None:
    for what in ("pipe", "loop", "socket", "below a file"):
        given = made(what, short)
        assert given.name in run(*OUT[option], str(given)).refused(), what


def test_what_is_exported_goes_to_a_file_or_to_who_reads(short: Path) -> None:
    for what, number in (("pipe", errno.ENXIO), ("loop", errno.ELOOP), ("folder", errno.EISDIR)):
        with pytest.raises(OSError) as caught:
            disk.write_text(made(what, short), "x")
        assert caught.value.errno == number
    for what in ("nowhere", "file"):
        disk.write_text(made(what, short), "\u00e9")
        disk.write_text(short / what, "\u00e8")
        assert (short / what).read_text("utf-8") == "\u00e8"


def test_one_that_may_not_be_read_is_named(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read all; so the system is asked to refuse."""
    (short / "it").write_text("{}")

    def refuse(path: Path, *_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    for read in (
        lambda path: disk.take(path, 10, "log"), lambda path: disk.folder(path, "log"),
        lambda path: journal.require(str(path), "--log "),
    ):  # fmt: skip
        with pytest.raises(BadInput, match="Permission denied") as caught:
            read(short / "it")
        assert str(short / "it") in str(caught.value) and caught.value.field == "log"


def test_a_pipe_that_somebody_writes_to_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of ``<(command)``, whose command takes longer than a pipe without a writer is waited for."""
    monkeypatch.setattr(disk, "_WRITER_SECONDS", 0.05)
    out, into = os.pipe()

    def write() -> None:
        for word in ("one ", "two"):
            time.sleep(0.1)
            os.write(into, word.encode())
        os.close(into)

    threading.Thread(target=write).start()
    assert disk.read(Path(f"/dev/fd/{out}"), 100) == b"one two"
    os.close(out)


def test_what_fits_and_what_is_a_byte_too_large(short: Path) -> None:
    (short / "it").write_bytes(b"x" * 10)
    assert disk.read(short / "it", 10) == b"x" * 10
    with pytest.raises(OSError) as caught:
        disk.read(short / "it", 9)
    assert caught.value.errno == errno.EFBIG
    assert b"processor" in disk.read(Path("/proc/cpuinfo"), 10**7), "a file that says its size is 0"


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path leaves room for a socket's name, which may have a hundred characters."""
    return tmp_path_factory.mktemp("p")
