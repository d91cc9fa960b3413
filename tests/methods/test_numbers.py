"""The registry, what it imports, and numbers that depend on the model."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from peft_lab.core.errors import UnknownName
from peft_lab.methods import all_methods, get_method
from peft_lab.models.catalogue import get_model
from tests.prose import facts


def test_all_nine_in_teaching_order() -> None:
    expected = ["full", "lora", "qlora", "prefix", "prompt", "ptuning", "adapters", "ia3", "bitfit"]
    assert [slug for slug in all_methods() if slug in expected] == expected
    assert len({method.order for method in all_methods().values()}) == len(all_methods())


def test_unknown_method_and_knob() -> None:
    with pytest.raises(UnknownName, match="lroa") as caught:
        get_method("lroa")
    assert caught.value.field == "method"
    with pytest.raises(UnknownName, match=facts("LoRA", "rank_")):
        get_method("lora").knob("rank_")


def test_every_methods_spec_is_imported_by_one_module() -> None:
    """What the fork server loads once, so that no run waits for it."""
    script = """
import sys
import peft_lab.methods.every
from peft_lab import methods
missing = [slug for slug in methods.folders() if f"peft_lab.methods.{slug}.spec" not in sys.modules]
sys.exit(f"not imported: {missing}" if missing or len(methods.folders()) < 9 else 0)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_knobs_checks_formulas_and_parts_need_no_torch() -> None:
    script = """
import sys
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import catalogue
for entry in catalogue().values():
    for spec in all_methods().values():
        values = spec.complete(entry.shape, {})
        if not any(p.level == "error" for p in spec.problems(entry.shape, {})):
            spec.formula(entry.shape, values), spec.parts(entry.shape, values), spec.quantization(values)
import peft_lab.methods.counting.count, peft_lab.models.meta
heavy = {"torch", "transformers", "peft", "bitsandbytes", "streamlit", "numpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_deep_prompts_have_rates_of_their_own() -> None:
    """On encoders thirty times those of the encoder's version, elsewhere Prefix Tuning's."""
    method, deep = get_method("ptuning"), {"version": "v2"}
    assert method.learning_rate("encoder", deep) == 3e-2
    assert method.learning_rate("causal-lm", deep) == get_method("prefix").learning_rates["causal-lm"]
    assert method.learning_rate("encoder", {"version": "v1"}) == 2e-3


def test_a_width_that_is_not_given_is_the_models() -> None:
    """The 0 of the tables stands for the model's own: its keys' for a prefix, its inputs' for P-Tuning."""
    shape = get_model("smollm2-135m").shape
    widths = {
        slug: get_method(slug).complete(shape, {})["encoder_hidden_size"] for slug in ("prefix", "ptuning")
    }
    assert widths == {"prefix": 3 * 64, "ptuning": 576}


@pytest.mark.parametrize(
    ("method", "model", "knob", "last_quiet", "first_warned", "words"),
    [
        # r (768 + 768) = 768 * 768 at r = 384
        ("lora", "bert-base", "r", 383, 384, "589,824"),
        ("adapters", "bert-base", "bottleneck", 767, 768, "768"),
    ],
)
def test_a_size_is_warned_of_from_where_it_is_so(
    method: str, model: str, knob: str, last_quiet: int, first_warned: int, words: str
) -> None:
    spec, shape = get_method(method), get_model(model).shape

    def warned(value: int) -> list[Any]:
        return [problem for problem in spec.problems(shape, {knob: value}) if problem.level == "warning"]

    assert not warned(last_quiet)
    (problem,) = warned(first_warned)
    assert problem.field == knob and words in problem.message
