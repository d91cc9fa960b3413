"""``memory`` on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab.cli import memory
from peft_lab.core.errors import SimulationError
from peft_lab.engine import account
from peft_lab.engine import published as protocol
from peft_lab.engine.devices import HEADROOM, get_device
from peft_lab.engine.request import ConfigRequest, Simulation, StepRequest, StepSetting
from peft_lab.engine.simulate import simulate as simulate_step
from peft_lab.engine.simulate import simulate_config
from peft_lab.methods import all_methods
from peft_lab.models.catalogue import get_model
from peft_lab.training.tasks import get_task
from tests.cli.conftest import Run

ASK = ("memory", "--model", "gpt2", "--batch", "2", "--seq", "32")
PARTS = {"weights", "adapter", "gradients", "optimizer", "activations", "other"}


def test_the_contracts_fields(run: Run) -> None:
    (row,) = run(*ASK, "--method", "lora", "--set", "r=4", "--json").document
    assert set(row) >= {
        "model",
        "method",
        "peak_bytes",
        "reserved_bytes",
        "parts",
        "timeline",
        "source",
        "seconds",
    }
    assert set(row["parts"]) == PARTS
    assert row["source"] == "simulated"
    assert set(row["loading"]) == {"device_bytes", "main_bytes", "loader"}
    assert row["loading"]["device_bytes"] == pytest.approx(row["parts"]["weights"], rel=0.01)
    assert sum(row["parts"].values()) == row["peak_bytes"] <= row["reserved_bytes"]
    assert all(
        isinstance(value, int) for value in (row["peak_bytes"], row["reserved_bytes"], *row["parts"].values())
    )
    assert max(point["bytes"] for point in row["timeline"]) == row["peak_bytes"]
    assert {"phase", "bytes"} <= set(row["timeline"][0])
    assert (
        row["peak_bytes"]
        == simulate_step(StepRequest("gpt2", "lora", {"r": 4}, StepSetting(2, 32))).peak_bytes
    )


def test_a_task_that_tags_is_simulated_with_its_own_head(run: Run) -> None:
    """PEFT makes logits for the prompt's tokens too and takes labels for the text's alone."""
    asked = ("memory", "--batch", "2", "--seq", "32", "--method", "prompt", "--task", "tags")
    (row,) = run(*asked, "--model", "minilm-l6", "--json").document
    setting = StepSetting(2, 32, tags=len(get_task("tags").labels))
    assert row["peak_bytes"] == simulate_step(StepRequest("minilm-l6", "prompt", {}, setting)).peak_bytes
    plain = simulate_step(StepRequest("minilm-l6", "prompt", {}, replace(setting, tags=0)))
    assert row["peak_bytes"] != plain.peak_bytes
    assert "encoder" in run(*asked, "--model", "gpt2").refused()
    config = {"peft_type": "LORA", "r": 4, "target_modules": ["query"], "task_type": "TOKEN_CLS"}
    asked_config = ConfigRequest("minilm-l6", config, StepSetting(2, 32))
    assert simulate_config(asked_config).parts["adapter"] > 0


@pytest.mark.slow
def test_every_option_reaches_the_simulation(run: Run) -> None:
    def peak(*more: str) -> int:
        peak: int = run(*ASK, "--method", "full", "--seq", "128", *more, "--json").document[0]["peak_bytes"]
        return peak

    usual = peak()
    assert peak("--dtype", "float32") > usual
    assert peak("--optimizer", "sgd") < usual
    assert peak("--checkpointing", "--batch", "16") < peak("--batch", "16")
    assert peak("--generate", "256,40") > usual


@pytest.mark.slow
def test_by_default_every_method_that_applies(run: Run) -> None:
    done = run(*ASK, "--json")
    assert [row["method"] for row in done.document] == list(all_methods())
    bare = run("memory", "--model", "llama-3.2-1b", "--batch", "1", "--seq", "8", "--json")
    assert [row["method"] for row in bare.document] == [slug for slug in all_methods() if slug != "bitfit"]
    assert bare.stderr.splitlines()[0].startswith("left out: bitfit: ")


def test_one_that_cannot_be_simulated_leaves_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(request: StepRequest) -> object:
        if request.method == "bitfit":
            raise SimulationError("it needs values")
        return simulate_step(request)

    monkeypatch.setattr(memory, "simulate", picky)
    done = run(*ASK, "--method", "bitfit,lora", "--json")
    assert done.status == 1
    assert [row["method"] for row in json.loads(done.stdout)] == ["lora"]
    assert done.stderr == "error: bitfit: it needs values\n"
    alone = run(*ASK, "--method", "bitfit", "--json")
    assert (alone.status, alone.stdout, alone.stderr) == (1, "", "error: bitfit: it needs values\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch", "0"], "batch"),
        (["--batch", "-1"], "batch"),
        (["--seq", "99999999999"], "seq"),
        (["--seq", "long"], "--seq"),
        (["--generate", "50"], "50,300"),
        (["--generate", "a,b"], "50,300"),
        (["--generate", "-1,3"], "50,300"),
        (["--generate", "0,3"], "not 0"),
        (["--optimizer", "adam"], "adamw"),
        (["--dtype", "float8"], "--dtype"),
        (["--method", "lroa"], "'lora'"),
        (["--model", "gtp2"], "'gpt2'"),
        (["--set", "r=0", "--method", "lora"], "Rank"),
        (["--accumulate", "0"], "accumulate"),
        (["--gpu", "abacus"], "no device called 'abacus'. Known:"),
        (["--gpu", "h100", "--link", "string"], "Known: pcie"),
        (["--fits", "", "--method", "lora"], "no device called ''"),
        (["--protocol", "metamath", "--batch", "0"], "batch"),
        (["--checkpointing", "--method", "prefix"], "gradient checkpointing"),
        (["--model", "bert-base", "--seq", "513"], "512 positions"),
    ],
)
def test_bad_input(run: Run, arguments: list[str], said: str) -> None:
    assert said in run(*ASK, *arguments).refused()


def test_a_precision_reaches_the_simulation_and_contradicts_no_storage(run: Run) -> None:
    asked = (*ASK, "--method", "lora", "--precision", "mixed-fp32", "--adapter-dtype", "bfloat16")
    (row,) = run(*asked, "--json").document
    setting = StepSetting(2, 32, precision="mixed-fp32", adapter_dtype="bfloat16")
    assert row["peak_bytes"] == simulate_step(StepRequest("gpt2", "lora", {}, setting)).peak_bytes
    assert "--dtype" in run(*asked, "--dtype", "bfloat16").refused()


def test_numbers_of_virtual_tokens_that_are_none(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for more in ((), ("--fits", "t4")):
        for value in ("20", [1], 0, True):
            file.write_text(json.dumps({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": value}))
            assert "a whole number from 1" in run(*ASK, *more, "--adapter-config", str(file)).refused()


class Linear:
    """A step that takes a known number of bytes: 1 MB and 1 kB a token."""

    def __init__(self) -> None:
        self.asked: list[StepSetting] = []

    def __call__(self, setting: StepSetting) -> Simulation:
        self.asked.append(setting)
        size = 10**6 + 1000 * setting.batch * setting.seq
        return Simulation("m", "lora", size, None, dict.fromkeys(account.PARTS, 0), ())


def test_what_fits_is_searched_by_simulating() -> None:
    device = replace(get_device("t4"), memory=int((10**6 + 1000 * 6400) / (1 - HEADROOM)) + 1)
    job = Linear()
    asked, room = memory.search_fitting(job, StepSetting(4, 100), device, None)
    assert asked.peak_bytes == room.needed_bytes == 10**6 + 400_000
    assert room.fits
    assert 62 <= room.batch <= 64
    assert 1550 <= room.seq <= 1600
    assert len(job.asked) == len(set(job.asked)) < 40
    assert {(setting.device, setting.capability) for setting in job.asked} == {("cuda", device.capability)}
    assert memory.search_fitting(Linear(), StepSetting(4, 100), device, 128)[1].seq >= 124
    assert memory.search_fitting(Linear(), StepSetting(4, 100), device, 128)[1].seq <= 128
    small = memory.search_fitting(Linear(), StepSetting(4, 100), replace(device, memory=10**6), None)[1]
    assert (small.fits, small.batch, small.seq) == (False, 0, 0)


def test_fits_on_the_command_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "simulate", lambda request: Linear()(request.setting))
    (row,) = run(*ASK, "--method", "lora", "--set", "r=4", "--fits", "t4", "--json").document
    assert row["fits"]["device"] == "t4"
    assert row["fits"]["fits"] is True
    assert row["fits"]["longest_seq"] <= get_model("gpt2").shape.max_positions
    assert row["fits"]["largest_batch"] in row["fits"]["simulated"]["batch"]
    shown = run(*ASK, "--method", "lora", "--fits", "t4").stdout
    assert get_device("t4").holding in shown
    assert "'t4'" in run(*ASK, "--fits", "t44").refused()


def test_the_published_protocol(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents: list[object] = []

    def published(model: str, content: object, batch: int, generate: object) -> Simulation:
        contents.append(content)
        assert generate is None
        return Linear()(StepSetting(batch, 1))

    monkeypatch.setattr(protocol, "simulate_published", published)
    nothing = tmp_path / "full.json"
    nothing.write_text("null")
    ask = ("memory", "--model", "llama-3.2-3b", "--protocol", "metamath", "--method", "lora,full")
    done = run(*ask, "--adapter-config", str(nothing), "--seq", "768", "--dtype", "bfloat16", "--json")
    assert len(done.document) == 3
    assert contents[1:] == [None, None]
    lora = contents[0]
    assert isinstance(lora, dict)
    assert lora["r"] == all_methods()["lora"].knob("r").default
    unused = [line.split()[1] for line in done.stderr.splitlines() if "was ignored" in line]
    assert unused == ["--seq", "--dtype"], "the default written out is not used either"
    for method in ("adapters", "qlora"):
        assert "published runs" in run(*ask[:-1], method).refused()
    assert "--fits" in run(*ask, "--fits", "t4").refused()
    assert "metamath" in run(*ask[:4], "other").refused()


@pytest.mark.slow
def test_a_packed_base_is_a_precision(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA", "r": 8, "target_modules": ["c_attn"]}))

    def weights(dtype: str, *method: str) -> int:
        (row,) = run(*ASK, *(method or ("--adapter-config", str(file))), "--dtype", dtype, "--json").document
        found: int = row["parts"]["weights"]
        return found

    sixteen, eight, four = (weights(dtype) for dtype in ("bfloat16", "int8", "nf4"))
    linear = sum(
        group.count * group.in_features * group.out_features for group in get_model("gpt2").shape.matrices
    )
    assert sixteen - eight == linear
    assert eight - four == linear // 2
    assert weights("bfloat16", "--method", "qlora", "--set", "load_in_8bit=true") == eight
    assert weights("fp4", "--method", "prefix") == pytest.approx(four, abs=1024)
    assert "16 or 32" in run(*ASK, "--method", "full", "--dtype", "nf4").refused()
    assert "own settings" in run(*ASK, "--method", "qlora", "--dtype", "int8").refused()
    everything = run(*ASK, "--dtype", "nf4", "--json")
    assert {"full", "qlora"}.isdisjoint(row["method"] for row in everything.document)
    assert "left out: full" in everything.stderr
    assert "int8" in run(*ASK, "--method", "lora", "--dtype", "int3").refused()


def test_a_gpu_adds_the_seconds_of_a_step(run: Run) -> None:
    (row,) = run(*ASK, "--method", "lora", "--gpu", "l40s", "--json").document
    step = row["step_seconds"]
    assert 0 < step["low"] < step["value"] < step["high"] < 1
    assert row["tokens_per_second"] == pytest.approx(2 * 32 / step["value"])
    (other,) = run(*ASK, "--method", "lora", "--gpu", "h100", "--json").document
    assert other["step_seconds"]["high"] / other["step_seconds"]["low"] > step["high"] / step["low"]
    assert "time per step" in run(*ASK, "--method", "lora", "--gpu", "l40s").stdout
