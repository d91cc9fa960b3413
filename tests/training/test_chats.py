"""Which tokens of a conversation are answers: told by the template itself where it can, and checked against that."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.models import loading
from peft_lab.models.loading import load_tokenizer, weights_of
from peft_lab.training import batches
from peft_lab.training.batches import IGNORED
from peft_lab.training.tasks.base import Row, Turns
from peft_lab.training.tasks.own import parse
from tests.methods import tiny
from tests.prose import facts
from tests.takeaway.conftest import byte_tokenizer
from tests.training.tasks.test_chat import file_of

#: With the marks of transformers around the answers, and what it is without them.
MARKED = (
    "{% for turn in messages %}{% if turn.role == 'assistant' %}[a]{% generation %}{{ turn.content }}</s>"
    "{% endgeneration %}{{ '\\n' }}{% else %}[{{ turn.role }}]{{ turn.content }}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[a]{% endif %}"
)
PLAIN = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
#: As some reasoning models: earlier answers lose their thinking.
FORGETS = (
    "{% for turn in messages %}{% if turn.role == 'assistant' and not loop.last %}[a]{{ turn.content.split('>')[-1] }}"
    "{% elif turn.role == 'assistant' %}[a]{{ turn.content }}{% else %}[u]{{ turn.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[a]{% endif %}"
)
STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + PLAIN
)
EXCHANGE: Turns = (("user", "How deep?"), ("assistant", "Nine."))
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<"), min_size=1, max_size=8)
CHATS = st.tuples(
    st.booleans(), st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), WORDS
).map(
    lambda made: (
        *((("system", made[2]),) if made[0] else ()),
        *(turn for asks, says in made[1] for turn in (("user", asks), ("assistant", says))),
    )
)  # fmt: skip


def tokenizer_of(template: str | None) -> Any:
    made = byte_tokenizer()
    made.chat_template = template
    return made


@given(CHATS)
def test_the_answers_are_those_that_a_marked_template_names(turns: Turns) -> None:
    messages = [{"role": role, "content": words} for role, words in turns]
    told = tokenizer_of(MARKED).apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, counted = batches.read_chat(tokenizer_of(PLAIN), turns)
    assert ids == told["input_ids"]
    assert counted == [mask == 1 for mask in told["assistant_masks"]]


@given(CHATS, st.integers(8, 60))
def test_batches_ask_for_the_answers_and_nothing_else(turns: Turns, length: int) -> None:
    tokenizer = tokenizer_of(PLAIN)
    ids, counted = batches.read_chat(tokenizer, turns)
    if True not in counted[:length]:
        with pytest.raises(ValueError, match=facts(f"token {length}")):
            batches.encode_chat(tokenizer, turns, length)
        return
    row = batches.encode_chat(tokenizer, turns, length)
    assert list(row.ids) == ids[:length]
    batch = batches.collate([row, batches.encode_chat(tokenizer, EXCHANGE, 60)], 0, "cpu")
    wanted = [token if counts else IGNORED for token, counts in zip(ids, counted, strict=True)][:length]
    assert batch["labels"][0, : len(row)].tolist() == wanted
    assert set(batch["labels"][0, len(row) :].tolist()) <= {IGNORED}


def test_the_loss_is_that_of_the_answers() -> None:
    model = tiny.build("llama")
    rows = [
        batches.Encoded((3, 4, 5, 6, 7, 8, 9), 2, counted=(False, False, True, True, False, False, True)),
        batches.Encoded((9, 8, 7, 6), 1, counted=(False, True, False, True)),
    ]
    batch = batches.collate(rows, 0, "cpu")
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        each = [
            -float(logits[row, at - 1].log_softmax(-1)[token])
            for row, places in ((0, {2: 5, 3: 6, 6: 9}), (1, {1: 8, 3: 6}))
            for at, token in places.items()
        ]
        assert float(batches.loss_of(model, batch)) == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_a_template_that_rewrites_what_stood_before_is_noticed_at_the_row() -> None:
    tokenizer = tokenizer_of(FORGETS)
    assert True in batches.read_chat(tokenizer, EXCHANGE)[1]
    thinking: Turns = (("user", "a"), ("assistant", "think>b"), ("user", "c"), ("assistant", "d"))
    task = parse(file_of(), "mine.jsonl")
    with pytest.raises(BadInput, match=facts("line 7", "message 2")):
        batches.encode(task, [Row("a", "d", thinking[:-1], 7)], tokenizer, 60)


def test_a_template_that_refuses_is_quoted() -> None:
    tokenizer = tokenizer_of(STRICT)
    loading.guard_template(tokenizer)
    with pytest.raises(loading.TemplateError, match="System role not supported"):
        batches.read_chat(tokenizer, (("system", "Be brief."), *EXCHANGE))


def test_without_a_template_the_roles_are_words_and_the_end_token_closes_an_answer() -> None:
    tokenizer = tokenizer_of(None)
    assert batches.write_chat(tokenizer, EXCHANGE) == "User: How deep?\nAssistant: Nine.</s>\n"
    assert batches.write_chat(tokenizer, EXCHANGE[:1], opens=True) == "User: How deep?\nAssistant:"
    ids, counted = batches.read_chat(tokenizer, EXCHANGE)
    learned = [token for token, counts in zip(ids, counted, strict=True) if counts]
    assert tokenizer.decode(learned) == " Nine.</s>"
    assert batches.ends_of(tokenizer) == [tokenizer.eos_token_id]


def test_an_end_of_turn_that_is_not_the_tokenizers_end_stops_an_answer_too() -> None:
    tokenizer = tokenizer_of(PLAIN.replace("</s>", "<turn>"))
    tokenizer.add_special_tokens({"extra_special_tokens": ["<turn>"]})
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    assert batches.ends_of(tokenizer) == [tokenizer.eos_token_id, turn]
    ids, counted = batches.read_chat(tokenizer, EXCHANGE)
    assert [token for token, counts in zip(ids, counted, strict=True) if counts][-1] == turn


def test_a_format_without_an_end_says_so() -> None:
    tokenizer = tokenizer_of(PLAIN.replace("</s>", ""))
    assert batches.end_of_answer(tokenizer) is None
    assert batches.ends_of(tokenizer) == [tokenizer.eos_token_id]


@pytest.mark.weights
def test_smollm_learns_its_answers_and_their_end() -> None:
    tokenizer = load_tokenizer(weights_of("smollm2-135m"))
    turns: Turns = (*EXCHANGE, ("user", "And here?"), ("assistant", "\nEight. "))
    ids, counted = batches.read_chat(tokenizer, turns)
    assert ids == tokenizer.apply_chat_template(
        [{"role": role, "content": words} for role, words in turns], return_dict=False
    )
    learned = str(tokenizer.decode([token for token, counts in zip(ids, counted, strict=True) if counts]))
    assert learned == "Nine.<|im_end|>\nEight. <|im_end|>"
