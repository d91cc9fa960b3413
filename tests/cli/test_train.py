"""train and runs on the command line, on images too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_lab.cli import train
from peft_lab.core import inspector, units
from peft_lab.engine.timing import here
from peft_lab.engine.timing.kernels import CONSTANTS
from peft_lab.engine.work import Op, Piece
from peft_lab.runs import kept as said_module
from peft_lab.runs import store
from peft_lab.runs.forecast import RunWork
from peft_lab.runs.spec import RunRequest, RunSpec
from peft_lab.runs.view import Status
from tests.cli.conftest import REPO, Run
from tests.models import homemade
from tests.prose import says
from tests.waits import SECONDS

TINY = ("--model", "minilm-l6", "--task", "sentiment", "--steps", "3", "--batch", "4", "--eval-rows", "8")
CONTRACT = {
    "run_id",
    "status",
    "steps",
    "seconds",
    "steps_per_second",
    "tokens_per_second",
    "loss",
    "metric",
    "memory",
    "simulated_peak_bytes",
    "trainable",
    "adapter_dir",
}


class FakeQueue:
    """Runs that have ended as soon as they are submitted, in the way that is asked for."""

    def __init__(self, ending: str, message: str) -> None:
        self.ending, self.message = ending, message

    def submit(self, spec: RunRequest) -> str:
        run = store.create(spec.complete())
        run.log.emit("queued", owner={"pid": os.getpid(), "started": time.time()})
        run.log.emit("starting")
        ready = {"trainable": 10, "total": 100, "head": 2, "dtype": "float32", "device": "cpu", "rows": 4}
        run.log.emit("ready", **ready, values={}, learning_rate=1.0)
        answers = {"base": "negative", "tuned": "positive"}
        for which in answers if spec.probes else ():
            told = [
                {"text": text, "answer": answers[which], "scores": {answers[which]: 0.75}}
                for text in spec.probes
            ]
            run.log.emit("probe", which=which, answers=told)
        run.log.emit("step", step=1, loss=0.7, lr=1.0, grad_norm=1.0, tokens=40, seconds=0.5)
        run.log.emit(self.ending, message=self.message)
        return run.id


@pytest.fixture
def ends(own_home: Path, assets_home: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Make every run end in a given way, in a store of its own."""
    own_home.mkdir()
    for part in ("models", "data"):
        (own_home / part).symlink_to(assets_home / part, target_is_directory=True)

    def prepare(ending: str, message: str = "") -> None:
        monkeypatch.setattr(train, "training_queue", lambda: FakeQueue(ending, message))

    return prepare


@pytest.mark.weights
@pytest.mark.parametrize(("ending", "status"), [("done", 0), ("failed", 1), ("lost", 1), ("stopped", 1)])
def test_the_exit_status_tells_how_the_run_ended(run: Run, ends: object, ending: str, status: int) -> None:
    ends(ending, "memory\nran out")  # type: ignore[operator]
    done = run("train", *TINY, "--method", "lora", "--json")
    document = json.loads(done.stdout)
    assert done.status == status
    assert document["status"] == ending
    assert set(document) >= CONTRACT
    assert document["loss"] == [0.7]
    last = done.stderr.splitlines()[-1:]
    assert last == (
        [f"error: {document['run_id']} {ending}: memory ran out"] if status else ["Training: started"]
    )
    shown = run("runs", document["run_id"]).stdout
    assert ending in shown
    assert "0.700" in shown
    assert document["run_id"] in run("runs").stdout
    assert says(run("runs", document["run_id"], "--stop").stderr, ending)


