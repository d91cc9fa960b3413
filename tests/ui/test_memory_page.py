"""The Memory page through the app, without a browser: tabs, what ships, models by folder, errors at their control."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from peft_lab.advise.plans.wanted import Wanted
from peft_lab.advise.room import Room
from peft_lab.advise.situation import Situation
from peft_lab.core import limits, units
from peft_lab.engine import published, simulate
from peft_lab.engine.devices import devices
from peft_lab.engine.over_a_run import ORDERS, STEPS
from peft_lab.engine.simulate import simulate as simulate_step
from peft_lab.engine.work import copied, left
from peft_lab.methods import all_methods
from peft_lab.runs import record, store
from peft_lab.runs.queue import get_queue
from peft_lab.runs.view import Status
from peft_lab.ui import pages, state
from peft_lab.ui.components import figures
from peft_lab.ui.memory import controls
from peft_lab.ui.memory.bars import verdict
from peft_lab.ui.memory.controls import USUAL, MemoryForm
from peft_lab.ui.memory.opening import shipped_opening
from tests.models import homemade
from tests.ui.badges import sources, without_badge
from tests.ui.test_pages import BusyPool, opened, told
from tests.waits import SECONDS

SMALL = {"model": "minilm-l6", "device": "this-machine", "batch": "2", "seq": "16"}
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 512, "hidden_size": 64,
    "intermediate_size": 160, "num_hidden_layers": 7, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}  # fmt: skip


def settled(app: AppTest) -> AppTest:
    """Drawn again until nothing is waited for, as a browser does by itself."""
    until = time.monotonic() + 2 * SECONDS
    while time.monotonic() < until and (app.get("progress") or "Simulating th" in told(app)):
        time.sleep(0.1)
        app.run()
    assert not app.exception
    return app


def captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption)


def tables(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


@pytest.fixture
def llama(tmp_path: Path) -> str:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA), "utf-8")
    return str(folder)


@pytest.mark.slow
def test_every_method_or_its_reason() -> None:
    app = settled(opened("memory", **SMALL))
    shown = tables(app).replace("\N{NO-BREAK SPACE}", " ") + told(app)
    assert "fits" in shown
    assert all(method.title in shown for method in all_methods().values())
    moments = next(slider for slider in app.select_slider if slider.label == "Moment")
    assert "the peak" in told(app)
    moments.set_value(0).run()
    assert not app.exception
    assert "the peak" not in told(app)


@pytest.mark.parametrize(
    ("tab", "expected"),
    [
        ("timeline", "the peak"),
        pytest.param("fits", "Searched on", marks=pytest.mark.slow),
        pytest.param("curves", "Each dot is one simulated training step with", marks=pytest.mark.slow),
        ("why", "Why LoRA does not shrink activations"),
        ("published", f"{len(published.rows())} published runs of"),
    ],
)
def test_every_tab_opens(tab: str, expected: str) -> None:
    app = settled(opened("memory", tab=tab, **SMALL))
    assert expected in told(app)
    assert not without_badge(app)[1]
    # nothing is measured here, only what others published is cited, and what loading takes is counted
    assert sources(app) == {"simulated", "counted"} | ({"cited"} if tab == "published" else set())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("batch", ["2", "4096"])
def test_the_verdict_is_the_tables(batch: str) -> None:
    app = settled(opened("memory", **SMALL | {"batch": batch, "device": "rtx-4090", "seq": "256"}))
    row = re.search(r"LoRA</td>.*?</tr>", tables(app).replace("\N{NO-BREAK SPACE}", " "), re.DOTALL)
    assert row is not None
    fits = "fits" in row[0]
    assert fits == (batch == "2")
    assert f"## LoRA {'fits' if fits else 'does not fit'}" in told(app)
    assert app.button(key="memory-next").label == pages.titles()["plan"]


@pytest.mark.slow
def test_the_address_names_a_published_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted and simulated at once, each beside what was published."""
    name = "ln_tuning--llama-3.2-3B-default"
    app = settled(opened("memory", tab="published", row=name, **SMALL))
    assert app.query_params["row"] == name or app.query_params["row"] == [name]
    app.button(key="simulate-row").click().run()
    until = time.monotonic() + SECONDS
    while "Counting what this run trained" in told(app) and time.monotonic() < until:
        time.sleep(0.2)
        app.run()
    assert "175,104 of 3,212,924,928 parameters trained" in told(app).replace("\N{NO-BREAK SPACE}", " ")
    assert "✓ equal to what was published" in told(app) and "21.2 GB" in told(app)
    assert "'nonsense'" in told(settled(opened("memory", tab="published", row="nonsense", **SMALL)))


