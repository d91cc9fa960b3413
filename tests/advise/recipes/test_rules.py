"""Every rule says what its source says, and is silent outside its range."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from peft_lab.advise.recipes import rules
from peft_lab.advise.recipes.recipe import evidence, recipe
from peft_lab.advise.recipes.rules import ADAFACTOR, ADAMW, Said, all_rules
from peft_lab.core import references as src
from peft_lab.core.content import ContentError
from peft_lab.models.shapes import ModelKind
from tests.advise.recipes.jobs import asked, every

RULES = {rule.id: rule for rule in all_rules()}
#: rule, method, kind of model, parameters, objective, more -> the figure, or None where the source did not look.
SAYS: list[tuple[str, str, ModelKind, float, str, dict[str, Any], Any]] = [
    ("qlora-rates", "qlora", "causal-lm", 7e9, "sft", {}, 2e-4),
    ("qlora-rates", "qlora", "causal-lm", 7e9, "preference", {}, None),
    ("learns-less-pretraining", "full", "causal-lm", 7e9, "cpt", {}, 3e-5),
    ("learns-less-pretraining", "lora", "causal-lm", 7e9, "sft", {}, None),
    ("tulu-full", "full", "causal-lm", 8e9, "sft", {}, 5e-6),
    ("tulu-full", "full", "causal-lm", 3e9 - 1, "sft", {}, None),
    ("tulu-preference", "full", "causal-lm", 8e9, "preference", {}, 5e-7),
    ("tulu-preference", "lora", "causal-lm", 8e9, "rl", {}, None),
    ("llama-full", "full", "causal-lm", 70e9, "sft", {}, 2e-5),
    ("trl-full", "full", "causal-lm", 14e9, "sft", {}, 2e-5),
    ("trl-full", "full", "causal-lm", 14e9 + 1, "sft", {}, None),
    ("trl-preference", "lora", "causal-lm", 7e9, "preference", {}, 5e-6),
    ("trl-preference", "prompt", "causal-lm", 7e9, "rl", {}, None),
    ("handbook-preference", "qlora", "causal-lm", 7e9, "preference", {}, 5e-6),
    ("grpo-full", "full", "causal-lm", 7e9, "rl", {}, 1e-6),
    ("tinker-lora", "lora", "causal-lm", 8e9, "sft", {}, 3e-4),
    ("tinker-lora", "lora", "causal-lm", 1e9 - 1, "sft", {}, None),
    ("rank-for-preferences", "qlora", "causal-lm", 7e9, "preference", {}, 128),
    ("trl-rank-for-preferences", "lora", "causal-lm", 7e9, "preference", {}, 32),
    ("trl-rank-for-preferences", "lora", "causal-lm", 7e9, "rl", {}, None),
    ("tinker-full", "full", "causal-lm", 8e9, "sft", {}, 3e-5),
    ("lora-paper-decoders", "lora", "causal-lm", 175e9, "sft", {}, 2e-4),
    ("lora-paper-decoders", "lora", "causal-lm", 7e9, "sft", {}, None),
    ("lora-paper-encoders", "lora", "encoder", 125e6, "classification", {}, 5e-4),
    ("lora-paper-encoders", "lora", "encoder", 355e6, "embedding", {}, None),
    ("rslora-rate", "lora", "causal-lm", 7e9, "sft", {"values": {"use_rslora": True}}, 5e-5),
    ("rslora-rate", "lora", "causal-lm", 7e9, "sft", {}, None),
    ("dora-rate", "lora", "causal-lm", 7e9, "sft", {"values": {"use_dora": True}}, 2e-4),
    ("bert-full", "full", "encoder", 1e8, "extraction", {}, 3e-5),
    ("bert-full", "full", "encoder", 1e8, "embedding", {}, None),
    ("t5-full", "full", "seq2seq", 2e8, "sft", {}, 3e-4),
    ("compacter-prompt", "prompt", "seq2seq", 2e8, "classification", {}, 0.3),
    ("trl-prompt", "prompt", "causal-lm", 7e9, "sft", {}, 1e-2),
    ("peft-guide-prompts", "prompt", "causal-lm", 3.5e9, "sft", {}, 3e-2),
    ("peft-guide-prompts", "prompt", "causal-lm", 3.5e9 + 1, "sft", {}, None),
    ("prefix-paper", "prefix", "causal-lm", 8e8, "sft", {"values": {"prefix_projection": True}}, 5e-5),
    ("prefix-paper", "prefix", "causal-lm", 8e8, "sft", {}, None),
    ("ptuning2-scripts", "ptuning", "encoder", 3e8, "classification", {"values": {"version": "v2"}}, 5e-3),
    ("ptuning2-scripts", "ptuning", "encoder", 3e8, "classification", {}, None),
    ("ptuning-knowledge", "ptuning", "causal-lm", 11e9, "sft", {}, 1e-5),
    ("houlsby-adapters", "adapters", "encoder", 3e8, "classification", {}, 3e-4),
    ("llm-adapters", "adapters", "causal-lm", 1e9, "sft", {}, 3e-4),
    ("llm-adapters", "adapters", "causal-lm", 1e9 - 1, "sft", {}, None),
    ("prefix-paper-adapters", "adapters", "causal-lm", 1e9 - 1, "sft", {}, 5e-5),
    ("tfew-ia3", "ia3", "seq2seq", 3e9, "sft", {}, 3e-3),
    ("tfew-ia3", "ia3", "encoder", 3e8, "classification", {}, None),
    ("peft-guide-ia3", "ia3", "seq2seq", 1e9, "sft", {}, 8e-3),
    ("bitfit-glue", "bitfit", "encoder", 1e8, "classification", {}, 1e-3),
    ("bitfit-glue", "bitfit", "causal-lm", 1e8, "sft", {}, None),
    ("retrieval-bitfit", "bitfit", "encoder", 1e8, "embedding", {}, 1e-2),
    ("e5-lora", "lora", "causal-lm", 7e9, "embedding", {}, 1e-4),
    ("unsloth-pretraining", "lora", "causal-lm", 7e9, "cpt", {}, 5e-5),
    ("batch-of-qlora", "qlora", "causal-lm", 13e9, "sft", {}, 16),
    ("many-passes-over-few-rows", "lora", "causal-lm", 7e9, "sft", {"rows": 2_000}, 10),
    ("many-passes-over-few-rows", "lora", "causal-lm", 7e9, "sft", {"rows": 2_001}, None),
    ("two-passes", "lora", "causal-lm", 7e9, "sft", {"rows": 2_001}, 2),
    ("alpha-twice-the-rank", "lora", "causal-lm", 7e9, "sft", {"values": {"r": 64}}, 128),
    ("rank-stabilised", "lora", "causal-lm", 7e9, "sft", {"values": {"r": 63}}, False),
    ("dropout-of-qlora", "qlora", "causal-lm", 13e9, "sft", {}, 0.1),
    ("ratio-of-loraplus", "lora", "causal-lm", 7e9, "sft", {"values": {"loraplus_lr_ratio": 4.0}}, 16.0),
    ("ratio-of-loraplus", "lora", "causal-lm", 7e9, "sft", {}, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "method", "kind", "parameters", "objective", "more", "figure"), SAYS)
def test_a_rule_says_its_figure_within_its_range_only(
    name: str,
    method: str,
    kind: ModelKind,
    parameters: float,
    objective: str,
    more: dict[str, Any],
    figure: Any,
) -> None:
    said = RULES[name].says(asked(method, kind, parameters, objective, **dict(more)))
    if figure is None:
        assert said is None
    else:
        assert said is not None and said.value == (pytest.approx(figure) if figure else figure)


def test_a_recipe_has_rates_of_its_own_optimizer_alone() -> None:
    others = 0
    for one in every():
        if one.rows == 1_000:
            said = recipe(one)["learning_rate"].said
            assert {RULES[evidence.rule].optimizer for evidence in said} <= {ADAMW}
            found = evidence(one, "learning_rate", ADAFACTOR)
            assert all(rule.optimizer == ADAFACTOR for rule, _ in found)
            others += len(found)
    assert others, "T-Few's"


def test_every_rule_speaks_somewhere_and_is_silent_elsewhere() -> None:
    jobs = every()
    for name, rule in RULES.items():
        spoke = [rule.says(one) is not None for one in jobs]
        assert any(spoke), f"{name} never says anything"
        assert not all(spoke) or name == "only-if-it-must", f"{name} has no edge"


def test_what_is_said_lies_in_its_own_band_and_is_positive() -> None:
    for rule in RULES.values():
        for one in every():
            said = rule.says(one)
            if said is None or said.band is None:
                continue
            low, high = said.band
            assert said.allows(said.value) and 0 <= low <= high, (rule.id, one)
            assert rule.field != "learning_rate" or low > 0


def test_lora_takes_ten_times_the_rates_of_all_weights_and_fifteen_in_short_runs() -> None:
    rule = RULES["ten-times-full"]
    for parameters, full in ((8e9, 1e-5), (70e9, 2e-6)):
        said = rule.says(asked("lora", "causal-lm", parameters, "sft"))
        assert said is not None and said.value == pytest.approx(10 * full)
        short = rule.says(asked("lora", "causal-lm", parameters, "sft", rows=99 * 16))
        assert short is not None and short.value == pytest.approx(15 * full)
        edge = rule.says(asked("lora", "causal-lm", parameters, "sft", rows=99 * 16 + 1))
        assert edge == said, "100 steps are no short run"
    assert rule.says(asked("lora", "causal-lm", 8e9, "sft", values={"use_rslora": True})) is None
    assert rule.says(asked("lora", "causal-lm", 8e9, "cpt")) is None, "measured on answers and rewards only"


def test_a_rank_holds_what_there_is_to_learn() -> None:
    """Llama 3.1 8B: rank 1 has "3M parameters" over all weight matrices, the paper says."""
    from peft_lab.advise.recipes.rules import job, per_rank
    from peft_lab.models.catalogue import get_model

    shape = get_model("llama-3.1-8b").shape
    assert per_rank(job("lora", shape, "sft")) == pytest.approx(3e6, rel=0.15)
    ranks = []
    for rows in (1_000, 100_000, 300_000, 10_000_000):
        said = RULES["rank-by-tokens"].says(job("lora", shape, "sft", rows=rows, row_tokens=512))
        assert said is not None
        ranks.append(said.value)
    assert ranks == [16, 32, 64, 256]
    reward = RULES["rank-by-tokens"].says(job("lora", shape, "rl", rows=10_000_000))
    assert reward is not None and reward.band is not None and reward.band[0] == 1
    assert RULES["rank-by-tokens"].says(job("lora", shape, "classification")) is None


def test_sources_are_references_and_rules_quote_them() -> None:
    known = {value for name, value in vars(src).items() if name.isupper() and isinstance(value, str)}
    for rule in RULES.values():
        assert rule.source in known, rule.id
        assert rule.measured
        assert rule.quote, rule.id
        assert not re.search(r"simulat", rule.quote + rule.measured), "a rate is never simulated"


RULE = """\
- id: example
  field: batch
  source: LORA
  measured: GPT-2
  quote: Eight.
  when: {method: low-rank, billions: {most: 3}}
  value: 8
"""


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("low-rank", "lowrank", 6),
        ("most: 3", "atmost: 3", 6),
        ("source: LORA", "source: LORRA", 3),
        ("value: 8", "value: 8\n  best row: lora", 1),
        ("value: 8", "calculate: double_it", 7),
        ("  value: 8\n", "", 1),
    ],
)
def test_a_mistake_in_a_rule_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, line: int
) -> None:
    monkeypatch.setattr(rules, "CONTENT", tmp_path)
    monkeypatch.setattr(rules, "FILES", ("example",))
    file = tmp_path / "rules" / "example.yaml"
    file.parent.mkdir()
    file.write_text(RULE, "utf-8")
    (rule,) = all_rules.__wrapped__()
    assert rule.says(asked("lora", "causal-lm", 3e9, "sft")) == Said(8)
    assert rule.says(asked("lora", "causal-lm", 3e9 + 1, "sft")) is None
    file.write_text(RULE.replace(old, new), "utf-8")
    with pytest.raises(ContentError) as caught:
        all_rules.__wrapped__()
    assert caught.value.line == line
