"""The published rows on axes, by method, and as settings of this lab."""

from __future__ import annotations

import pytest

from peft_lab.engine import published
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from peft_lab.studies.compare import results, shipped

WANTED = {"metric_mean", "trainable", "stored_bytes", "peak_bytes", "forgetting_change"}


def test_any_two_figures_of_both_benchmarks_are_axes() -> None:
    language, pictures = (set(shipped.published_axes(name)) for name in published.BENCHMARKS)
    assert language == WANTED | {"seconds", "tokens_per_second"}
    assert pictures == WANTED | {"step_seconds"}
    for name in published.BENCHMARKS:
        axes = shipped.published_axes(name)
        assert all(axis.source == "cited" for axis in axes.values())
        for x in axes.values():
            for y in axes.values():
                assert x is y or results.pareto_front(shipped.published_points(name), x, y)


def test_the_front_is_wanted_at_both_ends() -> None:
    rows = shipped.published_points()
    by_title = {row["method"]: row for row in rows}
    axes = shipped.published_axes()
    front = results.pareto_front(rows, axes["tokens_per_second"], axes["metric_mean"])
    assert max(rows, key=lambda row: row["tokens_per_second"])["method"] == front[0]
    best = max(row["metric_mean"] for row in rows)
    assert by_title[front[-1]]["metric_mean"] == best and len(front) < len(rows)


def test_best_against_other_settings_of_a_method() -> None:
    families = shipped.families()
    shown = {kind: [round(row.accuracy, 3) for row in found] for kind, found in families.items()}
    assert shown["prefixtuning"] == [0.416, 0.358, 0.186]
    assert (shown["ia3"][0], shown["ia3"][-1]) == (0.455, 0.311)
    assert "ptuning" in shipped.several_published() and "beft" not in shipped.several_published()
    told = [shipped.published_setting(row, families["prefixtuning"]) for row in families["prefixtuning"]]
    assert len(set(told)) == 3
    assert "num_virtual_tokens 50" in told[0] and "learning rate 0.005" in told[0] and "a text" in told[0]


def test_only_what_differs_among_the_settings_is_told() -> None:
    """A row alone has nothing to be told apart by, not even an unusual optimizer."""
    for row in published.rows().values():
        assert (
            shipped.published_setting(row, [row]).replace("starts from a text's keys and values", "–") == "–"
        )
    lora = {row.title: row for row in shipped.families()["lora"]}
    plain, scaled = lora["lora, rank64"], lora["lora, rank64-rslora"]
    assert "use_rslora" in shipped.published_setting(scaled, [plain, scaled])
    assert "use_rslora" not in shipped.published_setting(plain, [plain, scaled])
    frozen = next(row for row in lora.values() if row.optimizer != "AdamW")
    assert f"optimizer {frozen.optimizer}" in shipped.published_setting(frozen, [plain, frozen])
    assert "optimizer" not in shipped.published_setting(plain, [plain, frozen])


def test_targets_at_an_equal_budget() -> None:
    lora = {row.title: row for row in shipped.families()["lora"]}
    small, large = shipped.budgets(list(lora.values()))
    assert [round(lora[f"lora, {name}"].accuracy, 3) for name in ("rank10-target-mlp", "rank32", "rank64-rslora")] == [
        0.494, 0.478, 0.513,
    ]  # fmt: skip
    assert {"lora, rank10-target-mlp", "lora, rank32"} <= {row.title for row in small}
    assert [row.title for row in large] == ["lora, rank64-rslora", "lora, rank64"]
    assert "target_modules down_proj gate_proj up_proj" in shipped.published_setting(small[0], small)
    assert "target_modules q_proj v_proj" in shipped.published_setting(lora["lora, rank32"], small)


@pytest.mark.parametrize("name", published.rows())
def test_what_opens_on_a_methods_page_is_the_same_setting(name: str) -> None:
    row = published.rows()[name]
    found = shipped.lab_page(row)
    opens = row.kind in ("lora", "ia3", "prefixtuning", "prompt_tuning", "ptuning")
    # the lab has neither BD-LoRA nor MiCA, and LoRA-FA is an optimizer
    assert (found is not None) == (opens and not name.endswith(("bdlora", "mica", "lorafa")))
    if found is not None:
        spec, shape = get_method(found[0]), get_model(published.MODEL).shape
        values = spec.require(
            shape, {key: spec.knob(key).parse(spec_text(value)) for key, value in found[1].items()}
        )
        assert spec.formula(shape, values).trainable == row.trainable


def spec_text(value: object) -> str:
    """As it stands in an address."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).removesuffix(".0")
