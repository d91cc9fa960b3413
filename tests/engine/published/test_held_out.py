"""The runs held out of every fit: whole, in two halves by a fixed rule, and none that was used before."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.sharded_published import published_sharded
from peft_lab.engine import published
from peft_lab.engine.timing.estimate import others

FOLDER = Path(__file__).parents[3] / "bench" / "held_out"
RUNS: list[dict[str, Any]] = [
    json.loads(line) for line in (FOLDER / "published.jsonl").read_text("utf-8").splitlines()
]
WORDS = ("name", "address", "place", "tool", "model", "method", "dtype", "optimizer", "loss", "sharding")
FIELDS = {
    *WORDS, "split", "version", "values", "quantization", "batch", "seq", "rows", "accumulate", "checkpointing",
    "attention", "compiled", "devices", "offload", "gpu", "phase", "needs", "unstated", "figures", "note",
}  # fmt: skip
MEMORY = {"allocated", "active", "reserved", "driver", "unstated memory"}
SPEED = {"seconds a step", "tokens a second"}
BYTES = {"bytes": 1, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


def test_every_run_has_its_fields() -> None:
    for run in RUNS:
        name = run["name"]
        assert run.keys() == FIELDS, name
        assert all(isinstance(run[word], str) and run[word] for word in WORDS), name
        assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/blob/[0-9a-f]{40}/\S+", run["address"]), (
            name
        )
        assert run["batch"] > 0 and run["devices"] > 0 and run["accumulate"] > 0, name
        assert run["rows"] in {"equal", "packed", "unequal"} and run["phase"] in {"training", "load"}, name
        assert (run["devices"] > 1) or run["sharding"] in {"none", "zero2"}, name
        if run["version"] is None:
            assert "version of the tool" in run["unstated"], name
        if run["gpu"] is None:
            assert "GPU" in run["unstated"], name
        if run["seq"] is None:
            assert run["phase"] == "load" or "lengths of the rows" in run["unstated"], name


def test_every_figure_is_what_is_printed_in_its_unit() -> None:
    for run in RUNS:
        kinds = [figure["kind"] for figure in run["figures"]]
        assert kinds and len(set(kinds)) == len(kinds) and set(kinds) <= MEMORY | SPEED, run["name"]
        for figure in run["figures"]:
            assert 0 < figure["low"] <= figure["high"], run["name"]
            if figure["kind"] in MEMORY:
                exact = figure["printed"] * BYTES[figure["unit"]]
                assert figure["low"] == pytest.approx(exact, rel=1e-6), run["name"]
                assert figure["high"] in (figure["low"], round(figure["printed"] * 2**30)), run["name"]


def test_no_run_stands_twice() -> None:
    assert [key for key, count in Counter(run["name"] for run in RUNS).items() if count > 1] == []
    told = Counter((run["address"], run["place"], run["name"]) for run in RUNS)
    assert max(told.values()) == 1


def test_the_half_of_a_run_follows_from_its_name() -> None:
    """So nobody chooses what is apart."""
    for run in RUNS:
        first = hashlib.sha256(f"{run['address']}#{run['name']}".encode()).digest()[0]
        assert run["split"] == ("apart" if first % 2 else "open"), run["name"]
    apart = sum(run["split"] == "apart" for run in RUNS)
    assert 0.4 < apart / len(RUNS) < 0.6


def test_every_kind_of_run_is_held_out() -> None:
    assert sum(len(run["figures"]) for run in RUNS) >= 60
    kinds = Counter(figure["kind"] for run in RUNS for figure in run["figures"])
    assert kinds.keys() == MEMORY | SPEED
    for half in ("open", "apart"):
        these = [run for run in RUNS if run["split"] == half]
        assert {"full", "lora", "qlora"} <= {run["method"] for run in these}
        assert any(run["compiled"] for run in these) and any(run["devices"] > 1 for run in these)
        assert {run["rows"] for run in these} == {"equal", "packed", "unequal"}


def test_nothing_that_was_used_before_is_held_out() -> None:
    """By file and figure, since the same page may print others; LoRA with its embeddings trained is another run."""
    names = {run["name"] for run in RUNS}
    assert not any(f"PEFT {name}, L40S" in names for name in published.rows())
    for row in published_sharded():
        held = {figure["low"] for run in _of(row) for figure in run["figures"]}
        assert not held & set(row["published"]), row["name"]
    for row in others():
        for run in _of(row):
            alike = all(run[key] == row[key] for key in ("method", "batch", "seq", "devices"))
            if alike and "modules_to_save" not in run["values"]:
                expected = pytest.approx(row["seconds"] / row["steps"], rel=1e-3)
                assert expected not in _seconds(run), (row["name"], run["name"])


def _of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of the file that a row that was used is from."""
    return [run for run in RUNS if _file(run["address"]) == _file(row["address"])]


def _file(address: str) -> str:
    return re.sub(r"/blob/[^/]+/", "/", address)


def _seconds(run: dict[str, Any]) -> list[float]:
    """Of a microbatch, by the figures of speed."""
    found = {figure["kind"]: figure["low"] for figure in run["figures"]}
    tokens = found.get("tokens a second")
    return [
        *([found["seconds a step"]] if "seconds a step" in found else []),
        *([run["batch"] * run["seq"] / tokens] if tokens else []),
    ]
