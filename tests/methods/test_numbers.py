"""The registry, and the numbers that methods start from, as pages, README and stored results have them.

What a comparison measured, and what a page says is usual, holds for these. A change here is a decision to be noted.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from peft_lab.core.errors import UnknownName
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import Knob
from peft_lab.methods.shared.virtual_tokens import ROOM
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
import peft_lab.methods.counting.count, peft_lab.methods.counting.count, peft_lab.models.meta
import peft_lab.models.meta, peft_lab.models.meta
heavy = {"torch", "transformers", "peft", "bitsandbytes", "streamlit", "numpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# slug -> learning rates of encoder, causal-lm and seq2seq, and of the head
RATES: dict[str, tuple[float | None, ...]] = {
    "full": (2e-4, 1e-4, 2e-4, None),
    "lora": (4e-3, 2e-3, 2e-3, 2e-2),
    "qlora": (2e-3, 2e-3, 2e-3, 2e-2),
    "prefix": (None, 1e-2, 1e-1, None),
    "prompt": (3e-2, 3e-2, 3.0, 2e-2),
    "ptuning": (2e-3, 2e-3, 1e-2, 2e-2),
    "adapters": (3e-3, 1e-3, 3e-3, None),
    "ia3": (3e-2, 1e-2, 3e-2, None),
    "bitfit": (1e-2, 3e-3, 3e-3, None),
}
# slug, knob -> smallest, default, largest
RANGES: dict[tuple[str, str], tuple[float, float, float]] = {
    ("lora", "r"): (1, 8, 1024),
    ("lora", "lora_alpha"): (1, 16, 1024),
    ("lora", "lora_dropout"): (0.0, 0.0, 0.9),
    ("lora", "loraplus_lr_ratio"): (1.0, 1.0, 64.0),
    ("qlora", "r"): (1, 16, 1024),
    ("qlora", "lora_alpha"): (1, 16, 1024),
    ("qlora", "lora_dropout"): (0.0, 0.0, 0.9),
    ("prefix", "num_virtual_tokens"): (1, 20, 1000),
    ("prefix", "encoder_hidden_size"): (1, 0, 16384),
    ("prompt", "num_virtual_tokens"): (1, 20, 1000),
    ("ptuning", "num_virtual_tokens"): (1, 20, 1000),
    ("ptuning", "encoder_hidden_size"): (1, 0, 16384),
    ("ptuning", "encoder_num_layers"): (1, 2, 8),
    ("ptuning", "encoder_dropout"): (0.0, 0.0, 0.9),
    ("adapters", "bottleneck"): (1, 64, 4096),
    ("adapters", "init_std"): (1e-6, 1e-3, 1.0),
    ("adapters", "scale"): (0.1, 4.0, 16.0),
}
SWITCHES = {
    ("lora", "use_rslora"): False,
    ("lora", "use_dora"): False,
    ("qlora", "load_in_8bit"): False,
    ("qlora", "bnb_4bit_use_double_quant"): True,
    ("prefix", "prefix_projection"): False,
}
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS = (1, 2, 4, 8, 10, 16, 20, 32, 50, 64, 100, 128, 200)
# slug, knob -> what its slider offers
STOPS: dict[tuple[str, str], tuple[float, ...]] = {
    ("lora", "r"): RANKS,
    ("lora", "lora_alpha"): RANKS,
    ("lora", "loraplus_lr_ratio"): (1, 2, 4, 8, 16, 32, 64),
    ("qlora", "r"): RANKS,
    ("qlora", "lora_alpha"): RANKS,
    ("prefix", "num_virtual_tokens"): TOKENS,
    ("prefix", "encoder_hidden_size"): (64, 128, 256, 512, 768, 800, 1024, 2048, 3072, 4096, 8192),
    ("prompt", "num_virtual_tokens"): TOKENS,
    ("ptuning", "num_virtual_tokens"): TOKENS,
    ("ptuning", "encoder_hidden_size"): (64, 128, 256, 384, 512, 768, 1024, 2048, 3072, 4096, 8192),
    ("adapters", "bottleneck"): (1, 2, 4, 8, 16, 32, 48, 64, 128, 256, 512),
    ("adapters", "init_std"): (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1),
    ("adapters", "scale"): (0.5, 1, 2, 4, 8),
}
ADVANCED = {
    ("lora", "init_lora_weights"), ("lora", "loraplus_lr_ratio"), ("lora", "rank_pattern"), ("lora", "bias"),
    ("qlora", "bnb_4bit_compute_dtype"),
    ("prefix", "init_weights"), ("prefix", "init_text"),
    ("ptuning", "encoder_num_layers"), ("ptuning", "encoder_dropout"), ("ptuning", "init_weights"),
    ("ptuning", "init_text"),
    ("adapters", "init_std"), ("adapters", "scale"),
}  # fmt: skip
MERGED = {"lora", "qlora", "ia3"}
ADDS_NOTHING = {"full", "bitfit"}


def test_every_method_is_in_the_tables() -> None:
    assert list(RATES) == list(all_methods()), "in teaching order"
    numbers = {
        (slug, k.name) for slug, m in all_methods().items() for k in m.knobs if k.kind in ("int", "float")
    }
    assert set(RANGES) <= numbers


@pytest.mark.parametrize("slug", RATES)
def test_rates(slug: str) -> None:
    method = get_method(slug)
    kinds = ("encoder", "causal-lm", "seq2seq")
    assert (*(method.learning_rates.get(kind) for kind in kinds), method.head_learning_rate) == RATES[slug]  # type: ignore[call-overload]
    assert (method.mergeable, method.adds) == (slug in MERGED, slug not in ADDS_NOTHING)


@pytest.mark.parametrize(("slug", "name"), RANGES)
def test_ranges(slug: str, name: str) -> None:
    """Both ends are allowed; what is offered on the slider lies between them and goes up."""
    knob = get_method(slug).knob(name)
    assert (knob.min, knob.default, knob.max) == RANGES[slug, name]
    assert knob.check(knob.min) == knob.min and knob.check(knob.max) == knob.max
    assert list(knob.stops) == sorted(set(knob.stops))


@pytest.mark.parametrize(("slug", "name"), SWITCHES)
def test_switches(slug: str, name: str) -> None:
    assert get_method(slug).knob(name).default is SWITCHES[slug, name]


def test_stops_and_what_is_folded_away() -> None:
    ours = {slug: method for slug, method in all_methods().items() if slug in RATES}
    knobs = {(slug, knob.name): knob for slug, method in ours.items() for knob in method.knobs}
    assert {key: knob.stops for key, knob in knobs.items() if knob.stops} == STOPS
    assert {key for key, knob in knobs.items() if knob.advanced} == ADVANCED


def test_deep_prompts_have_rates_of_their_own() -> None:
    """On encoders thirty times those of the encoder's version, elsewhere Prefix Tuning's."""
    method, deep = get_method("ptuning"), {"version": "v2"}
    assert method.learning_rate("encoder", deep) == 3e-2
    assert method.learning_rate("causal-lm", deep) == get_method("prefix").learning_rates["causal-lm"]
    assert method.learning_rate("encoder", {"version": "v1"}) == RATES["ptuning"][0]


def test_a_width_that_is_not_given_is_the_models() -> None:
    """The 0 of the tables stands for the model's own: its keys' for a prefix, its inputs' for P-Tuning."""
    shape = get_model("smollm2-135m").shape
    widths = {
        slug: get_method(slug).complete(shape, {})["encoder_hidden_size"] for slug in ("prefix", "ptuning")
    }
    assert widths == {"prefix": 3 * 64, "ptuning": 576}


def test_a_shown_value_is_cut_after_sixty_characters() -> None:
    from peft_lab.core.errors import BadInput

    knob = Knob("name", "Name", "int", 1, "help", min=1, max=9)
    for text, shown in (("x" * 60, "x" * 60), ("x" * 61, "x" * 59 + "…")):
        with pytest.raises(BadInput) as caught:
            knob.parse(text)
        assert f"'{shown}'" in str(caught.value)


@pytest.mark.parametrize(
    ("method", "model", "knob", "last_quiet", "first_warned", "words"),
    [
        # r (768 + 768) = 768 * 768 at r = 384
        ("lora", "bert-base", "r", 383, 384, "589,824"),
        ("adapters", "bert-base", "bottleneck", 767, 768, "768"),
        (
            "prompt",
            "gpt2",
            "num_virtual_tokens",
            1024 - ROOM,
            1024 - ROOM + 1,
            f"{ROOM - 1} of the",
        ),
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
