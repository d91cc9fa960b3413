"""Recipes hold together: values in their bands, two sources behind a rate or a sentence, nothing impossible."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_lab.advise.recipes.recipe import LAB, TOLD, Recipe, evidence, recipe
from peft_lab.advise.recipes.rules import OBJECTIVES, OF_ENCODERS, Job, job
from peft_lab.core import references as src
from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import STEPS
from peft_lab.models.catalogue import get_model, readers_of_text
from tests.advise.recipes.jobs import MODELS, every

RATE = "learning_rate"
FIELDS = {
    RATE, "schedule", "warmup", "batch", "epochs", "steps", "dtype", "optimizer", "checkpointing", "packing",
}  # fmt: skip


@pytest.fixture(scope="module")
def recipes() -> list[Recipe]:
    return [recipe(one) for one in every()]


def test_every_field_has_a_value_a_kind_and_what_to_try_next(recipes: list[Recipe]) -> None:
    for made in recipes:
        wanted = FIELDS | (
            {"r", "lora_alpha", "target_modules", "lora_dropout"} if made.job.low_rank else set()
        )
        assert set(made.settings) >= wanted
        for setting in made.settings.values():
            assert setting.value is not None and setting.next and setting.kind
            assert setting.said or setting.why, (made.job.method, setting.name)
            assert setting.source


def test_a_rate_has_two_sources_behind_it_or_says_why_not(recipes: list[Recipe]) -> None:
    for made in recipes:
        rate = made[RATE]
        assert rate.value > 0 and rate.kind != "simulated"
        assert len(rate.agreeing) >= 2 or rate.why, (made.job.method, made.job.shape.name, made.job.objective)
        for reference in rate.agreeing:
            assert any(
                one.source == reference and one.band and one.band[0] <= rate.value * 1.000001 and
                rate.value <= one.band[1] * 1.000001 for one in rate.said
            )  # fmt: skip


def test_cited_values_lie_in_their_bands(recipes: list[Recipe]) -> None:
    for made in recipes:
        for setting in made.settings.values():
            if setting.band is not None and setting.kind == "cited":
                assert setting.band[0] <= setting.value <= setting.band[1], (made.job.method, setting)


@pytest.mark.parametrize(
    ("model", "method", "objective", "rate"),
    [
        ("llama-3.1-8b", "qlora", "sft", 2e-4),
        ("llama-3.1-70b", "qlora", "sft", 1e-4),
        ("llama-3.1-70b", "lora", "sft", 1e-4),
        ("llama-3.1-8b", "full", "sft", 1e-5),
        ("llama-3.1-8b", "lora", "preference", 5e-6),
        ("llama-3.1-8b", "full", "preference", 5e-7),
        ("llama-3.1-8b", "lora", "rl", 1e-5),
        ("llama-3.2-3b", "ia3", "sft", 5e-3),
        ("t5-base", "prompt", "sft", 0.3),
        ("bert-base", "bitfit", "classification", 1e-3),
        ("roberta-large", "adapters", "classification", 3e-4),
        ("bert-base", "full", "classification", 3e-5),
    ],
)
def test_known_rates(model: str, method: str, objective: str, rate: float) -> None:
    found = recipe(job(method, get_model(model).shape, objective))[RATE]
    assert found.value == pytest.approx(rate)
    assert found.kind == "cited"


def test_steps_are_those_of_padded_rows_and_say_so_where_rows_are_packed(recipes: list[Recipe]) -> None:
    """Packing is advised, and how many rows fill one is not known: the number beside it is of rows by themselves."""
    said = {(made["packing"].value is True, "if rows are packed" in made["steps"].why) for made in recipes}
    assert said == {(True, True), (False, False)}


def _combinations() -> Iterator[Job]:
    """Every objective on every model that the lab trains, and on one more of each kind, with every method."""
    models = {*(name for name in readers_of_text() if get_model(name).live), *MODELS.values()}
    for name, method, objective in product(sorted(models), all_methods(), OBJECTIVES):
        shape = get_model(name).shape
        if shape.kind in get_method(method).refuses or (
            shape.kind == "encoder" and objective not in OF_ENCODERS
        ):
            continue
        for rows in (1, 8, 60, 200, 300_000):
            yield job(method, shape, objective, rows)


def test_what_sixty_steps_learnt_from_never_leaves_jobs_of_that_size() -> None:
    """Rates that let the lab's short runs learn stood in plans of 9,375 steps, outside their own sources' band."""
    short = long = 0
    for asked in _combinations():
        made = recipe(asked)
        rate, own = made[RATE], get_method(asked.method).learning_rate(asked.kind, asked.values)
        if asked.live and made["steps"].value <= STEPS:
            short += 1
            assert (rate.value, rate.kind, rate.band) == (own, LAB, None)
            continue
        found = evidence(made.job, RATE)
        assert rate.band is not None and rate.band[0] <= rate.value <= rate.band[1], asked
        assert (rate.kind == "cited") == bool(found)
        if found:
            long += 1
            lows, highs = zip(*(said.band for _, said in found if said.band), strict=True)
            assert min(lows) <= rate.value <= max(highs), asked
            assert {one.rule for one in rate.said} == {rule.id for rule, _ in found}
    assert short > 30 and long > 300


def test_what_is_settled_is_kept_and_judged() -> None:
    shape = get_model("llama-3.1-8b").shape
    settled = {"r": 1, "target_modules": ("q_proj", "v_proj")}
    made = recipe(job("lora", shape, "sft", batch=4, dtype="bfloat16", checkpointing=True, values=settled))
    assert made["r"].value == 1 and made["r"].kind == LAB and "outside" in made["r"].why
    assert made["target_modules"].value == ("q_proj", "v_proj")
    assert made["target_modules"].agreeing == ("Hu et al. 2021, LoRA, arXiv:2106.09685",)
    assert (made["batch"].value, made["batch"].kind) == (4, TOLD)
    assert (made["checkpointing"].value, made["checkpointing"].kind) == (True, "simulated")
    assert made["steps"].value == made["epochs"].value * 2_500
    named = recipe(job("lora", shape, "sft", values={"target_modules": shape.target_names}))
    assert len(named["target_modules"].agreeing) == 3, "all names are all linear maps"


def test_full_fine_tuning_in_a_short_format_says_what_it_loses() -> None:
    shape = get_model("llama-3.1-8b").shape
    assert "lose updates" in recipe(job("full", shape, "sft", dtype="bfloat16"))["dtype"].why
    assert "lose updates" not in recipe(job("lora", shape, "sft", dtype="bfloat16"))["dtype"].why
    assert "float32" in recipe(job("full", shape, "sft"))["dtype"].value


def test_jobs_that_cannot_be_are_refused() -> None:
    encoder = get_model("bert-base").shape
    with pytest.raises(BadInput, match="writes no text"):
        job("lora", encoder, "sft")
    with pytest.raises(UnknownName):
        job("lora", encoder, "poetry")
    for wrong in ({"rows": 0}, {"row_tokens": 0}, {"devices": 0}, {"batch": -1}):
        with pytest.raises(BadInput):
            job("lora", encoder, "classification", **wrong)  # type: ignore[arg-type] # one of them at a time


@st.composite
def _jobs(draw: st.DrawFn) -> Job:
    shape = get_model(draw(st.sampled_from(sorted(readers_of_text())))).shape
    method = draw(
        st.sampled_from([slug for slug, spec in all_methods().items() if shape.kind not in spec.refuses])
    )
    objectives = OF_ENCODERS if shape.kind == "encoder" else tuple(OBJECTIVES)
    rows, tokens, devices = (
        draw(st.integers(1, 10**8)),
        draw(st.integers(1, 131_072)),
        draw(st.integers(1, 4096)),
    )
    return job(method, shape, draw(st.sampled_from(objectives)), rows, tokens, devices=devices)


@settings(max_examples=300, deadline=None)
@given(_jobs())
def test_any_job_gets_a_possible_recipe(one: Job) -> None:
    made = recipe(one)
    batch = made["batch"].value
    assert isinstance(batch, int) and batch >= one.devices
    assert made["epochs"].value > 0 and made["steps"].value >= 1
    assert 0 < made[RATE].value <= (3 if one.method == "prompt" else 1)
    assert 0 <= made["warmup"].value < 1
    if one.low_rank:
        assert 1 <= made["r"].value <= 256 and made["lora_alpha"].value > 0
        assert 0 <= made["lora_dropout"].value < 0.5
        spec = get_method(one.method)
        knobs = {knob.name for knob in spec.knobs}
        spec.require(one.shape, {name: made[name].value for name in made.settings if name in knobs})


def test_few_rows_are_trained_on_often_only_where_they_are_short() -> None:
    """LIMA's passes are of a thousand rows of 2,048 tokens at most: 2,000 rows of 16k hold sixteen times as much."""
    shape = get_model("llama-3.1-8b").shape
    few, many = (recipe(job("lora", shape, "sft", 2_000, tokens))["epochs"] for tokens in (1_000, 16_000))
    assert few.value == 10 and any(src.LIMA in evidence.text for evidence in few.said)
    assert many.value <= 2 and not any(src.LIMA in evidence.text for evidence in many.said)


def test_rewards_count_every_answer_to_a_prompt(recipes: list[Recipe]) -> None:
    """A batch of 16 questions with 64 answers each was one of 16 rows."""
    for made in recipes:
        assert ("group" in made.settings) == (made.job.objective == "rl")
    for rows, batch, steps in ((7_500, 1_024, 469), (100, 640, 10), (5, 64, 5), (1, 64, 1)):
        made = recipe(job("lora", get_model("llama-3.1-8b").shape, "rl", rows))
        group = made["group"]
        assert (group.value, group.kind) == (64, "cited") and group.band == (4, 128)
        assert {one.value for one in group.said} == {8, 32, 64}
        assert (made["batch"].value, made["steps"].value) == (batch, steps * made["epochs"].value)
        assert made["batch"].value % group.value == 0, "no group is parted"
