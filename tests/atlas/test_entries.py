"""Every type that PEFT has is declared, within limits, and what is declared fits together."""

from __future__ import annotations

import pytest

from peft_lab.atlas import FAMILIES, all_types, entries, get_entry, lineage, variants
from peft_lab.atlas.base import EACH, OF_MODEL, ONCE, AtlasType
from peft_lab.core.errors import UnknownName


def test_every_type_of_peft_is_declared() -> None:
    """When PEFT gets a type that this misses, declare it in ``peft_lab/atlas/content``."""
    from peft import PeftType

    assert {entry.type for entry in all_types().values()} == {kind.value for kind in PeftType}
    assert len(all_types()) == len(PeftType)


def test_variants_are_settings_that_loraconfig_has() -> None:
    from dataclasses import fields

    from peft import LoraConfig

    known = {field.name for field in fields(LoraConfig)}
    for entry in variants("LORA"):
        assert set(entry.settings) <= known, entry.name


@pytest.mark.parametrize("entry", entries().values(), ids=lambda entry: entry.name)
def test_declarations_hold_together(entry: AtlasType) -> None:
    from dataclasses import fields

    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    assert entry.family in FAMILIES
    assert not entry.parent or entry.parent.lower() in entries()
    assert entry.parent != entry.type or entry.variant
    assert len(entry.knobs) <= 3
    known = {field.name for field in fields(PEFT_TYPE_TO_CONFIG_MAPPING[entry.type])}  # type: ignore[index]
    assert {knob.name for knob in entry.knobs} | set(entry.of_model) | set(entry.settings) <= known
    assert bool(entry.form) == (entry.each is not None or entry.once is not None)
    assert entry.paper.address or "no paper" in entry.paper.cite
    assert entry.paper.checked
    for sentence in (entry.differs, entry.when, *(knob.what for knob in entry.knobs)):
        assert sentence.endswith("."), sentence


def test_every_function_is_named_by_a_type() -> None:
    every = entries().values()
    of_model = [function for entry in every for function in entry.of_model.values()]
    of_model += [entry.stand_in.value for entry in every if entry.stand_in]
    assert {*EACH.values()} == {entry.each for entry in every if entry.each}
    assert {*ONCE.values()} == {entry.once for entry in every if entry.once}
    assert {*OF_MODEL.values()} == {*of_model}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert get_entry(" VeRA ").type == "VERA"
    with pytest.raises(UnknownName, match="'vera'"):
        get_entry("verra")


def test_every_entry_has_its_place_in_the_family_tree() -> None:
    """Each once, under the one that it changes, and no line runs in a circle."""
    placed = [entry.name for children in lineage().values() for entry in children]
    assert sorted(placed) == sorted(entries())

    def reached(name: str) -> set[str]:
        below = lineage().get(name, ())
        return {entry.name for entry in below}.union(*(reached(entry.name) for entry in below))

    assert reached("") == set(entries())
    assert {entry.name for entry in lineage()[""]} == {n for n, each in entries().items() if not each.parent}
