"""Mixtures of experts: a step that is measured on real tensors and the same step simulated, in both precisions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core import inspector, machine
from peft_lab.models import meta
from peft_lab.runs import admission
from peft_lab.runs.spec import RunRequest
from tests.methods.mixtures import CONFIGS
from tests.takeaway.conftest import byte_tokenizer, finish

WITHIN = 0.02
NAMES = ("mixtral", "qwen2_moe", "qwen3_moe")
EXPERTS = {"r": 4, "target_parameters": ("experts.gate_up_proj", "experts.down_proj")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    import torch
    import transformers

    top, found = tmp_path_factory.mktemp("mixtures"), {}
    for name in NAMES:
        config = meta.make_config({**CONFIGS[name], "vocab_size": 260, "max_position_embeddings": 256})
        torch.manual_seed(1)
        model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.save_pretrained(top / name)
        byte_tokenizer().save_pretrained(top / name)
        found[name] = str(top / name)
    return found


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "lora on experts", "adapters", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_simulated_is_measured(
    name: str,
    method: str,
    dtype: str,
    folders: dict[str, str],
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(machine, "compute_dtype", lambda: getattr(torch, dtype))
    monkeypatch.setattr(inspector, "ask", lambda function, *given: function(*given))
    rows = own_home / "rows.jsonl"
    lines = [json.dumps({"prompt": f"say {n} " * 4, "completion": f"it is {n}"}) for n in range(40)]
    rows.parent.mkdir(exist_ok=True)
    rows.write_text("\n".join(lines), "utf-8")
    run = finish(
        RunRequest(
            folders[name],
            method.partition(" ")[0],
            "own",
            values=EXPERTS if method == "lora on experts" else {},
            own_data=str(rows),
            steps=3,
            batch=8,
            eval_rows=0,
            learning_rate=1e-3,
        )
    )
    record = run.record()
    assert record["dtype"] == dtype
    monkeypatch.setattr(
        inspector,
        "get_inspector",
        lambda *_: type("Here", (), {"submit": staticmethod(lambda f, *a: Done(f(*a)))}),
    )
    peak = admission.peak_of_run(record)
    assert peak == pytest.approx(record["memory"]["peak_bytes"], rel=WITHIN)


class Done:
    """An answer that is there."""

    def __init__(self, answer: int) -> None:
        self._answer = answer

    def result(self) -> int:
        return self._answer
