"""``recommend`` and ``claims`` on the command line. What they ask the simulation ships with the lab."""

from __future__ import annotations

import pytest

from peft_lab.advise.recipes.replications import replications
from peft_lab.advise.simulating import _simulated
from peft_lab.interview import claims as kept_claims
from peft_lab.interview.claims import all_claims
from peft_lab.methods import get_method
from peft_lab.models.catalogue import get_model
from tests.cli.conftest import Run


def test_the_contracts_fields(run: Run) -> None:
    _simulated.cache_clear()
    found = run("recommend", "--json").document
    assert {"method", "why", "runner_up", "flips_if", "path", "config"} <= set(found)
    assert found["method"] == "lora"
    assert found["runner_up"] != found["method"]
    assert get_method("lora").require(get_model("llama-3.2-3b").shape, found["config"]) == {
        **found["config"],
        "target_modules": tuple(found["config"]["target_modules"]),
        "target_parameters": (),
    }
    assert all({"text", "source", "kind"} == set(why) for why in found["why"])
    assert {step["how"] for step in found["path"]} == {"told", "simulated", "counted"}
    assert found["training"]["needed_bytes"] <= found["training"]["memory_bytes"]
    assert found["headroom"] == 1 - found["peak_bytes"] / found["device_bytes"] >= 0.05
    assert found["seconds"]["low"] < found["seconds"]["high"]
    assert found["unknown"] and "nearest" not in found
    assert {
        "learning_rate", "epochs", "batch", "accumulation", "optimizer", "dtype", "quantization", "checkpointing",
        "sharding", *found["config"],
    } <= set(found["plan"])  # fmt: skip
    assert all({"value", "band", "source", "kind"} <= set(setting) for setting in found["plan"].values())
    assert all(setting["source"] for setting in found["plan"].values())
    flipped = {(flip["question"], flip["method"]) for flip in found["flips_if"]}
    assert {("base", "qlora"), ("prompting", "prompting"), ("prompting", "retrieval")} <= flipped


@pytest.mark.parametrize(
    ("answers", "method"),
    [
        (["prompting=yes"], "prompting"),
        (["prompting=retrieval"], "retrieval"),
        (["base=none"], "none"),
        (["base=four"], "qlora"),
        (["kind=encoder", "rows=few"], "lora"),
        (["kind=encoder"], "full"),
        (["kind=seq2seq"], "lora"),
        (["tasks=many"], "lora"),
        (["kind=encoder", "tasks=many", "latency=strict"], "bitfit"),
        (["kind=encoder", "tasks=many"], "adapters"),
        (["full=yes", "kind=seq2seq", "rows=many"], "full"),
    ],
)
def test_words_are_enough(run: Run, answers: list[str], method: str) -> None:
    arguments = [part for answer in answers for part in ("--answer", answer)]
    assert run("recommend", *arguments, "--json").document["method"] == method


def test_every_field_of_the_plan_has_value_band_and_source(run: Run) -> None:
    plan = run("recommend", "--json").document["plan"]
    wanted = {
        "learning_rate", "schedule", "warmup", "epochs", "batch", "accumulation", "optimizer", "dtype", "quantization",
        "checkpointing", "sharding", "packing", "r", "lora_alpha", "target_modules", "lora_dropout",
    }  # fmt: skip
    assert wanted <= set(plan)
    for name, field in plan.items():
        assert {"value", "band", "source", "kind"} <= set(field), name
        assert field["source"] and field["kind"] in ("cited", "simulated", "counted", "lab", "told"), name
    rate = plan["learning_rate"]
    assert rate["value"] == 2e-4 and rate["kind"] == "cited"
    assert rate["band"][0] <= rate["value"] <= rate["band"][1]
    assert len({source["source"] for source in rate["sources"]}) >= 2
    for setting in plan.values():
        for source in setting["sources"]:
            seen = replications()[source["rule"]]
            assert source["here"]["value"] == seen.value and seen.verdict.startswith(
                source["here"]["verdict"]
            )
    assert run("recommend", "--answer", "prompting=yes", "--json").document["plan"] is None


def test_it_reads_as_a_text(run: Run) -> None:
    shown = run("recommend").stdout
    assert shown.startswith("LoRA\n")
    assert "learning rate" in shown and "2e-4" in shown and "2.5e-5 to 2e-3" in shown
    assert "What would change" in shown
    assert "Unknown:" in shown and "learning rate" in shown
    assert "Runner-up: " in shown and "Runner-up: LoRA" not in shown


def test_where_nothing_fits_the_nearest_is_named(run: Run) -> None:
    found = run("recommend", "--answer", "base=none", "--json").document
    assert found["plan"] is None and found["peak_bytes"] is None and found["config"] == {}
    assert set(found["nearest"]) == {"device", "model"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("rows", "KEY=VALUE"),
        ("rows=", "KEY=VALUE"),
        ("rows=lots", "few, some, many"),
        ("colour=red", "no question called 'colour'"),
        ("device=abacus", "24GB"),
        ("model=nope", "nope"),
    ],
)
def test_a_bad_answer_is_refused_in_one_line(run: Run, answer: str, message: str) -> None:
    assert message in run("recommend", "--answer", answer).refused()


def test_an_answer_that_the_simulation_contradicts_is_refused(run: Run) -> None:
    refused = run("recommend", "--answer", "base=four", "--answer", "model=llama-3.2-3b").refused()
    assert "base=sixteen" in refused


def test_claims_have_the_contracts_fields(run: Run) -> None:
    quick = [
        name
        for name, claim in all_claims().items()
        if claim.needs == "shape" or kept_claims.kept_result(name)
    ]
    rows = run("claims", "--claim", ",".join(quick), "--json").document
    assert [row["id"] for row in rows] == quick
    for row in rows:
        assert {"claim", "stated", "found", "verdict", "source", "how"} <= set(row)
        assert row["verdict"] in ("right", "imprecise", "wrong")
        assert row["source"] in ("counted", "simulated", "measured", "cited")
    counted = next(row for row in rows if row["id"] == "lora-count")
    assert counted["values"] == {"trainable": 4_587_520, "total": 3_217_337_344}


def test_claims_on_another_model(run: Run) -> None:
    (small,) = run("claims", "--claim", "ia3-share", "--model", "bert-base", "--json").document
    (large,) = run("claims", "--claim", "ia3-share", "--model", "llama-3.2-3b", "--json").document
    assert (small["verdict"], large["verdict"]) == ("imprecise", "right")
    assert small["found"] != large["found"]
    assert "cannot be checked" in run("claims", "--claim", "prefix-share", "--model", "bert-base").refused()
    assert "Did you mean" in run("claims", "--claim", "ia3-shar").refused()


def test_claims_as_a_table(run: Run) -> None:
    shown = run("claims", "--claim", "four-bits,ia3-share").stdout
    assert "4.127" in shown
    assert "2 claims: 0 right, 1 imprecise, 1 wrong" in shown
