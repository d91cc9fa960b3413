"""Orders whose words are tagged: the rows, exact spans, and labels that meet the tokens they belong to."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from peft_lab.core.errors import BadInput
from peft_lab.training import batches
from peft_lab.training.evaluation import Examiner
from peft_lab.training.tasks import get_task, orders
from peft_lab.training.tasks.base import WORD, Row
from peft_lab.training.tasks.tags import spans, tagged, tags_in, words_of
from tests.methods import tiny

TASK = get_task("tags")


def test_the_rows_are_those_of_orders_to_json_and_every_field_is_a_span() -> None:
    assert TASK.labels == ("O", *(f"{mark}-{name}" for name in orders.FIELDS for mark in "BI"))
    for mine, its in zip(TASK.load().test, orders.TASK.load().test, strict=True):
        assert orders.prompt(mine.text) == its.text
        values, words = json.loads(its.target), words_of(mine.text)
        said = {
            name: mine.text[words[first][0] : words[end - 1][1]]
            for name, first, end in spans(tags_in(mine.target))
        }
        assert set(said) == set(orders.FIELDS)
        assert (said["name"], said["size"]) == (values["name"], values["size"])
        assert said["time"] == values["time"].replace(":00", "")
        assert said["item"] in next(forms for forms in orders.WORDS.items if forms[0] == values["item"])
        assert said["quantity"].lower() in (*orders.SPOKEN[values["quantity"]], str(values["quantity"]))


def conll(tags: list[str]) -> set[tuple[str, int, int]]:
    """The chunks by the rules of conlleval, the script of CoNLL-2000: a chunk's start and its end are each decided."""
    found, begin = set(), 0
    parts = [("O", ""), *((tag[0], tag[2:]) for tag in tags), ("O", "")]
    for at, ((mark, name), (after, other)) in enumerate(pairwise(parts)):
        if mark != "O" and (after in "BO" or other != name):
            found.add((name, begin, at))
        if after == "B" or (after == "I" and (mark == "O" or other != name)):
            begin = at
    return found


def test_spans_are_those_of_conlleval() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = ["O", "B-a", "I-a", "B-b", "I-b"]
    for _ in range(300):
        tags = [kinds[n] for n in torch.randint(5, (7,), generator=generator).tolist()]
        assert set(spans(tags)) == conll(tags), tags


def test_a_tagged_text_reads_back_whatever_is_in_it() -> None:
    text = "50/50 or 7:30? a/B-name, «x» …"
    tags = ["B-item", "I-item", "O", *["O"] * (len(words_of(text)) - 3)]
    assert tags_in(tagged(text, tags)) == tags


def test_scores_count_spans_not_words() -> None:
    row = Row("at 7 pm for Ann", "at 7/B-time pm/I-time for Ann/B-name")
    half = "at 7/B-time pm for Ann/B-name"
    assert TASK.score([half, row.target], [row, row]) == {
        "span_f1": 0.75, "span_precision": 0.75, "span_recall": 0.75, "exact_match": 0.5,
    }  # fmt: skip
    assert TASK.score(["at 7 pm for Ann"], [row])["span_precision"] == 0


class Pieces:
    """A tokenizer of two letters a token, with one of its own before and after every text."""

    is_fast = True
    pad_token_id = 0

    def __init__(self, ends: bool = True) -> None:
        self.ends = ends

    def __call__(self, texts: list[str], max_length: int = 99, **_: Any) -> Any:
        read: dict[str, Any] = {"input_ids": [], "offset_mapping": []}
        for text in texts:
            cells = [(a + n, min(a + n + 2, b)) for a, b in words_of(text) for n in range(0, b - a, 2)]
            cells = [(0, 0), *cells[: max_length - 1 - self.ends], *[(0, 0)] * self.ends]
            read["offset_mapping"].append(cells)
            read["input_ids"].append([3 + (5 * a + b) % 40 for a, b in cells])
        return read


def test_a_words_first_token_has_its_label_and_no_other_token_has_one() -> None:
    made: Any = Pieces()
    no = batches.IGNORED
    (row,) = batches.encode_tags(made, ["Wendy at 7"], [[4, 0, 2]], 99, WORD)
    assert row.tags == (no, 4, no, no, 0, 2, no)
    (cut,) = batches.encode_tags(made, ["Wendy at 7"], [[4, 0, 2]], 6, WORD)
    assert cut.tags == (no, 4, no, no, 0, no)
    with pytest.raises(ValueError, match="end token"):
        batches.encode_tags(Pieces(ends=False), ["at"], [[4]], 99, WORD)  # type: ignore[arg-type]
    made.is_fast = False
    with pytest.raises(BadInput):
        batches.encode(TASK, TASK.load().test[:1], made, 64)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("slug", "values"), [("lora", {}), ("prompt", {"num_virtual_tokens": 4})])
def test_loss_and_answers_read_the_positions_of_the_text(slug: str, values: dict[str, Any]) -> None:
    """Also behind virtual tokens, for which PEFT makes logits and takes no labels."""
    from peft_lab.methods import get_method

    model = tiny.apply(get_method(slug), "bert", values, tiny.PER_TOKEN)
    made: Any = Pieces()
    texts = ["Wendy at 7", "a tea"]
    encoded = batches.encode_tags(made, texts, [[1, 0, 1], [0, 1]], 99, WORD)
    batch = batches.collate(encoded, 0, "cpu")
    labels = torch.tensor([list(row.tags) + [-100] * (7 - len(row.tags)) for row in encoded])
    with torch.no_grad():
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, -7:]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(batches.loss_of(model, batch).detach(), expected)
    size = batches.size_of(batch)
    assert size["predicted"] == 5 and not size["apart"]
    names = ("O", "B-name")
    examiner = Examiner(replace(TASK, labels=names), made, 99, "cpu")
    answers = examiner._tagged(texts, torch.cat([torch.zeros(2, 4, 2), logits], dim=1), batch)
    wanted = [
        tagged(text, [names[number] for number, label in zip(own, row, strict=True) if label != -100])
        for text, own, row in zip(texts, logits.argmax(-1).tolist(), labels.tolist(), strict=True)
    ]
    assert answers == wanted
