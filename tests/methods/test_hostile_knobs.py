"""A sample of the random settings that bench/faults tries: an answer or a sentence."""

from __future__ import annotations

from bench.faults.campaigns import knobs


def test_any_settings_on_any_model_are_answered() -> None:
    for what, found in knobs.cases(400, seed=7):
        assert found.fine, f"{what}: {found.told}\n{found.traceback}"
