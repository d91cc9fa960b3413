"""A run's adapters as a folder of the adapters library, and such a folder scored and trained on."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core.errors import BadInput
from peft_lab.methods import get_method
from peft_lab.methods.shared import adapters_library as library_files
from peft_lab.runs import course, respond
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run
from peft_lab.takeaway import bundle, model_card
from peft_lab.training.step import cast_added
from tests.takeaway.conftest import Train, finish

VALUES = {"placement": "seq_bn", "bottleneck": 6, "nonlinearity": "relu", "init_std": 0.3}


@pytest.fixture(params=["encoder", "causal-lm", "seq2seq"])
def trained(request: pytest.FixtureRequest, train: Train) -> Run:
    return train(request.param, "adapters", VALUES, learning_rate=0.02)


def tuned(run: Run) -> Any:
    base = course.fresh_base(run.spec, run.spec.task_object())
    model = get_method("adapters").load(base.model, run.adapter)
    cast_added(model, base.dtype)
    return model


@pytest.mark.sampled(3)
def test_a_folder_scores_as_the_run_that_wrote_it_and_is_trained_on(trained: Run, tmp_path: Path) -> None:
    folder, spec = tmp_path / "theirs", trained.spec
    bundle.write_library_folder(trained, folder)
    read = respond.opened_values(folder, spec.model)
    assert read == {"placement": "seq_bn", "bottleneck": 6, "nonlinearity": "relu"}
    found = respond.opened_scores(str(folder), spec.model, spec.task, spec.own_data, spec.eval_rows)
    after = trained.view().after
    assert after is not None
    assert found["opened"]["metrics"] == pytest.approx(after.metrics)
    assert found["opened"]["loss"] == pytest.approx(after.loss, rel=1e-3)
    assert found["base"]["loss"] != pytest.approx(after.loss, rel=1e-3)
    asked = RunRequest(
        spec.model, "adapters", spec.task, values=read, own_data=spec.own_data, start=str(folder), steps=1, batch=4,
        eval_rows=5, learning_rate=1e-9,
    )  # fmt: skip
    run = finish(asked)
    assert run.spec.start == str(run.folder / "start.zip")
    before, now = (dict(get_method("adapters").state(tuned(each))) for each in (trained, run))
    assert before.keys() == now.keys()
    assert all((before[name] - now[name]).abs().max() < 1e-2 for name in before)
    assert "| start | an adapter that the adapters library saved |" in model_card(run)


def test_what_a_folder_does_not_fit_is_refused(train: Train, tmp_path: Path) -> None:
    run = train("encoder", "adapters", VALUES)
    folder = tmp_path / "theirs"
    bundle.write_library_folder(run, folder)
    asked = RunRequest(
        run.spec.model, "adapters", "own", values={**VALUES, "bottleneck": 8}, own_data=run.spec.own_data,
        start=str(folder),
    )  # fmt: skip
    with pytest.raises(BadInput, match="The folder has bottleneck 6, but the settings have 8"):
        asked.complete()
    with pytest.raises(BadInput, match="needs the method 'adapters', not 'lora'"):
        replace(asked, method="lora", values={}).complete()
    head = json.loads((folder / "head_config.json").read_text("utf-8"))
    (folder / "head_config.json").write_text(json.dumps({**head, "label2id": {"no": 0, "yes": 1}}), "utf-8")
    with pytest.raises(BadInput, match="has the labels no, yes, but 'own' has bad, good"):
        replace(asked, values=VALUES).complete()


def test_what_the_library_has_not_got_is_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no placement equal to pfeiffer"):
        bundle.write_library_folder(train("encoder", "adapters", {"placement": "pfeiffer"}), tmp_path / "a")
    with pytest.raises(BadInput, match="Only bottleneck adapters can be exported"):
        bundle.write_library_folder(train("encoder", "ia3"), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_zip_holds_the_folder_and_is_made_once(train: Train, tmp_path: Path) -> None:
    run = train("causal-lm", "adapters", {"placement": "par_bn", "bottleneck": 4})
    path = Path(bundle.zipped_library_folder(run.id))
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        names = [name.removeprefix(f"{run.id}/") for name in archive.namelist()]
        assert names == sorted([library_files.CONFIG, *library_files.WEIGHTS])
        archive.extractall(tmp_path)
    assert respond.opened_values(tmp_path / run.id, run.spec.model)["scale"] == 4.0
    stamp = path.stat().st_mtime_ns
    assert bundle.zipped_library_folder(run.id) == str(path) and path.stat().st_mtime_ns == stamp
    assert not [each for each in run.folder.iterdir() if each.name.startswith(".library")]