@pytest.mark.weights
def test_how_long_it_takes_is_said_before_and_compared_after(
    run: Run, ends: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of Train's button and of its tab, and kept with the run."""
    ends("done")
    asked: list[RunSpec] = []

    def ask(_: object, work: object, spec: dict[str, Any]) -> RunWork:
        asked.append(RunSpec.from_dict(spec))
        forward = Piece("forward", 1, ((Op("matmul16", 1000, 0), 1),))
        return RunWork((forward,), 10.0, 80.0, (), (0, 0), 50, False, {"model": "minilm-l6"})

    monkeypatch.setattr(inspector.Inspector, "ask", ask)
    assert "Train:" not in run("train", *TINY, "--method", "lora").stderr  # nobody measured the machine
    assert not asked
    quick = dict.fromkeys(("start", "column", "ask", "view"), 0.0)
    constants = dict.fromkeys(CONSTANTS, 1e12) | quick | {"matmul16": 100.0}
    here.keep({"constants": constants, "loading": {"models": {"minilm-l6": [2.0, 50.0]}, "pack": 1.0}})
    done = run("train", *TINY, "--method", "lora", "--json")
    assert [(spec.method, spec.steps, spec.eval_rows) for spec in asked] == [("lora", 3, 8)]
    # loading, three steps of 10 s, what recording may take, eight rows of ten tokens at 1 s each; and the base's
    seconds = 2 + 30 + 0.6 * (3 + 0.04 * 30) + 80 + 2 + 80
    assert says(done.stderr, units.roughly(seconds), "Simulated")
    expected = done.document["expected"]
    assert expected["seconds"] == pytest.approx(seconds) and expected["source"] == "simulated"
    line = store.summary(store.get(done.document["run_id"]))
    assert line.kept is not None and line.kept.took == expected["took"] == line.seconds
    words = said_module.beside_forecasts(expected["seconds"], expected["took"])
    assert f"estimated {units.roughly(seconds)} (+" in words
    assert words in run("runs", done.document["run_id"]).stdout
    # the next is corrected by what this one took
    again = run("train", *TINY, "--method", "lora").stderr
    assert says(again, "Simulated", "corrected")


@pytest.mark.weights
def test_the_run_store(run: Run, ends: object) -> None:
    assert run("runs", "--json").document == []
    assert "No runs yet" in run("runs").stdout
    ends("done")  # type: ignore[operator]
    identity = run("train", *TINY, "--method", "lora", "--json").document["run_id"]
    (summary,) = run("runs", "--json").document
    assert (summary["id"], summary["status"], summary["method"]) == (identity, "done", "lora")
    assert run("runs", identity, "--json").document["spec"]["steps"] == 3
    assert run("runs", identity, "--delete", "--json").document["deleted"] is True
    assert run("runs", "--json").document == []
    assert identity in run("runs", identity).refused()


@pytest.mark.weights
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "lora", "--steps", "0"], "Steps"),
        (["--method", "lora", "--steps", "many"], "--steps"),
        (["--method", "lora", "--lr", "nan"], "Learning rate"),
        (["--method", "lora", "--seed", "-1"], "Seed"),
        (["--method", "lora", "--task", "json"], "encoder"),
        (["--method", "lora", "--task", "sentimant"], "'sentiment'"),
        (["--method", "lora", "--task", "own"], "--own"),
        (["--method", "lora", "--own", "x.csv"], "--own"),
        (["--method", "lora", "--model", "gpt2"], "shape"),
        (["--method", "lora,ia3"], "lora,ia3"),
        (["--method", "prefix"], "Prefix"),
        (["--method", "lora", "--set", "r=0"], "Rank"),
        (["--method", "lora", "--out", str(REPO)], "--out"),
        (["--method", "lora", "--out", str(REPO / "LICENSE")], "--out"),
    ],
)
def test_bad_input_starts_nothing(run: Run, arguments: list[str], said: str) -> None:
    before = store.runs()
    assert said in run("train", *TINY, *arguments).refused()
    assert store.runs() == before


