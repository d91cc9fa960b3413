"""Scripts are carried out and make the numbers of the run: every method, its settings, and what a run may be like."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from peft_lab import takeaway
from peft_lab.core import disk, machine
from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods
from peft_lab.runs import owners, respond, store
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.takeaway import applied, facts
from tests.takeaway.conftest import KINDS, Plain, Train, assert_loads, finish
from tests.training.tasks.test_own import ASKS, SAYS, file_of
from tests.training.test_batches import PLAIN, tokenizer_of
from tests.waits import SECONDS

SAME = 1e-3


def carry_out(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a script leaves in its names, carried out in this process, which has the libraries loaded."""
    path = folder / "repeat.py"
    path.write_text(takeaway.script(run), "utf-8")
    monkeypatch.chdir(folder)
    return runpy.run_path(str(path))


def assert_same(run: Run, left: dict[str, Any]) -> None:
    record = run.record()
    assert len(record["loss"]) == len(left["losses"])
    assert left["losses"] == record["loss"], "to the last digit: it is the same code on the same machine"
    for which, name in (("base", "before"), ("tuned", "after")):
        wanted = record["evaluation"][name]
        assert left[which][0] == pytest.approx(wanted[record["metric"]["name"]], abs=1e-9), which
        assert left[which][1] == pytest.approx(wanted["loss"], abs=SAME), which


