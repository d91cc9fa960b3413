"""Answers as text: words, numbers, sizes, aliases, and what is wrong with them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from peft_lab.advise import words
from peft_lab.advise.recommend import recommend
from peft_lab.advise.room import Room
from peft_lab.advise.simulating import StepRun
from peft_lab.advise.situation import FOUND, KEYS, Situation, lora_bytes, parse
from peft_lab.advise.tree import QUESTIONS
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.engine.devices import Device, card_size, devices
from peft_lab.models.catalogue import get_model
from tests.prose import facts, says


def parsed(**answers: str) -> Situation:
    return parse(answers.items())[0]


def test_words_and_numbers_are_the_same_answers() -> None:
    assert parsed(tasks="one", rows="some", latency="relaxed", storage="roomy", prompting="no") == Situation()
    assert parsed(tasks="1,000", rows="2e6", latency="5%", storage="0.5MB").storage == 500_000
    assert parsed(rows="2e6").rows == 2_000_000
    assert parsed(gpu="t4").device == "t4"
    assert parsed(gpu="24GB").hardware.memory == 23 * 2**30
    assert parsed(storage="tight").storage < lora_bytes(get_model("llama-3.2-3b").shape)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "name", "devices"),
    [
        ("A100-80GB", "a100-80", 1), ("RTX 4090", "rtx-4090", 1), ("H100", "h100", 1), ("8xH100", "h100", 8),
        ("2 x t4", "t4", 2), ("cpu", "this-machine", 1),
    ],
)  # fmt: skip
def test_devices_are_found_by_the_names_that_people_use(text: str, name: str, devices: int) -> None:
    found = parsed(device=text)
    assert (found.hardware.name, found.devices) == (name, devices)


def test_two_cards_by_their_size() -> None:
    found = parsed(device="2x24GB")
    assert found.devices == 2 and found.hardware.memory == parsed(device="24GB").hardware.memory


def test_what_is_said_of_the_job() -> None:
    said = parsed(
        objective="grpo",
        serving="vllm",
        forgetting="matters",
        deadline="2.5",
        row_tokens="1500",
        link="nvlink",
    )
    assert (said.purpose, said.serving, said.forgetting) == ("rl", "vllm", "matters")
    assert (said.deadline_hours, said.link) == (2.5, "nvlink")
    assert (said.row_tokens, said.seq, said.tokens) == (1500, 2048, 1500 * said.rows)
    assert parsed(retrieval="yes").prompting == "retrieval" and parsed(retrieval="no").prompting == "no"
    assert parsed(objective="dpo").pairs == 2 and Situation().pairs == 1
    assert parsed(model="bert-base", row_tokens="900").seq == 512, "as far as the model goes"
    assert parsed(model="bert-base").purpose == "classification" and Situation().purpose == "sft"


@pytest.mark.parametrize("gigabytes", [8, 16, 24, 40.5])
def test_a_card_leaves_less_than_it_holds(gigabytes: float) -> None:
    """One unit: 24 GB as cards are sold are 25.8 billion bytes, of which 24.7 are usable."""
    card = parsed(gpu=f"{gigabytes:g}GB").hardware
    assert card.total == gigabytes * 2**30 and card.memory == card.total - 2**30
    assert says(card.holding, f"{gigabytes} GB", units.size(card.total))


def test_what_a_card_leaves_and_holds_is_told_in_one_unit() -> None:
    situation = parsed(model="llama-3.1-70b", gpu="24GB")
    room = Room(situation, lambda _: lambda *step: 10**12)
    said = recommend(situation, room).why[0].text
    assert says(said, "24 GB", "25.8 GB", "23.5 GB")
    assert card_size(23 * 2**30) == "24 GB (25.8 GB)"


def test_what_each_of_several_cards_leaves_is_told_apart() -> None:
    """What it holds comes first, then what may be used of that, and of a split step what is kept free for the link."""
    situation = parsed(model="llama-3.1-70b", gpu="8xh100", link="nvlink")

    def needs(method: str, values: object, run: StepRun) -> int:
        return 10**10 if run.split else 10**12

    room = Room(situation, lambda _: needs)
    card = situation.hardware
    figures = re.findall(r"[\d.]+ GB", words.allowance(situation, room))
    assert figures == [units.size(each) for each in (card.total, room.usable, room.usable_split)]
    assert card.total > room.usable > room.usable_split
    because = words.answer("base", situation, room)[1]
    assert units.size(room.usable_split) in because and units.size(room.usable) not in because


@pytest.mark.parametrize("device", devices().values(), ids=lambda device: device.name)
def test_no_device_is_told_to_leave_more_than_it_holds(device: Device) -> None:
    """Every size beside a device's name, whatever it is sold as, is one that holds what is usable."""
    for text in re.findall(r"([\d.]+) GB", device.holding):
        assert float(text) * 1e9 > device.memory