@pytest.mark.weights
@pytest.mark.slow
def test_training_to_the_end(run_process: Run, assets_home: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{word} thing number {n}", "label": word} for n in range(8) for word in ("good", "bad")]
    data, out = tmp_path / "mine.jsonl", tmp_path / "adapter"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    arguments = ("--model", "minilm-l6", "--steps", "3", "--batch", "4", "--method", "ia3")
    done = run_process(
        "train", *arguments, "--own", str(data), "--out", str(out), "--probe", "good", "--json"
    ).document
    assert set(done) >= CONTRACT
    assert (done["status"], done["steps"], len(done["loss"])) == (Status.DONE, 3, 3)
    assert done["metric"]["after"] is not None
    assert done["memory"]["source"] == "measured"
    assert isinstance(done["memory"]["peak_bytes"], int)
    assert done["simulated_peak_bytes"] == pytest.approx(done["memory"]["peak_bytes"], rel=0.01)
    assert done["adapter_dir"] == str(out)
    assert (out / "adapter_model.safetensors").stat().st_size > 0
    # Nobody else has the folder of this machine that the base was loaded from.
    home = str(assets_home.resolve())
    for name in ("README.md", "LICENSES.md", "adapter_config.json"):
        text = (out / name).read_text("utf-8")
        assert "sentence-transformers/all-MiniLM-L6-v2" in text
        assert str(assets_home) not in text and home not in text
    assert f"{done['metric']['after']:.4f}" in (out / "README.md").read_text("utf-8")
    assert store.summary(store.get(done["run_id"])).task == "own"


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.skipif(sys.platform == "win32", reason="signals of process groups are POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_keeps_its_adapter(
    own_home: Path, assets_home: Path, number: signal.Signals
) -> None:
    """Ctrl-C as a terminal sends it, SIGTERM as a scheduler does: to the command and all its children."""
    own_home.mkdir()
    for part in ("models", "data"):
        (own_home / part).symlink_to(assets_home / part, target_is_directory=True)
    command = [
        sys.executable,
        "-m",
        "peft_lab",
        "train",
        *TINY,
        "--steps",
        "5000",
        "--method",
        "ia3",
        "--json",
    ]
    child = subprocess.Popen(
        command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while child.poll() is None and not any(one.view().step for one in store.runs()):
            time.sleep(0.1)
        os.killpg(child.pid, number)
        out, err = child.communicate(timeout=SECONDS)
    finally:
        child.kill()
    document = json.loads(out)
    assert child.returncode == 128 + number
    assert document["status"] == Status.STOPPED
    assert (Path(document["adapter_dir"]) / "adapter_model.safetensors").stat().st_size > 0
    assert 0 < document["steps"] < 5000
    assert err.splitlines()[-1].startswith(f"{document['run_id']} stopped: ")
    assert "Traceback" not in err


@pytest.mark.weights
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--continue", "nothing"), "'nothing'"),
        (("--continue", "x", "--steps", "9"), "Leave --steps out"),
        (("--continue", "x", "--set", "r=4"), "Leave --set out"),
        (("--method", "lora"), "--model and --method"),
    ],
)
def test_a_run_to_go_on_with_stands_alone(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in run("train", *arguments).refused()


STEPS = 3
BATCH = 20  # more than the 12 images to train on: some are in a batch twice


@pytest.fixture
def vit(tmp_path: Path) -> str:
    return homemade.folder("vit", tmp_path / "my-vit")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return Path(homemade.images(tmp_path / "images"))


@pytest.mark.slow
def test_from_a_folder_of_images_to_a_script(
    run: Run, vit: str, images: Path, own_home: Path, tmp_path: Path
) -> None:
    asked = ("--method", "lora", "--own", str(images), "--steps", str(STEPS), "--batch", str(BATCH))
    trained = run("train", "--model", vit, *asked, "--json").document
    assert trained["status"] == "done" and trained["metric"]["rows"] == 4
    assert trained["memory"]["rows"] == BATCH and trained["simulated_peak_bytes"] > 0
    assert (
        run("count", "--model", vit, "--method", "lora", "--json").document[0]["trainable"]
        == (trained["trainable"])
    )
    assert "16 × 16 pixels" in run("memory", "--model", vit, "--method", "lora", "--batch", "4").stdout
    assert "--batch" in run("memory", "--model", vit, "--method", "lora").refused()
    shown = run("runs", trained["run_id"])
    assert shown.status == 0 and says(shown.stdout, "accuracy", "4 held-out")
    script = tmp_path / "repeat.py"
    assert run("export", trained["run_id"], "--out", str(script)).status == 0
    head = script.read_text().split('"""')[1]
    assert "pillow" in head and says(" ".join(head.split()), 12, "4 held out", "zip")


def _broken(images: Path) -> None:
    (images / "blue/3.png").write_bytes((images / "blue/3.png").read_bytes()[:200])


def _one_class(images: Path) -> None:
    shutil.rmtree(images / "blue")


def _no_class(images: Path) -> None:
    (images / "loose.png").write_bytes((images / "blue/3.png").read_bytes())


def _empty(images: Path) -> None:
    for name in ("red", "blue"):
        shutil.rmtree(images / name)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_broken, "'blue/3.png' is damaged"),
        (_one_class, "folder 'red'"),
        (_no_class, "'loose.png'"),
        (_empty, "contains no images"),
    ],
)
def test_images_that_cannot_be_trained_on(
    spoil: Callable[[Path], None], said: str, run: Run, vit: str, images: Path, own_home: Path
) -> None:
    spoil(images)
    assert said in run("train", "--model", vit, "--method", "lora", "--own", str(images)).refused()
    assert not (own_home / "runs").exists()


def test_plan_and_choose_know_texts_only(run: Run, vit: str) -> None:
    assert says(run("plan", "--model", vit, "--gpu", "24GB").refused(), "Plan", "only text")
    choose = run("recommend", "--answer", f"model={vit}", "--answer", "device=24GB")
    assert says(choose.refused(), "Choose", "only text")
