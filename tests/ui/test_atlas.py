"""The page Atlas without a browser: addresses, filters, details."""

from __future__ import annotations

import time

from peft_lab.atlas import entries, rows
from peft_lab.ui.atlas import list
from peft_lab.ui.atlas.list import ALL, matching
from tests.ui.test_choose import opened, told
from tests.waits import SECONDS


def test_one_type_in_full() -> None:
    app = opened("atlas", type="vera", model="smollm2-135m")
    until = time.monotonic() + SECONDS
    while "✓ equal" not in told(app) and time.monotonic() < until:  # a browser draws the page again by itself
        time.sleep(0.5)
        app.run()
    shown = told(app)
    assert "## VeRA" in shown
    assert "✓ equal" in shown and "badge[counted]" in shown
    assert "arxiv.org/abs/2310.11454" in shown
    assert "## LoRA" not in shown


def test_two_types_side_by_side() -> None:
    shown = told(opened("atlas", type="xlora", beside="dora", model="smollm2-135m"))
    assert "## X-LoRA" in shown and "## DoRA" in shown
    assert shown.count("no script") == 1, "X-LoRA's, and not DoRA's"


def test_an_address_that_names_nothing_is_told() -> None:
    shown = told(opened("atlas", type="lorra", can="flies"))
    assert "lorra" in shown
    assert "flies" in shown
    assert "## LoRA" in shown


def test_filters() -> None:
    assert len(matching(ALL, "", ())) == len(entries())
    assert {entry.name for entry in matching(ALL, "householder", ())} == {"hra"}
    able = matching("inputs", "", ("merges",))
    assert able == []
    both = {entry.name for entry in matching(ALL, "", ("with_ddp", "exports"))}
    assert "lora" in both and not both & {"shadow", "lily", "prompt_tuning"}
    for entry in matching(ALL, "", ("merges", "mixed_batch")):
        assert rows.probed_value(entry.name, "merges") and rows.probed_value(entry.name, "mixed_batch")


def test_the_family_tree_has_every_entry_once_below_its_parent() -> None:
    drawn = list.tree_drawing()
    for name in entries():
        assert drawn.count(f'data-name="{name}"') == 1
    vera, randlora = (drawn.index(f'data-name="{name}"') for name in ("vera", "randlora"))
    between = drawn[vera:randlora]
    assert between.count("<ul>") > between.count("</ul>"), "RandLoRA stands inside VeRA's list"
    assert any("Family tree" in tree.label for tree in opened("atlas").expander)