@pytest.mark.further
@pytest.mark.rest
def test_the_longest_row_is_searched() -> None:
    app = settled(opened("memory", tab="fits", **{**SMALL, "seq": "512"}))
    app.button(key="find-seq").click().run()
    until = time.monotonic() + SECONDS
    while "Searching" in told(app) and time.monotonic() < until:
        time.sleep(0.2)
        app.run()
    assert "**512 tokens per row** at 2 rows, all the positions" in told(app)


@pytest.mark.further
@pytest.mark.rest
def test_lengths_of_rows_show_what_a_run_reserves() -> None:
    app = opened("memory", **SMALL | {"device": "rtx-4090", "seq": "64"})
    assert "expandable" not in tables(app)
    app.file_uploader(key="memory-lengths").upload("rows.txt", b"9\n30\n64\n12\n40\n", "text/plain")
    app = settled(app.run())
    until = time.monotonic() + SECONDS
    while "Simulating runs" in told(app) and time.monotonic() < until:
        time.sleep(0.1)
        app.run()
    assert all(way in tables(app) for way in ("as usual", "expandable segments", "empty cache"))
    assert f"{ORDERS} orders of {STEPS} steps" in captions(app)
    assert not without_badge(app)[1]


def test_a_step_of_exactly_what_is_usable_fits() -> None:
    device = devices()["t4"]
    assert verdict(device.allowed, device) == "fits"
    assert verdict(device.allowed + 1, device) == figures.unbroken("1 B over")
    room = Room(Situation(device="t4"), lambda _: lambda *step: device.allowed)
    found = room.step("lora", {})
    assert found is not None and (found.needed, found.checkpointing) == (device.allowed, False)
    assert Room(Situation(device="t4"), lambda _: lambda *step: device.allowed + 1).step("lora", {}) is None


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({"device": "abacus"}, "There is no device called 'abacus'"),
        ({"batch": "-3"}, "from 1 to"),
        ({"seq": "many"}, "'many'"),
        ({"dtype": "int1"}, "'int1'"),
        ({"targets": "all"}, "'all'"),
        ({"checkpointing": "maybe"}, "'maybe'"),
        ({"model": "no-such-model"}, "no model in the catalogue called 'no-such-model'"),
        ({"model": "/no/such/folder"}, "neither a folder on this machine nor a Hugging Face id"),
        ({"model": "nobody-here/no-such-model"}, "was not reached"),
    ],
)
def test_what_is_wrong_in_an_address_is_said_at_its_control(address: dict[str, str], message: str) -> None:
    app = opened("memory", tab="published", **address)
    assert not app.exception
    lines = [line for line in told(app).split("\n") if message in line]
    assert len(lines) == 1
    assert lines[0].startswith(":red[") and "The default is used" in lines[0]


def test_a_tab_or_method_that_is_none_is_said() -> None:
    shown = told(settled(opened("memory", **SMALL, tab="attic", method="lorra")))
    assert "There is no tab called 'attic'" in shown
    assert "There is no method called 'lorra'" in shown


