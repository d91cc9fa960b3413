"""Scripts and notebooks are carried out and make the numbers of the run: every method, setting and kind of rows."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
from safetensors.torch import load_file, save_file

from peft_lab import takeaway
from peft_lab.core import disk
from peft_lab.core.errors import BadInput
from peft_lab.methods import all_methods
from peft_lab.runs import owners, respond, store
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.takeaway import applied, facts
from tests.models import homemade
from tests.takeaway.conftest import KINDS, Plain, Train, assert_loads, finish, runs_on
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


def cells(text: str) -> list[str]:
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    return [cell.source for cell in book.cells if cell.cell_type == "code"]


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


DEFAULTS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    # far above its usual rate a model that trains as a whole runs away, and rounding with it
    (kind, slug, {}, {"learning_rate": 1e-3 if slug == "full" else 0.02})
    for slug in sorted(all_methods(), key=lambda slug: slug == "full")
    for kind in KINDS
]
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
    ("causal-lm", "prefix", {"prefix_projection": True, "encoder_hidden_size": 24}, {}),
    ("encoder", "prompt", {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": 'say "yes"'}, {}),
    ("causal-lm", "prompt", {"prompt_tuning_init": "SAMPLE_VOCAB"}, {"task": "style", "max_length": 160}),
    ("encoder", "ptuning", {"encoder_reparameterization_type": "LSTM", "encoder_dropout": 0.3}, {}),
    ("encoder", "ptuning", {"version": "v2", "init_weights": "text", "num_virtual_tokens": 5}, {"learning_rate": 0.02}),
    ("encoder", "ptuning", {"version": "v2", "init_weights": "random"}, {}),
    ("encoder", "ptuning", {"init_weights": "text", "num_virtual_tokens": 6}, {}),
    ("causal-lm", "ptuning", {"version": "v2", "init_weights": "text", "init_text": 'an "order"'}, {}),
    ("causal-lm", "prefix", {"init_weights": "text", "num_virtual_tokens": 9}, {}),
]  # fmt: skip
TAGS = {"task": "tags", "own_data": None, "max_length": 110, "learning_rate": 0.02}
TAGGED: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("encoder", slug, {}, TAGS)
    for slug in ("prompt", "lora", "qlora", "adapters", "bitfit", "ia3", "ptuning")
]


@pytest.mark.sampled(19)
@pytest.mark.parametrize(
    ("kind", "slug", "values", "settings"), [*TAGGED, *SETTINGS, *DEFAULTS], ids=lambda part: str(part)[:40]
)
def test_a_run_is_repeated_by_its_script_and_its_notebook(
    kind: str,
    slug: str,
    values: dict[str, Any],
    settings: dict[str, Any],
    tiny: dict[str, str],
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not runs_on(tiny[kind], slug):
        pytest.skip(f"{slug} does not run on this model")
    run = train(kind, slug, values, **settings)
    left = carry_out(run, tmp_path, monkeypatch)
    assert_clean(tmp_path / "repeat.py")
    assert_same(run, left)
    assert_same_adapter(run, left)
    # What the script saved, in its folder, by the code of the model card and by the lab.
    assert_loads(run, takeaway.model_card(run), Path(left["OUT"]))
    names: dict[str, Any] = {"__name__": "__main__"}
    for source in cells(takeaway.notebook(run)):
        exec(compile(source, "cell", "exec"), names)
    assert_same(run, names)
    if settings is TAGS:
        memory = run.view().memory
        assert memory["predicted"] > memory["rows"], "labels for words, not for rows"
        assert run.record()["metric"]["name"] == "span_f1"


@pytest.mark.parametrize(
    "template", [pytest.param(PLAIN, marks=pytest.mark.rest), pytest.param(None, marks=pytest.mark.slow)]
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
    odd = {**SAYS, "content": "\\n\u2028 #| no"}
    talk = [{"role": "system", "content": "Say \"'''\"."}, ASKS, SAYS, ASKS, odd]
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


@pytest.mark.parametrize("slug", ["lora", pytest.param("bitfit", marks=pytest.mark.rest)])
def test_a_run_on_images_is_repeated(slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path / "home"))
    folder, images = homemade.folder("vit", tmp_path / "my-vit"), homemade.images(tmp_path / "images")
    run = finish(RunRequest(folder, slug, "own", {}, steps=3, batch=4, eval_rows=2, own_data=images))
    left = carry_out(run, tmp_path, monkeypatch)
    assert_same(run, left)
    assert_same_adapter(run, left)
    assert_clean(tmp_path / "repeat.py")
    card = takeaway.model_card(run)
    assert 'pipeline_tag: "image-classification"' in card and "16 × 16 pixels" in card
    assert_loads(run, card, Path(left["OUT"]))


@pytest.mark.weights
@pytest.mark.slow
def test_a_fresh_process_repeats_a_run_of_a_live_model_and_ends_in_one_sentence_without_its_base(
    session_home: Path, tmp_path: Path
) -> None:
    """With the weights that the app fetched, in a folder that knows nothing of the app; then without them and without a
    network."""
    run = finish(RunRequest("minilm-l6", "lora", "sentiment", steps=3, batch=4, eval_rows=8))
    path = tmp_path / "repeat.py"
    path.write_text(takeaway.script(run), "utf-8")
    assert_clean(path)

    def begun(**environment: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        call = [sys.executable, str(path)]
        return subprocess.run(
            call,
            cwd=tmp_path,
            env=kept | environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    done = begun(PEFT_LAB_HOME=str(session_home))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].rpartition(" ")[2]) < SAME, done.stdout
    assert (tmp_path / run.id / "adapter_model.safetensors").is_file()
    store.delete(run.id)
    none = str(tmp_path / "none")
    done = begun(HF_HUB_OFFLINE="1", HF_HOME=none, PIP_NO_INDEX="1", PEFT_LAB_HOME=none)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "could not be fetched: connect to the internet" in done.stderr.splitlines()[-1]


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


def test_cells_are_the_sections_of_the_script(plain: Plain) -> None:
    run = plain("encoder", "lora")
    text, script = takeaway.notebook(run), takeaway.script(run)
    assert text == takeaway.notebook(run), "equal runs make equal files"
    own = [source for source in cells(text) if source not in script]
    assert len(own) == 1 and "DATA = " in own[0], "only the rows come another way"
    hidden = [
        cell for cell in json.loads(text)["cells"] if cell["metadata"].get("jupyter", {}).get("source_hidden")
    ]
    assert len(hidden) == 1


@pytest.mark.slow
@pytest.mark.weights
def test_without_the_lab_a_script_fetches_and_rebuilds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finish(RunRequest("dinov2-small", "bitfit", "digits", {}, steps=2, batch=4, eval_rows=4))
    text = takeaway.script(run)
    assert "onnx" in text
    assert text.count("def fetched(") == 1, "weights and images are fetched by the same function"
    monkeypatch.setenv("PEFT_LAB_HOME", str(tmp_path / "nowhere"))
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart/repeat.py").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path / "apart")
    assert_same(run, runpy.run_path("repeat.py"))
    assert (tmp_path / "apart/mnist_5k.csv.gz").is_file()
