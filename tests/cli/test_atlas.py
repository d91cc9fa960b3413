"""``atlas`` on the command line."""

from __future__ import annotations

import json

import pytest

from peft_lab.atlas import probes
from tests.cli.conftest import Run


def test_one_type(run: Run) -> None:
    result = run("atlas", "vera", "--model", "smollm2-135m", "--json")
    assert result.status == 0
    [row] = json.loads(result.stdout)
    assert (row["type"], row["family"], row["parent"]) == ("VERA", "shared", "LORA")
    assert row["count"]["trainable"] == row["count"]["formula"] == 30 * (256 + 576 + 256 + 192)
    assert set(row["capabilities"]) == set(probes.CAPABILITIES)
    assert all(row["why"][name] for name, value in row["capabilities"].items() if not value)
    assert row["published"][0]["experiment"].startswith("vera")


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
    assert "Did you mean 'vera'?" in result.stderr