@pytest.mark.filterwarnings("ignore")
@pytest.mark.further
@pytest.mark.rest
def test_the_first_chart_shows_what_four_bits_save() -> None:
    """As the page opens: QLoRA needs less than LoRA on the same maps; by their own defaults it would need more."""
    chosen = USUAL
    need = {}
    for slug in ("lora", "qlora"):
        asked = chosen.request(slug)
        assert asked.values == {"target_modules": ("q_proj", "v_proj")}
        need[slug] = simulate.needed_bytes(simulate_step(asked))
    assert need["qlora"] < need["lora"] <= chosen.card.memory
    assert replace(chosen, targets="own").base_for("qlora") == ({}, "bfloat16")


def test_choose_plan_and_memory_open_with_rows_of_one_length() -> None:
    assert Situation().seq == Wanted().seq == USUAL.seq


def test_the_page_opens_with_the_answers_that_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any simulation has ended; with one other setting it waits."""
    monkeypatch.setattr(controls, "get_pool", BusyPool)
    app = opened("memory")
    assert not app.exception and "## LoRA fits" in told(app) and "the peak" in told(app)
    shown = tables(app).replace("\N{NO-BREAK SPACE}", " ")
    assert len(shipped_opening()) == 8
    assert all(all_methods()[slug].title in shown for slug in shipped_opening())
    assert "## LoRA" not in told(opened("memory", batch="3"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slug", ["qlora", "prefix"])
def test_what_ships_is_what_is_simulated(slug: str) -> None:
    found = replace(simulate.memory_of(USUAL.request(slug)), seconds=0.0)
    assert shipped_opening()[slug] == found


def test_targets_are_those_of_the_model_that_is_simulated() -> None:
    chosen = MemoryForm(model="minilm-l6", device="h200", batch=1, seq=8, dtype="nf4")
    assert chosen.base_for("qlora", "gpt2")[0] == {
        "target_modules": ("c_attn",),
        "bnb_4bit_quant_type": "nf4",
    }
    assert chosen.base_for("ia3", "gpt2") == ({}, "nf4")


@pytest.mark.parametrize("size", [0, -4, 10**9])
def test_a_size_that_cannot_be_is_said_at_its_control(size: int) -> None:
    app = opened("memory", tab="published", **SMALL)
    control = next(number for number in app.number_input if number.label.startswith("Batch"))
    control.set_value(size).run()
    assert not app.exception
    assert f"from 1 to {limits.BATCH:,}; '{size}' is not." in told(app)
    assert "One training step" not in told(app)


def test_rows_longer_than_the_model_has_positions_for() -> None:
    app = opened("memory", **{**SMALL, "seq": "4000"})
    assert "only 512 positions" in told(app)
    next(button for button in app.button if button.label == "Use 512").click().run()
    assert "One training step of" in told(app)
    assert next(one for one in app.number_input if one.label == "Tokens per row").value == 512


@pytest.mark.further
@pytest.mark.rest
def test_a_folder_in_the_address_is_simulated_and_stays_there(llama: str) -> None:
    app = settled(opened("memory", model=llama, batch="2", seq="32"))
    assert "One training step of my-llama" in told(app)
    assert "not trained" in captions(app)
    assert app.query_params["model"] in (llama, [llama])


def test_a_folder_works_on_method_pages_too(llama: str) -> None:
    app = opened("lora", model=llama, tab="inside", part="parameters")
    assert not app.exception
    assert "my-llama" in str(next(box for box in app.selectbox if box.label == "Model").proto)
    # r 8 on q (64 to 64) and v (64 to 32) of seven layers
    assert f"the count and the formula both give **{7 * 8 * (64 + 64 + 64 + 32):,}**" in told(app)


def test_a_folder_without_weights_is_not_trained(llama: str) -> None:
    app = opened("lora", model=llama, tab="train")
    assert not app.exception
    assert not [button for button in app.button if button.label == "Train"]
    assert any("has a config and no weights" in info.value for info in app.info)


@pytest.mark.slow
def test_a_folder_with_weights_is_trained_from_its_page(tmp_path: Path) -> None:
    folder = homemade.folder("bert", tmp_path / "my-bert")
    app = opened("lora", model=folder, tab="train", steps="2", batch="2", rows="4")
    assert (
        not app.exception
        and "The model's weights are on this machine, so the model can be trained." in captions(app)
    )
    next(button for button in app.button if button.label == "Train").click().run()
    assert not app.exception
    identity = str(app.session_state[state._COMPLETE]["run"])
    assert get_queue().wait(identity, SECONDS) is Status.DONE
    run = store.get(identity)
    assert run.spec.model == folder
    assert set(record.result(run)["inputs"][folder]) >= {"model.safetensors", "config.json", "tokenizer.json"}
    (tmp_path / "my-bert" / "tokenizer.json").unlink()
    app.run()
    assert any("has weights but no tokenizer" in info.value for info in app.info)


@pytest.mark.parametrize("page", ["memory", "lora"])
def test_a_config_that_is_no_language_model(page: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "swin"}), "utf-8")
    app = opened(page, model=str(tmp_path), tab="published")
    assert not app.exception
    assert any("is a vision model" in line and line.startswith(":red[") for line in told(app).split("\n"))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["int8", "nf4"])
def test_a_base_in_few_bits_for_every_method(dtype: str) -> None:
    app = settled(opened("memory", **SMALL, dtype=dtype, tab="why"))
    shown = tables(app).replace("\N{NO-BREAK SPACE}", " ") + told(app)
    assert "Full fine-tuning changes the weights themselves" in shown
    rows = [
        title for title in (method.title for method in all_methods().values()) if f">{title}</td>" in shown
    ]
    assert {"LoRA", "QLoRA", "BitFit"} <= set(rows) and "Full fine-tuning" not in rows
    bits = {"int8": "weights in 8 bits", "nf4": "weights in 4 bits"}[dtype]
    assert bits in shown


pytestmark = pytest.mark.filterwarnings("ignore")
LABEL = "Offloading"
ON_A_GPU = {"model": "minilm-l6", "device": "rtx-4090", "batch": "2", "seq": "64"}
ASKED = MemoryForm(model="minilm-l6", batch=2, seq=64)


def switch(app: AppTest) -> Any:
    return next((one for one in app.toggle if one.label == LABEL), None)


def shown(app: AppTest) -> str:
    captions = "\n".join(caption.value for caption in app.caption)
    return (told(app) + tables(app) + captions).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.further
@pytest.mark.rest
def test_figures_follow_the_control_and_its_cost_is_said() -> None:
    app = settled(opened("memory", **ON_A_GPU))
    assert "Main memory" not in shown(app) and "Offloading takes" not in shown(app)
    kept = simulate_step(ASKED.request("lora"))
    assert units.size(simulate.needed_bytes(kept)) in shown(app)
    settled(switch(app).set_value(True).run())
    assert app.query_params["offload"] in ("true", ["true"])
    away = simulate_step(replace(ASKED, offload=True).request("lora"))
    work = away.work[-1]
    assert left(work) == away.host_bytes and copied(work) == 2 * left(work)
    after = shown(app)
    assert f"with LoRA a step copies {units.size(copied(work))} over the bus" in after
    assert f"there and back. The copies take {units.seconds(copied(work) / (0.7 * 32e9))}" in after
    assert "Main memory" in after and units.size(away.host_bytes) in after
    # the moment that the timeline starts at
    assert f"{units.size(away.peak_bytes)} alive, the peak" in after
    assert (
        simulate.needed_bytes(away) < simulate.needed_bytes(kept)
        and units.size(simulate.needed_bytes(away)) in after
    )
    assert not without_badge(app)[1]


def test_the_address_says_it_and_the_lessons_ask_for_the_other() -> None:
    app = settled(opened("memory", **ON_A_GPU, offload="true", tab="why"))
    assert switch(app).value is True
    assert "Why LoRA does not shrink" not in told(app)
    settled(app.button(key="lessons-keep").click().run())
    assert switch(app).value is False and "offload" not in app.query_params
    assert "Why LoRA does not shrink" in told(app)
    assert "'maybe'" in told(opened("memory", tab="published", offload="maybe"))
