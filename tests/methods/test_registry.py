"""The registry: all methods in teaching order, unknown ones told the nearest, and no torch for any of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from peft_lab.core.errors import UnknownName
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import Paper
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


@pytest.mark.parametrize("slug", list(all_methods()))
def test_every_knob_says_what_is_usual_and_what_the_paper_used(slug: str) -> None:
    for knob in get_method(slug).knobs:
        assert knob.usual and knob.paper, knob.name
        assert f"Usual: {knob.usual}." in knob.full_help and f"Paper: {knob.paper}." in knob.full_help


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


def test_paper_reference() -> None:
    paper = Paper("Hu et al.", 2021, "LoRA", "2106.09685", "section 4.1")
    assert str(paper) == "Hu et al. 2021, arXiv:2106.09685, section 4.1"
    assert paper.url == "https://arxiv.org/abs/2106.09685"


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
import peft_lab.methods.counting.count, peft_lab.methods.counting.count, peft_lab.models.meta
import peft_lab.models.meta, peft_lab.models.meta
heavy = {"torch", "transformers", "peft", "bitsandbytes", "streamlit", "numpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
