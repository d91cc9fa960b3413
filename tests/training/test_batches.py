from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.models.loading import load_base, load_tokenizer, weights_of
from peft_lab.training import batches, tasks
from peft_lab.training.batches import IGNORED, Encoded, size_of
from peft_lab.training.tasks.base import Row
from tests.methods import tiny


@given(
    lengths=st.lists(st.integers(1, 99), min_size=1, max_size=40),
    steps=st.integers(1, 30),
    size=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_plan(lengths: list[int], steps: int, size: int, seed: int) -> None:
    made = batches.plan(lengths, steps, size, seed)
    assert [len(batch) for batch in made] == [size] * steps
    assert made == batches.plan(lengths, steps, size, seed)
    used = Counter(row for batch in made for row in batch)
    assert set(used) <= set(range(len(lengths)))
    # every row is seen before any is seen again
    assert max(used.values()) - min(used.get(row, 0) for row in range(len(lengths))) <= 1


class _Begins:
    """A tokenizer without a chat template, of which a text begins with a token of its own or not."""

    chat_template, bos_token, bos_token_id, eos_token = None, "<s>", 1, "</s>"

    def __init__(self, begins: bool) -> None:
        self.begins = begins

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [1] if self.begins else []}


@pytest.mark.parametrize(("begins", "asked"), [(True, "<s>Order"), (False, "Order")])
def test_a_prompt_begins_as_the_base_has_read_its_texts(begins: bool, asked: str) -> None:
    tokenizer: Any = _Begins(begins)
    assert batches.render(tokenizer, "Order") == asked


def test_rows_of_like_length_meet_and_seeds_differ() -> None:
    lengths = [number % 50 + 1 for number in range(800)]
    made = batches.plan(lengths, 100, 8, 0)
    waste = sum(max(lengths[r] for r in batch) * 8 - sum(lengths[r] for r in batch) for batch in made) / sum(
        lengths
    )
    assert waste < 0.02
    longest = [max(lengths[row] for row in batch) for batch in made]
    assert longest != sorted(longest)
    assert made != batches.plan(lengths, 100, 8, 1)


def test_collate_pads_on_the_right_and_labels_completions_only() -> None:
    batch = batches.collate([Encoded((5, 6, 7, 8), 2), Encoded((5, 9), 1)], pad=0, device="cpu")
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [5, 9, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7, 8], [IGNORED, 9, IGNORED, IGNORED]]
    assert batches.collate([Encoded((1, 2), 2, 1), Encoded((3,), 1, 0)], 0, "cpu")["labels"].tolist() == [
        1,
        0,
    ]


@pytest.mark.weights
def test_encoded_orders_end_where_the_answer_does() -> None:
    task, tokenizer = tasks.get_task("json"), load_tokenizer(weights_of("smollm2-135m"))
    row = task.load().train[0]
    encoded = batches.encode(task, [row], tokenizer, task.max_length)[0]
    assert tokenizer.decode(list(encoded.ids[encoded.prompt :])) == row.target + str(tokenizer.eos_token)
    prompt = str(tokenizer.decode(list(encoded.ids[: encoded.prompt])))
    assert row.text in prompt and prompt.endswith("assistant\n") and "named SmolLM" not in prompt


@pytest.mark.weights
def test_a_long_prompt_loses_its_start_and_never_the_answer() -> None:
    task, tokenizer = tasks.get_task("json"), load_tokenizer(weights_of("smollm2-135m"))
    row = Row("word " * 500 + "JSON:", '{"a": 1}')
    encoded = batches.encode(task, [row], tokenizer, 64)[0]
    assert len(encoded) == 64 and row.target in tokenizer.decode(list(encoded.ids))
    with pytest.raises(BadInput, match="leaves no room"):
        batches.encode(task, [Row("a", "word " * 100)], tokenizer, 64)


@pytest.mark.weights
def test_the_loss_on_kept_positions_is_the_models_own() -> None:
    base = load_base("smollm2-135m", dtype=torch.float32)
    task = tasks.get_task("json")
    rows = batches.encode(task, task.load().train[:3], base.tokenizer, task.max_length)
    batch = batches.collate(rows, 0, base.device)
    with torch.no_grad():
        own = base.model(**batch).loss
        assert batches.loss_of(base.model, batch) == pytest.approx(float(own), rel=1e-5)
        assert batches.loss_at(
            base.model, batch, batches.picked(batch["labels"]), keep=False
        ) == pytest.approx(float(own), rel=1e-5)
    assert batches.keeps_logits(base.model)


def test_what_an_encoder_reads_and_what_its_decoder_writes_are_padded_apart() -> None:
    rows = [Encoded((5, 6, 7, 8, 1), 2, start=0), Encoded((5, 6, 9, 1), 3, start=0)]
    batch = batches.collate(rows, pad=0, device="cpu")
    assert batch["input_ids"].tolist() == [[5, 6, 0], [5, 6, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [[7, 8, 1], [1, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[0, 7, 8], [0, 1, 0]], (
        "one token late, never the ignored label"
    )
    assert size_of(batch) == {
        "rows": 2, "length": 3, "padded": True, "kept": 3, "predicted": 4, "apart": True,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_the_loss_of_an_encoder_decoder_is_the_one_that_transformers_takes() -> None:
    model = tiny.build("t5")
    rows = [Encoded((5, 6, 7, 8, 1), 2, start=0), Encoded((5, 6, 9, 1), 3, start=0)]
    batch = batches.collate(rows, 0, "cpu")
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    expected = model(**given).loss
    torch.testing.assert_close(batches.loss_of(model, batch), expected)


def test_pairs_keep_their_end_tokens_and_a_long_text_loses_its_start() -> None:
    class Letters:
        def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
            return {"input_ids": [[*map(ord, text), 1] for text in texts]}

    made: Any = Letters()
    (row,) = batches.encode_pairs(made, ["abcdef"], ["xy"], 7, 0)
    assert row.ids == (*map(ord, "def"), 1, *map(ord, "xy"), 1) and row.prompt == 4 and row.start == 0
    with pytest.raises(ValueError, match="leaves no room"):
        batches.encode_pairs(made, ["a"], ["xyz"], 4, 0)
