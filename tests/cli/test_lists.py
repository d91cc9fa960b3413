"""Commands that list or read what is there: the keys of the contract, their values against the library, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from safetensors.numpy import save_file

from peft_lab import takeaway
from peft_lab.advise.recipes.replications import replications
from peft_lab.atlas import rows
from peft_lab.cli import machine
from peft_lab.core import disk
from peft_lab.core.errors import BadInput
from peft_lab.interview import claims as kept_claims
from peft_lab.interview.bank import select
from peft_lab.interview.claims import all_claims
from peft_lab.methods import all_methods, get_method
from peft_lab.models.assets import store as assets
from peft_lab.models.catalogue import get_model, known_models
from peft_lab.runs import store
from peft_lab.runs.spec import RunSpec
from peft_lab.training.tasks import all_tasks
from tests.cli.conftest import Run
from tests.models.assets import adapters_folders as saved
from tests.prose import says

KNOB = {"name", "kind", "default", "min", "max", "choices", "help"}
QUICK = [
    name for name, claim in all_claims().items() if claim.needs == "shape" or kept_claims.kept_result(name)
]


@pytest.mark.weights
@pytest.mark.parametrize(
    ("words", "keys", "names"),
    [
        ("methods", {"slug", "title", "knobs", "supports", "paper"}, list(all_methods())),
        ("models", {"name", "kind", "live", "parameters", "revision", "source"}, list(known_models())),
        (
            "tasks",
            {"name", "kind", "rows", "metric", "source", "license"},
            [task.name for task in all_tasks()],
        ),
        (
            "questions --topic lora",
            {"id", "topic", "level", "question", "computed", "answer", "sources"},
            [question.id for question in select(["lora"])],
        ),
        (
            f"claims --claim {','.join(QUICK)}",
            {"claim", "stated", "found", "verdict", "source", "how"},
            QUICK,
        ),
        (
            "atlas vera --model smollm2-135m",
            {"type", "title", "family", "parent", "update", "paper", "formula", "capabilities", "published"},
            ["VERA"],
        ),
    ],
)
def test_a_list_has_a_row_for_each_with_the_contracts_keys(
    run: Run, words: str, keys: set[str], names: list[str]
) -> None:
    found = run(*words.split(), "--json").document
    assert [row.get("slug") or row.get("name") or row.get("id") or row["type"] for row in found] == names
    assert all(keys <= set(row) for row in found)


def test_knobs_and_their_defaults_follow_the_model(run: Run) -> None:
    def knobs(*arguments: str) -> dict[str, dict[str, Any]]:
        lora = next(row for row in run("methods", "--json", *arguments).document if row["slug"] == "lora")
        return {knob["name"]: knob for knob in lora["knobs"]}

    assert all(set(knob) == KNOB and knob["help"] for knob in knobs().values())
    defaults = [knobs(*more)["target_modules"]["default"] for more in ((), ("--model", "gpt2"))]
    assert defaults == [None, ["c_attn"]]


def test_figures_of_questions_claims_and_types_are_counted(run: Run) -> None:
    asked = ("questions", "--topic", "lora", "--topic", "ia3", "--model", "bert-base", "--json")
    by_id = {row["id"]: row for row in run(*asked).document}
    assert by_id["ia3-vectors"]["value"] == 12 * (768 + 768 + 3072) and by_id["ia3-vectors"]["computed"]
    assert by_id["ia3-start"]["model"] is None and not by_id["ia3-start"]["computed"]
    counted = run("claims", "--claim", "lora-count", "--json").document[0]
    assert counted["values"] == {"trainable": 4_587_520, "total": 3_217_337_344}
    claim = ("claims", "--claim", "ia3-share", "--json", "--model")
    verdicts = [run(*claim, model).document[0]["verdict"] for model in ("bert-base", "llama-3.2-3b")]
    assert verdicts == ["imprecise", "right"]
    (vera,) = run("atlas", "vera", "--model", "smollm2-135m", "--json").document
    assert vera["count"]["trainable"] == vera["count"]["formula"] == 30 * (256 + 576 + 256 + 192)
    assert set(vera["capabilities"]) == set(rows.CAPABILITIES)
    assert all(vera["why"][name] for name, value in vera["capabilities"].items() if not value)


@pytest.mark.slow
@pytest.mark.weights
def test_a_second_fetch_only_hashes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "download", None)
    found = run("fetch", "--json").document
    assert {row["name"]: row["sha256"] for row in found} == {
        name: asset.sha256 for name, asset in assets.ASSETS.items()
    }
    assert all(row["seconds"] < 30 for row in found)  # half a second on a quiet machine


def test_fetch_draws_its_progress_on_stderr(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(names: object, progress: assets.Progress) -> list[assets.FetchResult]:
        progress("minilm-l6", 0.5)
        progress("minilm-l6", 1.0)
        return [assets.FetchResult("minilm-l6", disk.home(), 1, "0" * 64, 0.1)]

    monkeypatch.setattr(assets, "fetch", slow)
    done = run("fetch", "minilm-l6", "--json")
    assert done.document[0]["bytes"] == 1
    title = assets.ASSETS["minilm-l6"].title
    assert done.stderr == f"{title}: started\n{title}: done\n"


def test_tasks_whose_data_is_missing_say_why(run: Run, own_home: Path) -> None:
    done = run("tasks", "--json")
    missing = [row["name"] for row in done.document if row["rows"] is None]
    assert missing == [task.name for task in all_tasks() if task.kind == "classification"]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == missing


def test_doctor_reports_what_it_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine.examine()
    found["checks"].append({"name": "Weather", "ok": False, "detail": "[rain] stay in"})
    monkeypatch.setattr(machine, "examine", lambda verify: found)
    document = run("doctor", "--json").document
    assert set(document) >= {"python", "packages", "device", "cpu_features", "memory", "assets", "checks"}
    assert says(run("doctor").stdout, "NOT OK", "[rain] stay in")


# ----------------------------------------
# Advice.


def test_a_recommendation_has_a_plan_whose_every_value_has_band_and_source(run: Run) -> None:
    found = run("recommend", "--json").document
    assert {"method", "why", "runner_up", "flips_if", "path", "config", "unknown"} <= set(found)
    assert found["method"] == "lora" != found["runner_up"]
    shape = get_model("llama-3.2-3b").shape
    values = get_method("lora").require(shape, found["config"])
    assert {name: values[name] for name in ("r", "lora_alpha")} == {
        name: found["config"][name] for name in ("r", "lora_alpha")
    }
    assert found["headroom"] == 1 - found["peak_bytes"] / found["device_bytes"] >= 0.05
    assert found["seconds"]["low"] < found["seconds"]["high"]
    plan = found["plan"]
    assert {"learning_rate", "epochs", "batch", "optimizer", "dtype", "sharding", *found["config"]} <= set(
        plan
    )
    for name, field in plan.items():
        assert {"value", "band", "source", "kind"} <= set(field) and field["source"], name
        for source in field["sources"]:
            seen = replications()[source["rule"]]
            assert source["here"]["value"] == seen.value
    rate = plan["learning_rate"]
    assert rate["kind"] == "cited" and rate["band"][0] <= rate["value"] <= rate["band"][1]
    flipped = {(flip["question"], flip["method"]) for flip in found["flips_if"]}
    assert {("base", "qlora"), ("prompting", "prompting"), ("prompting", "retrieval")} <= flipped


def test_where_nothing_fits_the_nearest_is_named(run: Run) -> None:
    found = run("recommend", "--answer", "base=none", "--json").document
    assert found["plan"] is None and found["peak_bytes"] is None and found["config"] == {}
    assert set(found["nearest"]) == {"device", "model"}


# ----------------------------------------
# Adapters: diagnosed, shipped, checked, opened; runs, exported.


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    folder = tmp_path / "a"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 0, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    path = "base_model.model.model.layers.0.self_attn.q_proj"
    sides = {"A": np.ones((4, 576), np.float32), "B": np.zeros((576, 4), np.float32)}
    tensors = {f"{path}.lora_{side}.weight": values for side, values in sides.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return str(folder)


def test_faults_are_ranked_and_without_one_it_says_what_was_not_looked_at(
    run: Run, adapter: str, tmp_path: Path
) -> None:
    found = run("diagnose", "--adapter", adapter, "--json").document
    assert {each["fault"] for each in found} >= {"alpha-zero", "never-trained"}
    assert {"fault", "probability", "evidence", "fix", "reference"} <= set(found[0])
    chances = [each["probability"] for each in found]
    assert chances == sorted(chances, reverse=True)
    log = tmp_path / "log.csv"
    log.write_text("step,loss\n" + "\n".join(f"{n},{2 / (n + 1)}" for n in range(20)))
    done = run("diagnose", "--log", str(log), "--json")
    assert done.document == [] and "the adapter's weights" in done.stderr


def test_the_passport_and_the_stages_are_what_the_contract_names(run: Run, adapter: str) -> None:
    found = run("ship", adapter, "--base", "smollm2-135m", "--json").document
    verdicts = {row["engine"]: row["verdict"] for row in found}
    assert [verdicts[name] for name in ("peft", "vllm", "tgi")] == ["runs", "change", "wrong"]
    for row in found:
        assert {"engine", "version", "verdict", "reasons", "change", "measured"} <= set(row)
        assert all({"what", "where", "source"} <= set(reason) for reason in row["reasons"])
    stages = run("check", adapter, "--base", "smollm2-135m", "--json").document
    assert [row["stage"] for row in stages] == ["trained", "saved", "base", "loads", "merges", "serves"]
    assert stages[3]["ok"] is False and "layers.0.self_attn.v_proj" in stages[3]["evidence"]


def test_files_for_an_engine_are_written_and_read_back(run: Run, adapter: str, tmp_path: Path) -> None:
    asked = ("ship", adapter, "--base", "smollm2-135m", "--to", "mlx", "--out", str(tmp_path / "out"))
    found = run(*asked, "--json").document
    assert found.keys() == {"files", "command", "compared"}
    names = {Path(one["path"]).name for one in found["files"] if one.keys() == {"path", "bytes", "sha256"}}
    assert names == {"adapters.safetensors", "adapter_config.json"}
    assert found["compared"]["max_difference"] == 0
    assert "not empty" in run(*asked).refused()


def test_a_folder_of_the_adapters_library_is_counted_and_trained_on(run: Run, tmp_path: Path) -> None:
    """Of the config of the recorded folder's base, without weights."""
    from tests.models.assets import adapters_library as made

    folder = str(saved.FOLDER / saved.CLASSIFIER)
    config = {"model_type": "bert", "architectures": ["BertModel"], **made._ENCODER}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    model = ("--model", str(tmp_path))
    counted = run("count", *model, "--adapter-config", folder, "--json")
    assert [(each["method"], each["trainable"]) for each in counted.document] == [
        ("adapters", 2 * (2 * 16 * 4 + 16 + 4))
    ]
    document = run("open", folder, *model, "--json").document
    assert document["values"] == {"placement": "seq_bn", "bottleneck": 4, "nonlinearity": "gelu"}
    assert document["count"]["trainable"] == counted.document[0]["trainable"] and document["scores"] is None
    start = ("train", *model, "--task", "sentiment", "--start", folder, "--method", "lora")
    assert says(run(*start).refused(), "adapters", "--method lora")
    others = json.loads(saved.FILE.read_text("utf-8"))["others"]
    for name in ("mam", "unipelt", "compacter", "prefix_tuning"):
        (tmp_path / "adapter_config.json").write_text(json.dumps(others[name]), "utf-8")
        refused = run("count", "--adapter-config", str(tmp_path), *model).refused()
        assert "adapters library" in refused


