"""Claims: complete, checked by code, and no found figure typed in."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable

import pytest

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine import published
from peft_lab.interview import claims
from peft_lab.interview.claims import Claim, all_claims, get_claim, on_all, overall
from peft_lab.interview.claims.verdicts import VERDICTS, about, both, within
from peft_lab.methods.counting.count import count
from tests.interview.each import over

QUICK = [claim for claim in all_claims().values() if claim.needs == "shape"]
GENERAL = [claim for claim in QUICK if claim.general]
NAMES = re.compile(
    r"(4|8|16)[- ]bits?\b|bfloat16|float(16|32)|\b[78]B\b|GPT-?2|T5\b|[NF]F?P?4\b|rank 1\b|of 1 try|arXiv:\S+"
    r"|\d+ of PEFT|with 1 of 2|GSM8K|takes 1 to|form, v2|P-Tuning v2"
)


def by_id(claim: Claim) -> str:
    return claim.id


@over(QUICK)
def test_a_verdict_comes_with_a_figure_and_a_reason(claim: Claim) -> None:
    found = claim.on()
    assert found.verdict in VERDICTS
    assert re.search(r"\d", found.found)
    assert found.found[-1] != "."
    assert found.why.endswith(".")
    assert found.values
    assert claim.how
    assert claim.quote


@over(GENERAL)
def test_the_verdict_on_a_claim_is_about_all_models(claim: Claim) -> None:
    verdicts = {each.verdict for each in on_all(claim.id).values()}
    assert overall(claim, claim.on()).verdict == (verdicts.pop() if len(verdicts) == 1 else "imprecise")


def test_what_is_found_is_what_is_counted() -> None:
    report = count("llama-3.2-3b", "lora", {"r": 16, "target_modules": ["q_proj", "v_proj"]})
    found = get_claim("lora-count").on()
    assert (found.values["trainable"], found.values["total"]) == (report.trainable, report.total)
    assert f"{report.trainable:,}" in found.found
    ia3 = count("bert-base", "ia3", {})
    assert get_claim("ia3-share").on("bert-base").values["share"] == pytest.approx(ia3.percent)


SETTLED = {
    "wrong": (
        "lora-count", "prefix-slightly-more", "adapters-snippet", "fewer-is-less-memory", "full-always-best",
    ),
    "imprecise": (
        "lora-share", "dora-better", "qlora-consumer", "prefix-share", "prompt-share",
        "ptuning-small", "ia3-share", "bitfit-share", "memory-full-7b", "qlora-overhead",
        "lora-near-baseline",
    ),
    "right": (
        "ptuning-v2", "bitfit-free", "qlora-70b", "lora-merges", "ia3-below-lora",
        "nf4-better",
    ),
}  # fmt: skip


@pytest.mark.parametrize("verdict", SETTLED)
def test_verdicts_are_those_of_the_checked_facts(verdict: str) -> None:
    for name in SETTLED[verdict]:
        assert overall(get_claim(name), claims.is_settled(name)[0]).verdict == verdict, name


def test_a_claim_follows_the_model() -> None:
    claim = get_claim("ia3-share")
    assert claim.on("llama-3.2-3b").verdict == "right"
    assert claim.on("bert-base").verdict == "imprecise"
    assert get_claim("bitfit-share").on("llama-3.2-1b").verdict == "wrong"


def test_scores_are_told_apart_by_one_standard() -> None:
    """Two standard errors of the difference, each score out of GSM8K's 1,319 questions: near, better, best."""
    rows = published.rows()
    full, lora, dora = (
        rows[name].accuracy
        for name in (
            "full-finetuning--llama-3.2-3B-lr_0.00001", "lora--llama-3.2-3B-rank32", "lora--llama-3.2-3B-rank32-dora",
        )
    )  # fmt: skip
    best = max(row.accuracy for row in rows.values())
    for name, one, other, margin in (
        ("lora-near-baseline", lora, full, 0.95),
        ("dora-better", dora, lora, 1),
        ("full-always-best", full, best, 1),
    ):
        error = math.sqrt((one * (1 - one) + other * (1 - other)) / 1_319)
        found, difference = get_claim(name).on(), one - margin * other
        assert found.values["error"] == pytest.approx(100 * error)
        sure = abs(difference) > 2 * error
        assert found.verdict == (("right" if difference > 0 else "wrong") if sure else "imprecise"), name


