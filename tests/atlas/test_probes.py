"""What was asked of PEFT is stored with reasons and versions, and asking again gives the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab.atlas import all_types, entries, get_entry, rows
from tools import probe_atlas
from tools.atlas_probe import cells, picture
from tools.atlas_probe.held import No, hold, want_equal

LEAST_PROBED = 0.95
RESULTS = Path(__file__).parents[2] / "bench/RESULTS.md"


def test_what_is_asked_is_what_is_shown() -> None:
    assert list(cells.CELLS) == list(rows.CAPABILITIES)


def test_almost_every_cell_was_probed() -> None:
    """And the figures of bench/RESULTS.md are those that are stored."""
    values = [rows.probed_value(name, cell) for name in all_types() for cell in rows.CAPABILITIES]
    probed = sum(value is not None for value in values)
    assert probed >= LEAST_PROBED * len(values)
    told = (
        f"{len(all_types())} types by {len(rows.CAPABILITIES)} capabilities are {len(values)} cells: {probed} probed "
        f"({100 * probed / len(values):.1f}%), {values.count(True)} yes and {values.count(False)} no, each no with "
        "its reason."
    )
    assert told in " ".join(RESULTS.read_text("utf-8").split()), told


def test_whatever_is_not_there_has_its_reason() -> None:
    for name in entries():
        for cell in rows.CAPABILITIES:
            reason = rows.why_not(name, cell)
            assert bool(reason) == (rows.probed_value(name, cell) is not True), (name, cell)
            assert not reason or len(reason.split()) >= 4, f"{name}, {cell}: '{reason}' is no sentence"
    assert set(rows.probed_versions()) == set(probe_atlas.PACKAGES)


def test_a_picture_says_how_large_it_is() -> None:
    drawn = {name: rows.probed(name)["picture"] for name in all_types()}
    with_entries = {name: found for name, found in drawn.items() if "entries" in found}
    assert len(with_entries) > 30
    for name, found in drawn.items():
        if name not in with_entries:
            assert found["why"], name
            continue
        assert len(found["entries"]) == found["rows"] * found["columns"]
        assert set(found["entries"]) <= set(picture.LEVELS)
    assert with_entries["lora"]["rank"] == with_entries["lora"]["settings"]["r"]
    assert with_entries["supertuning"]["zeros"] == pytest.approx(0.95, abs=0.01)


def test_the_cost_of_a_step_is_stored_for_every_type() -> None:
    for name in all_types():
        assert rows.step_cost(name) is not None and not rows.cost_refusal(name), name
    lora = rows.step_cost("lora")
    assert lora is not None and lora.low < lora.seconds < lora.high
    assert 6e9 < lora.peak_bytes < 24e9  # the weights alone are 6.4 GB
    assert rows.simulated_cost("lora").peak_bytes == lora.peak_bytes
    assert rows.step_cost("arrow") is None and rows.cost_refusal("arrow"), (
        "a variant that starts from trained adapters"
    )


@pytest.mark.rest
@pytest.mark.parametrize("name", ["cpt", "xlora"])
def test_what_needs_a_text_or_adapters_is_simulated_with_stand_ins(name: str) -> None:
    kept = rows.step_cost(name)
    assert kept is not None
    again = rows.simulated_cost(name)
    assert again.peak_bytes == kept.peak_bytes and again.seconds == pytest.approx(kept.seconds)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("lora", "merges"),
        ("lora", "mixed_batch"),
        ("vera", "mixed_batch"),
        ("rslora", "combines"),
        ("prompt_tuning", "several"),
        ("prefix_tuning", "generates"),
        ("p_tuning", "generates"),
        ("lora", "on_experts"),
        ("poly", "merges"),
        ("vera", "exports"),
        ("xlora", "exports"),
    ],
)
def test_asking_again_gives_the_stored_answer(name: str, cell: str) -> None:
    assert cells.run(name, cell)["value"] == rows.probed_value(name, cell)


def test_a_wrong_adapter_is_found() -> None:
    """The probe can say no: a merge that forgets the scale is one."""
    held = hold(get_entry("lora"))
    wanted = held.logits()
    for module in held.model.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling["default"] *= 2
    with pytest.raises(No, match="off by"):
        want_equal(held.logits(), wanted, "scaled")


def test_answers_are_stored_and_differences_told(tmp_path: Path) -> None:
    file = tmp_path / "probed.json"
    probe_atlas.keep({"peft": "1"}, "lora", "merges", {"value": True, "why": ""}, file)
    before = probe_atlas.stored(file)
    probe_atlas.keep({"peft": "1"}, "lora", "merges", {"value": False, "why": "off"}, file)
    after = probe_atlas.stored(file)
    assert probe_atlas.differences(before["found"], after["found"]) == ["lora.merges: True -> False off"]
    assert probe_atlas.differences(after["found"], after["found"]) == []
