"""The recorder writes what the product writes, at less cost, and records what answers the question first."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench import sums
from peft_lab.studies import blending
from peft_lab.studies.blending import HOW, TASKS
from peft_lab.training.tasks import get_task
from tests.studies.test_blends import bench, deltas
from tools import record_blends
from tools.record_blends import settled, write

ROWS, LONGEST, END = 5, 12, 8


@pytest.fixture
def model() -> Any:
    torch.manual_seed(3)
    made = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
            vocab_size=12,
            initializer_range=0.6,
        )
    )
    return made.eval()


def test_rows_that_end_are_dropped_and_the_others_go_on_as_generate_writes_them(model: Any) -> None:
    lengths = torch.tensor([6, 2, 4, 6, 3])
    mask = (torch.arange(6) >= 6 - lengths[:, None]).long()  # padded on the left
    inputs = {"input_ids": torch.randint(0, 12, (ROWS, 6)) * mask, "attention_mask": mask}
    expected = model.generate(
        **inputs, max_new_tokens=LONGEST, do_sample=False, eos_token_id=END, pad_token_id=0
    )[:, 6:].tolist()
    widths: list[int] = []
    model.register_forward_hook(lambda _, given, made: widths.append(len(made.logits)))
    written = write(model, inputs, LONGEST, lambda row, tokens: tokens[-1] == END)
    assert widths[0] == ROWS > widths[-1] and len({len(row) for row in written}) > 1, "a row ends early"
    for row, wanted in zip(written, expected, strict=True):
        assert row == (wanted[: wanted.index(END) + 1] if END in wanted else wanted)


@pytest.mark.parametrize(
    ("number", "over", "open_"),
    [
        (0, 'Sure: {"item": "tea"}', 'Sure: {"item": "tea"'),
        (1, "Logically speaking, a hash table", "Log, forenoon wat"),
        (2, "item=nothing; size", "item=ITEM; size"),
    ],
)
def test_an_answer_is_settled_when_no_token_can_change_its_score(number: int, over: str, open_: str) -> None:
    task = get_task([*TASKS.values()][number])
    row = task.load().test[0]
    right = task.load().test[0].target
    item = right.partition(";")[0].partition("=")[2]
    assert settled(number, over, row) and not settled(number, open_.replace("ITEM", item), row)
    for cut in range(len(right)):  # an answer that will be right is never cut off before it is
        if settled(number, right[:cut], row):
            assert task.score([right[:cut]], [row]) == task.score([right], [row])


def test_the_exact_sum_finds_the_weights_at_which_the_other_ways_are_recorded() -> None:
    points = list(record_blends.grid())
    assert len(points) == len(set(points)) and {sum(weights) for _, weights in points[:4]} == {0.0, 1.0}
    for members, cells in blending.best().items():
        best = next(tuple(cell["weights"]) for cell in cells if cell["how"] == "cat")
        mine = [
            (how, weights) for how, weights in points
            if [at for at, weight in enumerate(weights) if weight] == [*members]
        ]  # fmt: skip
        ways = [how for how, _ in mine]
        assert ways[: ways.count("cat")] == ["cat"] * ways.count("cat")
        assert ways.count("cat") == len(blending.LEVELS) ** len(members)
        assert {how for how, weights in mine if weights == best} == set(HOW)


def test_the_cosine_of_two_corrections_is_that_of_their_matrices() -> None:
    made = bench()
    first, second, _ = deltas(made)
    wanted = abs(float(torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), 0)))
    assert sums.cosine(made, 0, 1) == pytest.approx(wanted, rel=1e-5)
    assert sums.cosine(made, 1, 1) == pytest.approx(1)


def test_sums_are_compared_with_one_adapter_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(_: Any, weights: dict[int, float], numbers: Any) -> float:
        assert [*weights] == [*numbers]
        return 0.5 * sum(weights.values()) + 0.1 * sum(numbers)

    monkeypatch.setattr(sums, "loss", loss)
    monkeypatch.setattr(sums, "cosine", lambda *given: 0.25)
    monkeypatch.setattr(sums, "of_both", lambda folder, pair: 0.2 + 0.05 * sum(pair))
    rows = sums.compared(SimpleNamespace(), Path())  # type: ignore[arg-type]
    assert [row[0].split(" + ") for row in rows] == [[*pair] for pair in combinations(TASKS, 2)]
    for pair, (_, rms, alone, both, full, change, half, half_change) in zip(sums.PAIRS, rows, strict=True):
        assert rms == 0.25 and alone == pytest.approx(math.exp(0.5 + 0.05 * sum(pair)))
        assert full == pytest.approx(math.exp(1 + 0.1 * sum(pair))) and half == pytest.approx(
            full / math.exp(0.5)
        )
        assert both == pytest.approx(math.exp(0.2 + 0.05 * sum(pair)))
        assert (change, half_change) == pytest.approx((full / both - 1, half / both - 1))


def test_the_shipped_sums_are_whole_and_shown_as_they_were_measured() -> None:
    found = json.loads(sums.FILE.read_text("utf-8"))
    assert found["date"] and found["command"] == "python -m bench.sums FOLDER" and found["verdict"]
    assert found["header"] == [name for name, _ in sums.COLUMNS]
    forms = [form for _, form in sums.COLUMNS[1:]]
    for pair, row, shown in zip(sums.PAIRS, found["rows"], found["shown"], strict=True):
        assert row[0] == " + ".join([*TASKS][number] for number in pair) == shown[0]
        assert sums.row(pair, row[1], [math.log(row[at]) for at in (2, 3, 4, 6)])[1:] == pytest.approx(
            row[1:]
        )
        assert shown[1:] == [form.format(value) for form, value in zip(forms, row[1:], strict=True)]