def assert_clean(path: Path) -> None:
    """No unknown or unused name, nothing that a linter would ask about."""
    rules = ["--isolated", "--select", "E,F,W,B,UP", "--ignore", "E501,E402", "--target-version", "py311"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *rules, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def assert_same_adapter(run: Run, left: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import load_file

    assert not (Path(left["OUT"]) / "README.md").exists(), "PEFT's blank model card"
    mine, its = (
        load_file(str(Path(folder) / "adapter_model.safetensors")) for folder in (left["OUT"], run.adapter)
    )
    assert {name.replace("adapters.default.", "") for name in its} == set(mine) or set(its) == set(mine)
    for name, tensor in mine.items():
        other = (
            its[name] if name in its else its[name.replace(".bottleneck.", ".bottleneck.adapters.default.")]
        )
        torch.testing.assert_close(tensor, other, atol=SAME, rtol=0, msg=partial("{}: {}".format, name))


@pytest.mark.sampled(27)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "slug", sorted(all_methods(), key=lambda slug: slug == "full")
)  # dear: not always run
def test_every_method_is_repeated(
    slug: str, kind: str, plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plain(kind, slug)
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)
    # What the script saved, in its folder, by the code of the model card and by the lab.
    assert_loads(run, takeaway.model_card(run), Path(left["OUT"]))


SETTINGS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("encoder", "lora", {"lora_dropout": 0.3, "use_rslora": True, "bias": "all"}, {"schedule": "cosine", "clip": 0.0}),
    ("encoder", "lora", {"loraplus_lr_ratio": 16.0, "rank_pattern": "0=2, query=3"}, {}),
    ("encoder", "lora", {"use_dora": True, "init_lora_weights": "pissa"}, {"weight_decay": 0.1, "warmup": 0.0}),
    ("encoder", "qlora", {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False, "lora_dropout": 0.2}, {}),
    ("encoder", "qlora", {"load_in_8bit": True}, {}),
    ("causal-lm", "qlora", {"load_in_8bit": True, "r": 4}, {}),
    ("encoder", "adapters", {"placement": "parallel", "nonlinearity": "tanh", "init_std": 0.05, "bottleneck": 5}, {}),
    ("encoder", "adapters", {"placement": "pfeiffer", "nonlinearity": "silu"}, {}),
    ("causal-lm", "adapters", {"placement": "parallel", "scale": 2.0}, {}),
    ("encoder", "adapters", {"placement": "seq_bn"}, {}),
    ("causal-lm", "adapters", {"placement": "seq_bn", "bottleneck": 5}, {}),
    ("causal-lm", "adapters", {"placement": "par_bn"}, {}),
    ("encoder", "bitfit", {"subset": "query_mlp"}, {}),
    ("encoder", "ia3", {"target_modules": ("query", "output.dense"), "feedforward_modules": ("output.dense",)}, {}),
    ("causal-lm", "prefix", {"prefix_projection": True, "encoder_hidden_size": 24}, {"eval_rows": 0}),
    ("encoder", "prompt", {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": 'say "yes"'}, {}),
    ("causal-lm", "prompt", {"prompt_tuning_init": "SAMPLE_VOCAB"}, {"task": "style", "max_length": 160}),
    ("encoder", "ptuning", {"encoder_reparameterization_type": "LSTM", "encoder_dropout": 0.3}, {}),
    ("encoder", "ptuning", {"version": "v2", "init_weights": "text", "num_virtual_tokens": 5}, {"learning_rate": 0.02}),
    ("encoder", "ptuning", {"version": "v2", "init_weights": "random"}, {}),
    ("encoder", "ptuning", {"init_weights": "text", "num_virtual_tokens": 6}, {"eval_rows": 0}),
    ("causal-lm", "ptuning", {"version": "v2", "init_weights": "text", "init_text": 'an "order"'}, {"eval_rows": 0}),
    ("causal-lm", "prefix", {"init_weights": "text", "num_virtual_tokens": 9}, {}),
]  # fmt: skip


@pytest.mark.sampled(23)
@pytest.mark.parametrize(("kind", "slug", "values", "settings"), SETTINGS, ids=lambda part: str(part)[:40])
def test_settings_are_repeated(
    kind: str,
    slug: str,
    values: dict[str, Any],
    settings: dict[str, Any],
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = train(kind, slug, values, **settings)
    left = carry_out(run, tmp_path, monkeypatch)
    assert left["losses"] == pytest.approx(run.record()["loss"], abs=SAME)
    assert_same_adapter(run, left)
    assert_loads(run, takeaway.model_card(run), Path(left["OUT"]))
    if settings.get("eval_rows") != 0:
        assert_same(run, left)


@pytest.mark.sampled(7)
@pytest.mark.parametrize("slug", ["prompt", "lora", "qlora", "adapters", "bitfit", "ia3", "ptuning"])
def test_a_run_that_tags_is_repeated(
    slug: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"task": "tags", "own_data": None, "max_length": 110, "learning_rate": 0.02}
    run = train("encoder", slug, **settings)
    memory, record = run.view().memory, run.record()
    assert memory["predicted"] > memory["rows"], "labels for words, not for rows"
    assert record["metric"]["name"] == "span_f1"
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)
    assert_loads(run, takeaway.model_card(run), Path(left["OUT"]))
    assert_clean(tmp_path / "repeat.py")


@pytest.mark.slow
@pytest.mark.further
def test_a_run_on_own_tagged_words_is_repeated(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words of punctuation, one of which looks tagged, and sentences without a span among the rows."""
    own = tmp_path / "mine.conll"
    own.write_text("".join(f"a/B-c O\nSt.{n} {'B-place' if n % 3 else 'O'}\n\n" for n in range(12)))
    run = train("encoder", "lora", task="own", own_data=str(own), learning_rate=0.02)
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)
    assert_loads(run, takeaway.model_card(run), Path(left["OUT"]))


@pytest.mark.slow
@pytest.mark.further
def test_a_model_without_a_chat_format(
    tiny: dict[str, str], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny["causal-lm"], tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    monkeypatch.setitem(tiny, "causal-lm", str(folder))
    run = train("causal-lm", "lora", task="style", max_length=160)
    assert_same(run, carry_out(run, tmp_path, monkeypatch))


@pytest.mark.parametrize(
    "template", [pytest.param(PLAIN, marks=pytest.mark.further), pytest.param(None, marks=pytest.mark.slow)]
)
def test_conversations(
    template: str | None,
    tiny: dict[str, str],
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shutil.copytree(tiny["causal-lm"], tmp_path / "talks")
    (folder / "chat_template.jinja").unlink()
    tokenizer_of(template).save_pretrained(folder)
    monkeypatch.setitem(tiny, "causal-lm", str(folder))
    own = tmp_path / "mine.jsonl"
    talk = [
        {"role": "system", "content": "Say \"'''\"."},
        ASKS,
        SAYS,
        ASKS,
        {**SAYS, "content": "\\n\u2028 #| no"},
    ]
    own.write_bytes(file_of(talk, talk[1:]))
    run = train("causal-lm", "lora", task="own", own_data=str(own), max_length=100, probes=("How deep?",))
    assert_same(run, carry_out(run, tmp_path, monkeypatch))
    assert_clean(tmp_path / "repeat.py")
    found = run.trajectory()
    assert found is not None and found.example is not None and found.example.metric == "word_f1"
    said = respond.respond(run.id, ["How deep?"])[0]
    seen = run.view()
    assert said["tuned"]["answer"] == seen.probes_after[0].answer
    assert said["base"]["answer"] == seen.probes_before[0].answer


@pytest.mark.slow
def test_more_passes_than_rows_and_all_in_float32(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(machine, "compute_dtype", lambda: torch.float32)
    run = train("encoder", "lora", steps=9, batch=8, max_length=12)
    text = takeaway.script(run)
    assert "torch.float32" in text and "is kept twice" not in text.partition("#| ")[0]
    assert_same(run, carry_out(run, tmp_path, monkeypatch))


def test_a_stopped_run_is_repeated_as_far_as_it_went(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False, False, True])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "asked_to_stop", lambda run: next(asked, True))
        run = train("encoder", "lora", steps=6)
    assert run.record()["status"] == "stopped" and len(run.record()["loss"]) == 2
    left = carry_out(run, tmp_path, monkeypatch)
    assert left["losses"] == pytest.approx(run.record()["loss"], abs=SAME)


def test_a_method_that_is_only_ours_is_imported_and_says_so(
    plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applied, "_IN_PLAIN_TORCH", ())
    run = plain("encoder", "adapters")
    text = takeaway.script(run)
    assert "from peft_lab.methods import get_method" in text and "PEFT Lab itself" in text
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("slug", all_methods())
def test_every_method_is_written_cleanly(slug: str, plain: Plain, tmp_path: Path) -> None:
    """No text of a method names what the script has put away by then."""
    path = tmp_path / "repeat.py"
    path.write_text(takeaway.script(plain("causal-lm" if slug == "prefix" else "encoder", slug)), "utf-8")
    assert_clean(path)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", KINDS)
def test_the_text_of_a_script_is_clean(kind: str, plain: Plain, tmp_path: Path) -> None:
    run = plain(kind, "ptuning")
    path = tmp_path / "repeat.py"
    path.write_text(takeaway.script(run), "utf-8")
    assert_clean(path)
    code = path.read_text("utf-8").partition("#| ")[0]
    assert "peft_lab" not in code.replace("PEFT_LAB_HOME", ""), "a PEFT method needs nothing of ours"
    assert run.id in code and "pip install torch==" in code


@pytest.mark.further
@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("model", "task", "scored"), [("minilm-l6", "sentiment", 8), ("smollm2-135m", "json", 0)]
)
def test_a_fresh_process_repeats_a_run_of_a_live_model(
    model: str, task: str, scored: int, session_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the weights that the app fetched, and a folder that knows nothing of the app."""
    run = finish(RunRequest(model, "lora", task, steps=3, batch=4, eval_rows=scored))
    path = tmp_path / "repeat.py"
    path.write_text(takeaway.script(run), "utf-8")
    assert_clean(path)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env={**environment, "PEFT_LAB_HOME": str(session_home)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert float(last.rpartition(" ")[2]) < SAME, done.stdout
    assert (tmp_path / run.id / "adapter_model.safetensors").is_file()
    store.delete(run.id)


# -- without the base --------------------------------------------------------------------------------------------


def test_a_script_without_its_base_says_what_to_do(
    tiny: dict[str, str], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is gone, and a name that the hub is needed for, without a network."""
    folder = str(shutil.copytree(tiny["encoder"], tmp_path / "mine"))
    monkeypatch.setitem(tiny, "encoder", folder)
    run = train("encoder", "lora", steps=1, eval_rows=0)
    of_a_folder = takeaway.script(run)
    monkeypatch.setattr(facts, "is_folder", lambda name: False)
    of_a_name = takeaway.script(run).replace(f'MODEL = "{folder}"', 'MODEL = "someone/gone"')
    shutil.rmtree(folder)
    path = tmp_path / "repeat.py"
    for text, told in (
        (of_a_folder, f"{folder} is not on this machine: set it to the folder of your copy"),
        (
            of_a_name,
            "someone/gone is not on this machine.*: connect to the internet and start again, or set MODEL",
        ),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(SystemExit, match=told):
            runpy.run_path(str(path))


def test_a_folder_that_has_changed_since_is_told_by_the_script_and_by_the_lab(
    tiny: dict[str, str], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny["encoder"], tmp_path / "mine")
    monkeypatch.setitem(tiny, "encoder", str(folder))
    run = train("encoder", "lora", steps=1, eval_rows=0)
    tensors = load_file(folder / "model.safetensors")
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first] + 1}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SystemExit, match=r"model\.safetensors in .*mine is not the file that the run used"):
        carry_out(run, tmp_path, monkeypatch)
    with pytest.raises(BadInput, match=r"has changed since this run \(model\.safetensors"):
        respond.respond(run.id, ["a text"])


def test_a_base_that_is_here_and_damaged_is_not_said_to_be_missing(
    tiny: dict[str, str], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny["encoder"], tmp_path / "mine")
    monkeypatch.setitem(tiny, "encoder", str(folder))
    run = train("encoder", "lora", steps=1, eval_rows=0)
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        carry_out(run, tmp_path, monkeypatch)


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize(("model", "task"), [("minilm-l6", "sentiment"), ("smollm2-135m", "json")])
def test_a_live_models_script_without_network_ends_in_one_sentence(
    model: str, task: str, session_home: Path, tmp_path: Path
) -> None:
    run = finish(RunRequest(model, "lora", task, steps=1, batch=2, eval_rows=0))
    path = tmp_path / "repeat.py"
    path.write_text(takeaway.script(run), "utf-8")
    store.delete(run.id)
    nothing = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "none"), "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env={**os.environ, **nothing, "PEFT_LAB_HOME": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "could not be fetched: connect to the internet" in done.stderr.splitlines()[-1]


# -- what cannot be repeated -------------------------------------------------------------------------------------


def test_a_run_that_has_not_ended_has_nothing_to_take_away(train: Train, tiny: dict[str, str]) -> None:
    run = store.create(RunRequest(tiny["causal-lm"], "lora", "json", steps=1).complete())
    run.log.emit("queued", owner=owners.myself().to_dict())
    with pytest.raises(BadInput, match="it is queued"):
        takeaway.script(run)
    run.log.emit("failed", message="out of memory")
    with pytest.raises(BadInput, match="it failed"):
        takeaway.notebook(run)


def test_rows_that_are_not_those_of_the_run_are_refused(train: Train) -> None:
    run = train("encoder", "lora", steps=1)
    path = Path(str(run.spec.own_data))
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:20]), "utf-8")
    with pytest.raises(BadInput, match="there are 16") as caught:
        takeaway.script(run)
    assert caught.value.field == "task"


def test_a_knob_that_peft_does_not_have_is_refused_away_from_its_default(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft_lab.methods.base import Knob
    from peft_lab.methods.lora.spec import Lora

    extra = Knob("lora_plus", "LoRA+ ratio", "float", 1.0, "B learns faster than A.")
    run = train("encoder", "lora", steps=1)
    monkeypatch.setattr(Lora, "knobs", (*Lora.knobs, extra))
    assert "LoraConfig(" in takeaway.script(run)
    spec = run.spec
    disk.write_json(
        run.folder / "spec.json", {**spec.to_dict(), "values": {**spec.values, "lora_plus": 16.0}}
    )
    with pytest.raises(BadInput, match=r"LoRA\+ ratio") as caught:
        takeaway.script(run)
    assert caught.value.field == "lora_plus"


def test_a_setting_of_runs_that_scripts_do_not_know_is_refused(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("encoder", "lora", steps=1, clip=0.5)
    monkeypatch.setattr(facts, "_FOLLOWED", facts._FOLLOWED - {"clip"})
    with pytest.raises(BadInput, match="'clip'"):
        takeaway.script(run)


def test_a_run_of_a_comparison_is_exported_as_any_other(train: Train) -> None:
    """It measured more, and learned the same."""
    plain, compared = (train("encoder", "lora", steps=1, compared=asked) for asked in (False, True))
    assert compared.spec.compared and not plain.spec.compared
    texts = [takeaway.script(run).replace(run.id, "ID") for run in (plain, compared)]
    assert [line for line in texts[0].splitlines() if "LEARNING" in line or "STEPS" in line] == [
        line for line in texts[1].splitlines() if "LEARNING" in line or "STEPS" in line
    ]
    assert takeaway.adapter_zip(compared)