def test_what_is_exported_is_what_take_away_makes(
    run: Run, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = 'print("[bold]é[/] :smile: \\t" + "x" * 300)\n\tif "\\\\[": pass  \n'
    fields: dict[str, Any] = {
        "steps": 60,
        "batch": 2,
        "learning_rate": 1e-3,
        "max_length": 64,
        "eval_rows": 4,
    }
    made = store.create(RunSpec("minilm-l6", "lora", "sentiment", **fields))
    with pytest.raises(BadInput):
        takeaway.script(made)  # it has not run
    assert made.id in run("export", made.id).refused()
    monkeypatch.setattr(takeaway, "script", lambda _: odd)
    monkeypatch.setattr(takeaway, "notebook", lambda _: nbformat.writes(nbformat.v4.new_notebook()))
    assert run("export", made.id).stdout == odd
    assert run("export", made.id, "--as", "script", "--json").document["content"] == odd
    file, asked = tmp_path / "run.ipynb", ("export", made.id, "--as", "notebook", "--out")
    document = run(*asked, str(file), "--json").document
    assert (document["as"], document["path"], document["content"]) == ("notebook", str(file), None)
    nbformat.validate(nbformat.read(file, 4))
    assert "--out" in run(*asked, str(tmp_path)).refused()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("atlas verra", "vera"),
        ("claims --claim ia3-shar", "Did you mean"),
        ("claims --claim prefix-share --model bert-base", "cannot be checked"),
        ("questions --topic lorra", "lora"),
        ("recommend --answer rows", "KEY=VALUE"),
        ("recommend --answer rows=lots", "few, some, many"),
        ("recommend --answer colour=red", "no question called 'colour'"),
        ("recommend --answer device=abacus", "24GB"),
        ("recommend --answer model=nope", "nope"),
        ("recommend --answer base=four --answer model=llama-3.2-3b", "base=sixteen"),
        ("diagnose", "nothing to diagnose"),
        ("diagnose --config @torn.json", "torn.json"),
        ("diagnose --log @none.csv", "cannot be read"),
        ("diagnose --adapter @", "is a pickle"),
        ("check @", "is a pickle"),
        ("ship nothing", "neither a run"),
        ("export nothing", "nothing"),
        ("export nothing --as pdf", "'script'"),
        ("export nothing --as adapters", "no run called"),
    ],
)
def test_bad_input_is_refused_in_one_line(run: Run, tmp_path: Path, words: str, named: str) -> None:
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    assert named in run(*words.replace("@", f"{tmp_path}/").split()).refused()
