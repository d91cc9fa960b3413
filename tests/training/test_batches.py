"""What a model is given: rows in turn, in batches, as conversations, and packed."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from peft_lab.core.errors import BadInput
from peft_lab.models import loading
from peft_lab.models.loading import load_tokenizer, weights_of
from peft_lab.training import batches, tasks
from peft_lab.training.batches import (
    IGNORED,
    TYPES,
    Encoded,
    Packed,
    collate,
    collate_packed,
    fill,
    no_cache,
    size_of,
)
from peft_lab.training.tasks.base import Row, Turns
from peft_lab.training.tasks.own import parse
from tests.methods import tiny
from tests.prose import facts
from tests.takeaway.conftest import byte_tokenizer
from tests.training.tasks.test_own import file_of


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
def test_a_long_prompt_loses_its_start_and_never_the_answer() -> None:
    task, tokenizer = tasks.get_task("json"), load_tokenizer(weights_of("smollm2-135m"))
    row = Row("word " * 500 + "JSON:", '{"a": 1}')
    encoded = batches.encode(task, [row], tokenizer, 64)[0]
    assert len(encoded) == 64 and row.target in tokenizer.decode(list(encoded.ids))
    with pytest.raises(BadInput, match="leaves no room"):
        batches.encode(task, [Row("a", "word " * 100)], tokenizer, 64)


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


# ----------------------------------------
# Which tokens of a conversation are answers: told by the template itself where it can, and checked against that.


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


# ----------------------------------------
# Packed rows: loss and gradients are those of the rows apart, for every type of model that is offered packing.


ROOM = 24
#: Sums in float32, taken in another order.
CLOSE = 1e-5


def rows() -> list[Encoded]:
    """Of unequal lengths; one has no prompt, so that all its tokens are learned."""
    chance = random.Random(1)
    lengths = (9, 5, 12, 7, 3, 11)
    return [
        Encoded(tuple(chance.randrange(3, 96) for _ in range(length)), number % 3)
        for number, length in enumerate(lengths)
    ]


def model_of(kind: str) -> Any:
    """A small one with random weights; windows of attention are shorter than rows, where it has any."""
    wanted: dict[str, Any] = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "sliding_window": 6,
        "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "num_local_experts": 4,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0, "hidden_dropout": 0.0,
        "resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "embedding_dropout": 0.0, "residual_dropout": 0.0,
    }  # fmt: skip
    usual = transformers.AutoConfig.for_model(kind)
    fields = {name: value for name, value in wanted.items() if hasattr(usual, name)}
    if kind == "gpt2":
        fields |= {"n_positions": 64, "n_inner": 48}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **fields)
    return transformers.AutoModelForCausalLM.from_config(config).train()


def learned(model: Any, batches: list[dict[str, torch.Tensor]]) -> tuple[float, list[torch.Tensor]]:
    """The mean loss over all tokens of some batches, and its gradients."""
    model.zero_grad()
    tokens = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = model(**batch, num_items_in_batch=tokens).loss
        loss.backward()
        total += float(loss.detach())
    return total, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def apart(model: Any, kind: str) -> float:
    """How far packed rows are from the rows apart, in loss or in a gradient."""
    no_cache(model)
    packs = [
        Packed(tuple(rows()[number] for number in pack)) for pack in fill([len(row) for row in rows()], ROOM)
    ]
    assert len(packs) == 2 and max(len(pack.rows) for pack in packs) > 2
    alone, one_by_one = learned(model, [collate([row], 0, "cpu") for row in rows()])
    together, at_once = learned(model, [collate_packed(packs, 0, "cpu")])
    assert len(one_by_one) == len(at_once) > 4, kind
    far = max(float((a - b).abs().max()) for a, b in zip(one_by_one, at_once, strict=True))
    return max(far, abs(alone - together))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", TYPES)
def test_packed_rows_learn_what_they_learn_apart(kind: str) -> None:
    assert apart(model_of(kind), kind) < CLOSE


@pytest.mark.parametrize("kind", ["bloom", "opt"])
def test_rows_of_other_models_would_see_each_other(kind: str) -> None:
    """So the comparison notices it."""
    assert apart(model_of(kind), kind) > 100 * CLOSE
    assert kind not in TYPES


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_packed_once_and_no_row_is_overfull(seed: int) -> None:
    chance = random.Random(seed)
    lengths = [chance.randint(1, 60) for _ in range(300)]
    packs = fill(lengths, 64)
    assert sorted(number for pack in packs for number in pack) == list(range(300))
    filled = [sum(lengths[number] for number in pack) for pack in packs]
    assert max(filled) <= 64
    least = -(-sum(lengths) // 64)
    assert least <= len(packs) <= 1.1 * least, "any fit that leaves rows half empty would be above"


def test_nothing_is_predicted_across_the_end_of_a_row() -> None:
    first, second = Encoded((5, 6, 7), 0), Encoded((8, 9), 0)
    batch = collate_packed([Packed((first, second)), Packed((second,))], 1, "cpu")
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [8, 9, 1, 1, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9], [-100, 9, -100, -100, -100]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert "attention_mask" not in batch
