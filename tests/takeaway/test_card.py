"""The model card and the zip: every figure from the run, and an adapter that loads by the card's own code."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from peft_lab import takeaway
from peft_lab.core.errors import BadInput
from peft_lab.drawing.trajectory import recorder
from peft_lab.drawing.trajectory.format import shipped
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.catalogue import get_model
from peft_lab.runs import course, kept, store
from peft_lab.runs.spec import RunRequest
from peft_lab.takeaway import card
from tests.takeaway.conftest import Plain, Train, assert_loads, finish
from tests.waits import SECONDS


def unpack(content: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)


def test_the_adapter_is_given_away_with_its_card(plain: Plain, tmp_path: Path) -> None:
    """The card in the run's own folder, and the same in the folder that is given away."""
    run = plain("causal-lm", "lora")
    card = (run.adapter / "README.md").read_text("utf-8")
    code = card.partition("```python")[2].partition("```")[0]
    assert "peft_lab" not in code and card == takeaway.model_card(run)
    unpack(takeaway.adapter_zip(run), tmp_path)
    given = tmp_path / run.id
    assert {path.name: path.read_bytes() for path in given.iterdir()} == {
        path.name: path.read_bytes() for path in run.adapter.iterdir()
    }
    for path in given.glob("*[mn]"):  # .json, .md
        assert str(Path(run.spec.model).parent) not in path.read_text("utf-8"), path.name
    assert_loads(run, card, given)


def test_the_card_is_filled_in_from_the_run(train: Train) -> None:
    run = train("encoder", "lora", {"r": 3}, steps=2)
    card, record = takeaway.model_card(run), run.record()
    for number in (
        f"{record['evaluation']['before']['accuracy']:.4f}",
        f"{record['evaluation']['after']['loss']:.4f}",
        f"{record['trainable']:,}",
        f"On {record['metric']['rows']:,} held-out rows",
        run.id,
        record["packages"]["peft"],
        "| Rank r | `r` | 3 |",
        "2106.09685",
    ):
        assert number in card
    front = card.split("---\n")[1]
    fields = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert "base_model" not in fields, "a folder has no public name, and the Hub takes no other"
    assert json.loads(fields["library_name"]) == "peft"


def test_the_card_names_the_settings_that_were_in_force(train: Train) -> None:
    card = takeaway.model_card(train("encoder", "qlora", {"load_in_8bit": True}, steps=1, eval_rows=0))
    assert "not scored" in card and "base | tuned" not in card
    assert "`load_in_8bit`" in card and "`bnb_4bit_quant_type`" not in card


@pytest.mark.weights
def test_a_zip_names_no_folder_of_this_machine(assets_home: Path, tmp_path: Path) -> None:
    """Of a live model: its public name stands in the config, in the card and in the front matter."""
    spec = RunRequest(
        "minilm-l6", "prompt", "sentiment", {"prompt_tuning_init": "TEXT"}, steps=1, batch=2, eval_rows=0
    )
    run = finish(spec)
    content = takeaway.adapter_zip(run)
    assert content == takeaway.adapter_zip(run)
    unpack(content, tmp_path)
    files = {path.name: path for path in (tmp_path / run.id).iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "README.md", "LICENSES.md"}
    for name in ("adapter_config.json", "README.md", "LICENSES.md"):
        text = files[name].read_text("utf-8")
        assert str(assets_home) not in text and "sentence-transformers/all-MiniLM-L6-v2" in text
    assert str(assets_home) not in takeaway.script(run)
    store.delete(run.id)


def test_a_run_stopped_before_its_first_step_has_a_card_too(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its adapter is saved as it started, and says so."""
    monkeypatch.setattr(store.Run, "asked_to_stop", lambda run: True)
    run = train("encoder", "bitfit", steps=6)
    card = (run.adapter / "README.md").read_text("utf-8")
    assert "| steps | 0 of 6 (stopped) |" in card and "not scored" in card
    assert_loads(run, card, run.adapter)


def test_a_card_that_cannot_be_written_does_not_cost_the_run_its_end(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full to the last byte: the run has ended all the same, with its adapter as it was saved."""

    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(card, "model_card", full)
    with pytest.raises(OSError, match="No space"):
        train("encoder", "lora", steps=1, eval_rows=0)
    run = store.runs()[0]
    assert run.view().status == "done" and run.record()["status"] == "done"
    assert json.loads((run.adapter / "adapter_config.json").read_text("utf-8"))["peft_type"] == "LORA"


def test_no_folder_of_an_adapter_holds_peft_s_blank_card(tiny: dict[str, str], tmp_path: Path) -> None:
    """Nor does one whose run was lost between saving and its end."""
    from peft_lab.methods import get_method

    spec = RunRequest(tiny["causal-lm"], "lora", "json", steps=1).complete()
    base, method = course.fresh_base(spec, spec.task_object()), get_method("lora")
    method.save(method.apply(base.model, base.entry.shape, spec.values, "CAUSAL_LM"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.weights
@pytest.mark.slow
def test_the_card_of_a_live_model_loads_by_its_public_name(assets_home: Path, tmp_path: Path) -> None:
    """In a process that has nothing but the libraries, and the base where the hub's downloads are kept."""
    model = "minilm-l6"
    run = finish(RunRequest(model, "adapters", "sentiment", steps=1, batch=2, eval_rows=0))
    public = str(ASSETS[model].hub_id)
    kept = tmp_path / "hub" / f"models--{public.replace('/', '--')}"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    (kept / "snapshots").mkdir()
    (kept / "snapshots" / ("0" * 40)).symlink_to(assets_home / ASSETS[model].folder, target_is_directory=True)
    code = (run.adapter / "README.md").read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    assert f'BASE = "{public}"' in code
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(sum(p.numel() for p in model.parameters()))"],
        cwd=run.adapter,
        env={**environment, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    added = run.record()["trainable"] + run.record()["head"]
    assert int(done.stdout.split()[-1]) == get_model(model).shape.total + added
    store.delete(run.id)


def page_of(**changes: object) -> str:
    found = shipped("bitfit")
    return card.living_page(replace(found, **changes), get_model(found.model.name).shape)  # type: ignore[arg-type]


def test_only_its_own_script_may_run_and_nothing_is_fetched() -> None:
    text = page_of()
    (script,) = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{allowed}';" in text
    outside = re.findall(
        r"""(?:src|href)\s*=\s*["'](?!#)|url\((?!#)|@import|https?://(?!www\.w3\.org)""", text
    )
    assert not outside


def test_what_a_learner_wrote_stays_text() -> None:
    found = shipped("bitfit")
    assert found.example is not None
    nasty = "</script><script>alert(1)</script>"
    text = page_of(example=replace(found.example, text=nasty), spec={**found.spec, "own_data": nasty})
    assert nasty not in text and text.count("<script") == 2


def test_a_run_without_a_trajectory_says_why(assets_home: Path) -> None:
    run = store.create(RunRequest("minilm-l6", "bitfit", "sentiment", steps=2).complete())
    with pytest.raises(BadInput, match="recorded no steps"):
        takeaway.living_html(run)
    (run.folder / kept.TRAJECTORY).write_text(
        recorder.compact_trajectory(shipped("bitfit").to_dict()), "utf-8"
    )
    assert "BitFit on" in takeaway.living_html(run)
