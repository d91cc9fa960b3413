"""``atlas`` on the command line."""

from __future__ import annotations

import json

import pytest

from peft_lab.atlas import FAMILIES, all_types, rows
from tests.cli.conftest import Run


def test_one_type(run: Run) -> None:
    result = run("atlas", "vera", "--model", "smollm2-135m", "--json")
    assert result.status == 0
    [row] = json.loads(result.stdout)
    assert (row["type"], row["family"], row["parent"]) == ("VERA", "shared", "LORA")
    assert row["count"]["trainable"] == row["count"]["formula"] == 30 * (256 + 576 + 256 + 192)
    assert set(row["capabilities"]) == set(rows.CAPABILITIES)
    assert all(row["why"][name] for name, value in row["capabilities"].items() if not value)
    assert row["published"][0]["experiment"].startswith("vera")


@pytest.mark.slow
@pytest.mark.further
@pytest.mark.rest
def test_every_type_with_all_that_is_known(run: Run) -> None:
    rows = json.loads(run("atlas", "--json").stdout)
    assert [row["type"] for row in rows] == [entry.type for entry in all_types().values()]
    assert len(rows) == 45
    for row in rows:
        name = row["type"]
        assert row["family"] in FAMILIES, name
        assert bool(row["formula"]) == (row["counted"] == "closed form"), name
        assert len(row["trainable"]) == 3, name
        for model, count in row["trainable"].items():
            assert count["trainable"] or count["why"], (name, model)
            assert count.get("equal") is (True if row["formula"] and count["trainable"] else None), (
                name,
                model,
            )
        assert any(count["trainable"] for count in row["trainable"].values()) or name == "XLORA"
        assert len(row["capabilities"]) == 23 and set(row["why"]) >= {
            c for c, v in row["capabilities"].items() if not v
        }
        assert row["simulated"]["model"] == "llama-3.2-3b"
        assert (row["peak_bytes"] and row["step_seconds"]["value"]) or row["simulated"]["why"], name
    with_runs = [row["type"] for row in rows if any(each["published"] for each in (row, *row["variants"]))]
    assert len(with_runs) > 30


@pytest.mark.further
@pytest.mark.slow
def test_a_variant_and_its_type(run: Run) -> None:
    [row] = json.loads(run("atlas", "LoRA", "--model", "smollm2-135m", "--json").stdout)
    assert "rslora" in {each["variant"] for each in row["variants"]}
    [own] = json.loads(run("atlas", "rslora", "--model", "smollm2-135m", "--json").stdout)
    assert own["count"]["config"]["use_rslora"] is True
    assert own["variant"] == "rslora"


def test_a_type_as_a_person_reads_it(run: Run) -> None:
    text = run("atlas", "ia3", "--model", "smollm2-135m").stdout
    assert "diag(l)·W" in text and "✓" in text and "Merges (fp32)" in text


def test_an_unknown_type(run: Run) -> None:
    result = run("atlas", "verra")
    assert result.status == 2
    assert "vera" in result.stderr