def test_a_key_that_is_no_question_is_an_error() -> None:
    with pytest.raises(BadInput, match=facts("tsaks", "tasks")):
        words.found_answer("tsaks", Situation())
    with pytest.raises(BadInput, match="base"):  # the simulation's to answer
        words.found_answer("base", Situation())
    with pytest.raises(BadInput, match=facts("kidn", "kind")):
        words.answer("kidn", Situation(), Room(Situation(), lambda _: lambda *step: 1))
    assert {words.found_answer(key, Situation())[0] for key in words.ASKED} <= {
        value for key in words.ASKED for value in QUESTIONS[key].answers
    }


def test_found_answers_choose_an_example() -> None:
    assert parsed(kind="encoder").model == "bert-base"
    assert parsed(kind="decoder", biases="yes").model == "gpt2"
    assert parsed(base="four").device == "rtx-3060"
    assert parsed(scale="large", base="sixteen").device == "h200"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"rows": "lots"}, "few, some, many"),
        ({"rows": "0"}, "from 1 to"),
        ({"rows": "-3"}, "-3"),
        ({"rows": "1e999"}, "1e999"),
        ({"latency": "1e999%"}, "Latency"),
        ({"storage": "9" * 400}, "torage"),
        ({"device": "9" * 400 + "GB"}, "no device called"),
        ({"batch": "1.5"}, "whole number"),
        ({"colour": "red"}, "'colour'"),
        ({"tsaks": "2"}, "'tasks'"),
        ({"device": "abacus"}, "no device called"),
        ({"model": "gpt-5"}, "gpt-5"),
        ({"model": "bert-base", "output": "generation"}, "writes no text"),
        ({"model": "bert-base", "kind": "decoder"}, "is an encoder"),
        ({"model": "bert-base", "seq": "600"}, "512 positions"),
        ({"kind": "encoder", "biases": "no"}, "No example model"),
        ({"objective": "sft", "model": "bert-base"}, "writes no text"),
        ({"objective": "dancing"}, "no objective"),
        ({"serving": "tgi"}, "plain, vllm"),
        ({"deadline_hours": "0"}, "deadline"),
        ({"devices": "0"}, "from 1 to"),
        ({"devices": "2", "device": "cpu"}, "several GPUs"),
        ({"device": "2x24GB", "devices": "3"}, "contradict each other"),
        ({"storage": "huge"}, "storage is tight, roomy or a size"),
        ({"storage": "0"}, "torage"),
        ({"prompting": "maybe"}, "no prompting"),
        ({"kind": "rnn"}, "kind must be encoder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(answers: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(answers.items())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_answer_is_given_once() -> None:
    with pytest.raises(BadInput, match="answered twice"):
        parse([("device", "t4"), ("gpu", "a10")])


@given(some.sampled_from([*KEYS, *FOUND]), some.text(max_size=20))
@settings(deadline=None, max_examples=60)
def test_any_text_is_read_or_refused(key: str, text: str) -> None:
    if key == "model":  # anything may be the name of a folder or of a model elsewhere
        text = text.replace("/", "")
    try:
        situation, _ = parse([(key, text)])
    except BadInput as error:
        assert str(error)
    else:
        situation.check()


def test_a_moment_is_hours_left_and_the_older_name_is_read() -> None:
    soon = (datetime.now() + timedelta(hours=5.57)).isoformat()
    assert Situation(deadline=soon).deadline_hours == 5.5 and Situation(deadline=soon).timed.deadline == "5.5"
    assert (
        parsed(deadline_hours="2.25") == parsed(deadline="2.25")
        and parsed(deadline="2.25").deadline_hours == 2.25
    )
    assert Situation().deadline_hours is None and Situation().timed == Situation()
    past = Situation(deadline="2020-01-01")
    assert past.deadline_hours is None and [error.field for error in past.problems()] == ["deadline"]
