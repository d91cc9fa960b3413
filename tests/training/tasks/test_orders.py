"""Orders to JSON, to fields and to tags: the rows, and what counts as a right answer."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.training import batches
from peft_lab.training.evaluation import Examiner
from peft_lab.training.tasks import get_task, orders
from peft_lab.training.tasks.base import WORD, Row
from peft_lab.training.tasks.orders import FIELDS, TASK, first_object
from peft_lab.training.tasks.tags import spans, tagged, tags_in, words_of
from tests.methods import tiny

TARGET = '{"item": "pizza", "size": "large", "quantity": 2, "name": "Anna", "time": "7:00 pm"}'
ROW = Row("Order for Anna: two large pizzas, 7 pm.\nJSON:", TARGET)


def pattern(template: str) -> re.Pattern[str]:
    """The sentences that a template can make."""
    parts = re.split(r"\{\w+\}", template)
    return re.compile(".+".join(map(re.escape, parts)))


def matching(text: str, templates: tuple[str, ...]) -> list[str]:
    sentence = text.removesuffix("\nJSON:")
    return [template for template in templates if pattern(template).fullmatch(sentence)]


def test_templates_and_names_are_held_out() -> None:
    assert not set(orders.WORDS.train_templates) & set(orders.WORDS.test_templates)
    assert not set(orders.WORDS.train_names) & set(orders.WORDS.test_names)
    splits = TASK.load()
    for row in splits.test:
        assert matching(row.text, orders.WORDS.test_templates), row.text
        assert json.loads(row.target)["name"] in orders.WORDS.test_names
    for row in splits.train:
        assert not matching(row.text, orders.WORDS.test_templates), row.text
        assert matching(row.text, orders.WORDS.train_templates), row.text
        assert json.loads(row.target)["name"] in orders.WORDS.train_names


def test_targets_say_what_the_sentence_says() -> None:
    for row in TASK.load().test:
        record = json.loads(row.target)
        assert tuple(record) == FIELDS
        assert "\n" not in row.target
        clock, half = record["time"].split()
        hour, minute = clock.split(":")
        said = f"{hour} {half}" if minute == "00" else record["time"]
        for part in (record["name"], record["size"], record["item"], said):
            assert part in row.text
        number = [*orders.SPOKEN[record["quantity"]], str(record["quantity"])]
        assert any(f"{word} {record['size']}" in row.text.lower() for word in number)


def exact(prediction: str) -> float:
    return TASK.score([prediction], [ROW])["exact_match"]


@pytest.mark.parametrize(
    "prediction",
    [
        TARGET,
        f" {TARGET}\n\nIs there anything else?",
        f"Sure! ```json\n{TARGET}\n``` and {{more}}",
        json.dumps(dict(reversed(json.loads(TARGET).items())), indent=2),
        TARGET + TARGET,
    ],
)
def test_what_counts_as_exact(prediction: str) -> None:
    assert exact(prediction) == 1.0


@pytest.mark.parametrize(
    ("prediction", "valid"),
    [
        ("", 0),
        ("two large pizzas", 0),
        (TARGET[:-1], 0),
        (TARGET.replace('"', "'"), 0),
        ("[" + TARGET, 1),
        ("{oops " + TARGET, 0),
        (TARGET.replace('"quantity": 2', '"quantity": 2, "quantity": 2'), 0),
        (TARGET.replace('"quantity": 2', '"quantity": NaN'), 0),
        (TARGET.replace(": 2,", ': "2",'), 1),
        (TARGET.replace(": 2,", ": 2.0,"), 1),
        (TARGET.replace("Anna", "anna"), 1),
        (TARGET.replace("}", ', "note": ""}'), 1),
        (TARGET.replace('"size": "large", ', ""), 1),
        ('{"data": ' + TARGET + "}", 1),
    ],
)
def test_what_does_not(prediction: str, valid: int) -> None:
    scores = TASK.score([prediction], [ROW])
    assert scores["valid_json"] == valid
    assert scores["exact_match"] == float(prediction == "[" + TARGET)


@given(st.text(alphabet='{}[]":,0123456789 truefalsn\\\n', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    found = first_object(text)
    assert found is None or isinstance(found, dict)


@given(
    st.dictionaries(st.text(), st.integers() | st.text() | st.none()), st.text(alphabet="abc }\n"), st.text()
)
def test_an_object_is_found_between_other_text(value: dict[str, object], before: str, after: str) -> None:
    assert first_object(before + json.dumps(value) + after) == value


FIELDS_TASK = orders.FIELDS_TASK


def test_the_rows_are_those_of_the_json_task_and_nothing_is_shared_between_the_parts() -> None:
    splits, others = FIELDS_TASK.load(), orders.TASK.load()
    assert len(splits.train) == len(others.train) and len(splits.test) == len(others.test)
    for mine, theirs in zip((*splits.train, *splits.test), (*others.train, *others.test), strict=True):
        assert mine.text == theirs.text.replace("\nJSON:", " Fields:")
        assert orders.read_fields(mine.target) == {
            key: str(value) for key, value in json.loads(theirs.target).items()
        }
    assert not {row.text for row in splits.train} & {row.text for row in splits.test}


RIGHT = "item=tea; size=small; quantity=2; name=Ann; time=7:00 pm"


@pytest.mark.parametrize(
    ("said", "exact", "valid", "share"),
    [
        (RIGHT, 1, 1, 1.0),
        ("time=7:00 pm; item=tea; size= small;quantity =2; name=Ann", 1, 1, 1.0),
        (RIGHT.replace("Ann", "Bob"), 0, 1, 0.8),
        (RIGHT.replace("; name=Ann", ""), 0, 1, 0.8),
        (f"{RIGHT}; colour=red", 0, 1, 1.0),
        (f"{RIGHT}; item=tea", 0, 0, 0.0),
        (f"{RIGHT};", 0, 0, 0.0),
        ("=tea", 0, 0, 0.0),
        ("", 0, 0, 0.0),
        ("two cups of tea", 0, 0, 0.0),
    ],
)
def test_answers_are_judged_by_their_fields(said: str, exact: int, valid: int, share: float) -> None:
    found = FIELDS_TASK.score([said], [Row("x", RIGHT)])
    assert found == pytest.approx({"exact_match": exact, "valid_fields": valid, "field_accuracy": share})


# ----------------------------------------
# Orders whose words are tagged: the rows, exact spans, and labels that meet the tokens they belong to.


TAGS_TASK = get_task("tags")


def test_the_rows_are_those_of_orders_to_json_and_every_field_is_a_span() -> None:
    assert TAGS_TASK.labels == ("O", *(f"{mark}-{name}" for name in orders.FIELDS for mark in "BI"))
    for mine, its in zip(TAGS_TASK.load().test, orders.TASK.load().test, strict=True):
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


def test_scores_count_spans_not_words() -> None:
    row = Row("at 7 pm for Ann", "at 7/B-time pm/I-time for Ann/B-name")
    half = "at 7/B-time pm for Ann/B-name"
    assert TAGS_TASK.score([half, row.target], [row, row]) == {
        "span_f1": 0.75, "span_precision": 0.75, "span_recall": 0.75, "exact_match": 0.5,
    }  # fmt: skip
    assert TAGS_TASK.score(["at 7 pm for Ann"], [row])["span_precision"] == 0


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
        batches.encode(TAGS_TASK, TAGS_TASK.load().test[:1], made, 64)


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
    examiner = Examiner(replace(TAGS_TASK, labels=names), made, 99, "cpu")
    answers = examiner._tagged(texts, torch.cat([torch.zeros(2, 4, 2), logits], dim=1), batch)
    wanted = [
        tagged(text, [names[number] for number, label in zip(own, row, strict=True) if label != -100])
        for text, own, row in zip(texts, logits.argmax(-1).tolist(), labels.tolist(), strict=True)
    ]
    assert answers == wanted
