"""``--set``, ``--method`` and ``--adapter-config``: every text becomes a checked value or one clear sentence."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.cli.options import (
    choose_methods,
    parse_sets,
    read_adapter_config,
    split_assignment,
    split_slugs,
)
from peft_lab.core import disk
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import Knob
from peft_lab.studies.sweeps.plan import read_sweep
from tests.prose import facts

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


def test_an_unknown_knob_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="'lora_alpha'"):
        parse_sets(["lora_alhpa=3"], [get_method("lora")])


def test_a_knob_set_twice_is_no_guess() -> None:
    with pytest.raises(BadInput, match="twice"):
        parse_sets(["target_modules=q_proj", "target_modules=v_proj"], [get_method("lora")])


def test_with_several_methods_a_knob_goes_to_those_that_have_it() -> None:
    methods = [get_method("lora"), get_method("full")]
    assert parse_sets(["r=4"], methods) == {"lora": {"r": 4}, "full": {}}
    with pytest.raises(UnknownName):
        parse_sets(["bottleneck=4"], methods)


def test_a_method_without_knobs_says_so() -> None:
    with pytest.raises(BadInput, match="has no knobs"):
        parse_sets(["r=4"], [get_method("full")])


@given(st.lists(st.lists(st.sampled_from(sorted(all_methods())), min_size=1), min_size=1))
def test_methods_may_be_repeated_or_listed(groups: list[list[str]]) -> None:
    flat = [slug for group in groups for slug in group]
    chosen = choose_methods([", ".join(group) for group in groups])
    assert [method.slug for method in chosen] == list(dict.fromkeys(flat))


def test_no_method_in_the_option_is_an_error() -> None:
    assert split_slugs([",", " "]) == []
    with pytest.raises(BadInput, match="has no method"):
        choose_methods([","])


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


def test_a_missing_adapter_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        read_adapter_config(tmp_path / "nowhere.json")


def test_an_adapter_folder_will_do(tmp_path: Path) -> None:
    content = {"peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text("\ufeff" + json.dumps(content), "utf-8")
    assert read_adapter_config(tmp_path).content == content


def endless(path: Path) -> Path:
    """A pipe out of which comes more than any reader here takes of a text, as of a device whose size is 0."""
    os.mkfifo(path)

    def write() -> None:
        with suppress(BrokenPipeError), path.open("wb") as file:
            for _ in range(70):
                file.write(b" " * 1_000_000)

    threading.Thread(target=write, daemon=True).start()
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("read", [read_adapter_config, read_sweep, lambda path: disk.take(path, 1 << 26)])
def test_what_has_no_end_is_not_read_to_it(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(BadInput, match=facts("endless", "too large", "MB")):
        read(endless(tmp_path / "endless"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=('{"peft_type": "LORA"}',), daemon=True).start()
    assert read_adapter_config(pipe).content == {"peft_type": "LORA"}
