"""The settings as code: for every method and model it is Python that makes what the method makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from peft_lab import export
from peft_lab.errors import BadInput
from peft_lab.methods import all_methods, get_method
from peft_lab.models import catalogue, get_model, resolve

from .conftest import KINDS, runs_on


@pytest.mark.parametrize("name", ["minilm-l6", "smollm2-135m", "gpt2", "t5-base"])
@pytest.mark.parametrize("slug", all_methods())
def test_every_snippet_is_python_that_names_the_knobs(slug: str, name: str) -> None:
    method, entry = get_method(slug), catalogue()[name]
    if any(problem.level == "error" for problem in method.problems(entry.shape, {})):
        with pytest.raises(BadInput):
            export.config_code(method, entry, {})
        return
    code = export.config_code(method, entry, {})
    compile(code, "snippet", "exec")
    assert "from_pretrained(" in code and len(code.splitlines()) < 50
    if "get_peft_model" in code:
        for knob in method.knobs:
            if (
                not knob.advanced
                and knob.kind in ("int", "modules", "float")
                and knob.name != "encoder_hidden_size"
            ):
                assert f"{knob.name}=" in code


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slug", all_methods())
def test_a_snippet_trains_what_is_counted(slug: str, kind: str, tiny: dict[str, str]) -> None:
    method, entry = get_method(slug), resolve(tiny[kind])
    if not runs_on(tiny[kind], slug):
        pytest.skip(f"{method.title} does not run on this model")
    names: dict[str, object] = {}
    exec(export.config_code(method, entry, {}), names)
    model = names["model"]
    trained = {
        name: parameter.numel()
        for name, parameter in model.named_parameters()  # type: ignore[attr-defined]
        if parameter.requires_grad and not re.search(r"(^|\.)(classifier|score)\.", name)
    }
    values = method.complete(entry.shape, {})
    assert sum(trained.values()) == method.formula(entry.shape, values).trainable


def test_lora_plus_is_pefts_own_optimizer(tiny: dict[str, str]) -> None:
    method, entry = get_method("lora"), resolve(tiny["encoder"])
    names: dict[str, object] = {}
    exec(export.config_code(method, entry, {"loraplus_lr_ratio": 8.0, "rank_pattern": "0=2"}), names)
    rates = {group["lr"] for group in names["optimizer"].param_groups if group["params"]}  # type: ignore[attr-defined]
    rate = method.learning_rates["encoder"]
    assert rates == {rate, 8 * rate}


def test_values_and_texts_are_written_as_they_are() -> None:
    entry = get_model("minilm-l6")
    code = export.config_code(
        get_method("prompt"), entry, {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": 'say "é\\n"'}
    )
    assert r'prompt_tuning_init_text="say \"é\\n\""' in code
    assert 'tokenizer_name_or_path="sentence-transformers/all-MiniLM-L6-v2"' in code
    four = export.config_code(get_method("qlora"), entry, {"bnb_4bit_quant_type": "fp4"})
    assert 'bnb_4bit_quant_type="fp4"' in four and 'target_modules="all-linear"' in four
    with pytest.raises(BadInput) as caught:
        export.config_code(get_method("lora"), entry, {"target_modules": ("qury",)})
    assert caught.value.field == "target_modules"


def test_the_package_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, peft_lab.export; sys.exit('torch' in sys.modules or 'streamlit' in sys.modules)"
    root = Path(export.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
