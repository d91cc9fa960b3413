"""Three domains on one base: each request through its own adapter, of tiny runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_lab.studies import serving


@pytest.mark.weights
def test_the_runs_are_ordinary_ones() -> None:
    for method in serving.METHODS:
        specs = serving.specs(method)
        assert [spec.task for spec in specs.values()] == ["sentiment", "products", "tweets"]
        assert {spec.method for spec in specs.values()} == {method}


def test_what_is_kept_belongs_to_its_runs(own_home: Path) -> None:
    own_home.mkdir()
    runs = {"adapters": {"movies": "a"}, "lora": {"movies": "b"}}
    assert serving.kept(runs) is None
    serving.keep(runs, {"requests": 3})
    assert serving.kept(runs) == {"requests": 3}
    assert serving.kept({**runs, "lora": {"movies": "c"}}) is None
    serving.forget()
    assert serving.kept(runs) is None
    for damaged in ("{", "[" * 100_000, '{"runs": {}}'):
        (own_home / "serving.json").write_text(damaged)
        assert serving.kept({}) is None


@pytest.mark.weights
@pytest.mark.slow
def test_adapters_and_lora_serve_mixed_requests(assets_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of two steps: what is served is what each adapter says alone, and switching moves no weights."""
    from peft_lab.runs import child, store, training
    from peft_lab.runs.spec import RunRequest

    monkeypatch.setattr(serving, "SCORED", 6)
    runs: dict[str, dict[str, str]] = {}
    for method in serving.METHODS:
        for domain, task in serving.DOMAINS.items():
            spec = RunRequest(serving.MODEL, method, task, steps=2, batch=4, eval_rows=0, learning_rate=0.02)
            run = store.create(spec.complete())
            run.log.emit("queued", owner={})
            child.end_run(run, *training.train(run))
            runs.setdefault(method, {})[domain] = run.id
    monkeypatch.setattr(serving, "REQUESTS", 2)
    found = serving.measure_serving(runs)
    assert serving.kept(runs) is not None
    for method in serving.METHODS:
        seen = found["methods"][method]
        assert seen["mixed_difference"] <= 0.02 * seen["max_logit"]
        assert set(seen["accuracy"]) == set(seen["accuracy"]["movies"]) == set(serving.DOMAINS)
        assert seen["stored_bytes"] > 0
    assert found["requests"] == 6 and [row["adapter"] for row in found["examples"][:3]] == list(
        serving.DOMAINS
    )
    serving.forget()
    for ids in runs.values():
        for identity in ids.values():
            store.delete(identity)