def test_every_float_of_four_bits_is_named_and_computed() -> None:
    """NVFP4 and MXFP4 by other code: numbers from the standard library, constants by their formats' rules."""
    found, _ = claims.is_settled("nf4-better")
    assert all(name in found.found for name in ("NF4", "bitsandbytes' FP4", "NVFP4", "MXFP4"))
    draw, sizes = random.Random(0), (0, 0.5, 1, 1.5, 2, 3, 4, 6)

    def rounded(number: float, constant: float) -> float:
        size = min(sizes, key=lambda one: abs(one - abs(number) / constant))
        return math.copysign(size * constant, number)

    def eight_bits(
        number: float,
    ) -> float:  # E4M3 keeps three bits after the first; the tensor's constant fits it in
        step = 2.0 ** (math.floor(math.log2(number)) - 3)
        return round(number / step) * step

    constants: dict[str, tuple[int, Callable[[float], float]]] = {
        "nvfp4": (16, lambda largest: eight_bits(largest / 6)),
        "mxfp4": (32, lambda largest: 2.0 ** (math.floor(math.log2(largest)) - 2)),
    }
    for name, (block, constant) in constants.items():
        lost = total = 0.0
        for _ in range(6_000):
            numbers = [draw.gauss(0, 1) for _ in range(block)]
            scale = constant(max(map(abs, numbers)))
            lost += sum((rounded(number, scale) - number) ** 2 for number in numbers)
            total += sum(number**2 for number in numbers)
        assert found.values[name] == pytest.approx(100 * math.sqrt(lost / total), rel=0.01), name
    assert found.values["nf4"] < found.values["nvfp4"] < found.values["mxfp4"] < found.values["fp4"]


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot be checked on BERT"):
        get_claim("prefix-share").on("bert-base")
    with pytest.raises(UnknownName, match="Did you mean 'ia3-share'"):
        get_claim("ia3-shar")


def test_judging() -> None:
    assert [within(value, 1, 4) for value in (1, 0.5, 40, 41, 0.09)] == [
        "right", "imprecise", "imprecise", "wrong", "wrong",
    ]  # fmt: skip
    assert [about(value, 100) for value in (75, 126, 1001)] == ["right", "imprecise", "wrong"]
    assert [both(True, True), both(True, False), both(False, False)] == ["right", "imprecise", "wrong"]


PLACE = re.compile(r"\{[^}]*\}")


@over(all_claims().values())
def test_no_figure_is_typed_into_what_is_found(claim: Claim) -> None:
    texts = [claim.found, claim.why, claim.cited]
    texts += [text for each in claim.cases.values() for text in (each.found, each.why, each.cited)]
    for text in texts:
        bare = NAMES.sub("", PLACE.sub("", text))
        assert not re.search(r"\d", bare) or re.search(r"section|figure \d|arXiv|\d{4}, ", bare), text


def test_every_slow_check_has_a_kept_result_that_says_how_it_was_found() -> None:
    for claim in all_claims().values():
        assert (claims.kept_result(claim.id) is not None) == (claim.needs == "torch")
    taken = claims.result_seconds()
    assert set(taken.packages) == set(claims.kept_versions())
    assert taken.packages["torch"] in str(taken)
    assert taken.date in str(taken)


def test_kept_results_of_other_libraries_are_shown_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "kept_versions", lambda: dict(claims.result_seconds().packages))
    assert not claims.result_seconds().differing()
    monkeypatch.setattr(claims, "kept_versions", lambda: {**claims.result_seconds().packages, "torch": "9.9"})
    assert claims.result_seconds().differing() == {"torch": "9.9"}
    assert claims.kept_result("nf4-better") is not None


@pytest.mark.further
@pytest.mark.slow
@pytest.mark.sampled(5)
@pytest.mark.parametrize("claim", [c for c in all_claims().values() if c.needs == "torch"], ids=by_id)
def test_kept_results_are_found_again(claim: Claim) -> None:
    found, known = claim.on(), claims.kept_result(claim.id)
    assert re.search(r"\d|\bone\b", found.found)
    if known is not None:
        assert known.verdict == found.verdict
        assert known.why == found.why, "python -m tools.refresh_claims"
        # In percent: what float32 rounds away (some 4e-5) is another figure with another number of threads.
        assert known.values == pytest.approx(found.values, rel=0.02, abs=2e-5)
