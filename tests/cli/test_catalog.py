"""``methods``, ``models`` and ``fetch`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab.core import disk
from peft_lab.methods import all_methods
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import known_models
from peft_lab.training.tasks import all_tasks
from tests.cli.conftest import Run


def test_methods_lists_all_with_their_knobs(run: Run) -> None:
    rows = run("methods", "--json").document
    assert [row["slug"] for row in rows] == list(all_methods())
    for row in rows:
        assert set(row) == {"slug", "title", "knobs", "supports", "paper"}
        assert row["supports"]
        for knob in row["knobs"]:
            assert set(knob) == {"name", "kind", "default", "min", "max", "choices", "help"}
            assert knob["help"]
    prefix = next(row for row in rows if row["slug"] == "prefix")
    assert "encoder" not in prefix["supports"]


def test_defaults_follow_the_model(run: Run) -> None:
    def targets(*arguments: str) -> object:
        lora = next(row for row in run("methods", "--json", *arguments).document if row["slug"] == "lora")
        return next(knob["default"] for knob in lora["knobs"] if knob["name"] == "target_modules")

    assert targets() is None
    assert targets("--model", "gpt2") == ["c_attn"]
    assert targets("--model", "bert-base") == ["query", "value"]


def test_models_lists_the_catalogue(run: Run) -> None:
    rows = run("models", "--json").document
    assert [row["name"] for row in rows] == list(known_models())
    assert {row["kind"] for row in rows} == {"causal-lm", "encoder", "seq2seq", "vision"}
    assert {row["name"] for row in rows if row["live"]} == {
        "smollm2-135m",
        "minilm-l6",
        "flan-t5-small",
        "dinov2-small",
    }
    assert all(set(row) == {"name", "kind", "live", "parameters", "revision", "source"} for row in rows)


@pytest.mark.slow
@pytest.mark.weights
def test_a_second_fetch_only_hashes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "download", None)
    rows = run("fetch", "--json").document
    assert [row["name"] for row in rows] == list(assets.ASSETS)
    for row in rows:
        assert set(row) == {"name", "path", "bytes", "sha256", "seconds"}
        assert row["sha256"] == assets.ASSETS[row["name"]].sha256
        assert row["seconds"] < 30  # half a second on a quiet machine
    (one,) = run("fetch", "minilm-l6", "--json").document
    assert one["name"] == "minilm-l6"


def test_fetch_draws_its_progress_on_stderr(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(names: object, progress: assets.Progress) -> list[assets.FetchResult]:
        progress("minilm-l6", 0.5)
        progress("minilm-l6", 1.0)
        return [assets.FetchResult("minilm-l6", disk.home(), 1, "0" * 64, 0.1)]

    monkeypatch.setattr(assets, "fetch", slow)
    done = run("fetch", "minilm-l6", "--json")
    assert done.document[0]["bytes"] == 1
    title = assets.ASSETS["minilm-l6"].title
    assert done.stderr == f"{title}: started\n{title}: done\n"


@pytest.mark.weights
def test_tasks_with_their_rows(run: Run) -> None:
    rows = run("tasks", "--json").document
    assert [row["name"] for row in rows] == [task.name for task in all_tasks()]
    for row, task in zip(rows, all_tasks(), strict=True):
        assert set(row) == {"name", "kind", "rows", "metric", "source", "license"}
        assert row["rows"] == task.rows()


def test_tasks_whose_data_is_missing_say_why(run: Run, own_home: Path) -> None:
    done = run("tasks", "--json")
    missing = [row["name"] for row in done.document if row["rows"] is None]
    assert missing == [task.name for task in all_tasks() if task.kind == "classification"]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == missing
    assert "peft_lab fetch" in done.stderr
