"""Write the sections that depend on the kind of task: tokens, batches, the loss and scoring."""

from __future__ import annotations

from typing import Any

from peft_lab.core.errors import BadInput
from peft_lab.takeaway import image_code
from peft_lab.takeaway.base_code import default_home
from peft_lab.takeaway.calls import literal
from peft_lab.takeaway.facts import Facts
from peft_lab.takeaway.layout import Section, constants, printed
from peft_lab.training import batches as training
from peft_lab.training import chats
from peft_lab.training.tasks import orders, style
from peft_lab.training.tasks.base import word_f1
from peft_lab.training.tasks.own import OwnTask


def batches(facts: Facts) -> Section:
    """Return the section from rows to tokens to batches to a loss, with the lab's own functions."""
    if facts.task.images:
        return image_code.images_section(facts, default_home())
    prose = "The loss is the mean cross entropy over the rows of a batch."
    encoding: tuple[Any, ...] = (training.encode_labels,)
    call = "encode_labels(tokenizer, texts, [LABELS.index(target) for target in targets], MAX_LENGTH)"
    if not facts.classifies:
        prose = (
            "The model is shown prompt and completion and is asked for the completion's tokens only. The output head "
            "is applied from the first of those to the last; positions count from the end, because a method may put "
            "virtual tokens in front."
        )
        encoding = (chats.opening, training.render, training.completion, training.encode_completions)
        call = "encode_completions(tokenizer, texts, targets, MAX_LENGTH)"
    if facts.apart and not facts.classifies:
        prose = (
            "The encoder reads the prompt. The decoder reads the completion one token late, and at each position the "
            "loss asks for the next token."
        )
        encoding = (training.encode_pairs,)
        call = "encode_pairs(tokenizer, texts, targets, MAX_LENGTH, START)"
    named = constants(training, "IGNORED")
    if facts.chats:
        prose = (
            "The model is shown whole conversations, written by its chat template, and is asked for the tokens of the "
            "assistant's answers only, each up to the token that ends it. The output head is applied from the first of "
            "those to the last; positions count from the end, because a method may put virtual tokens in front."
        )
        encoding = (chats.opening, chats.write_chat, chats.answers_in, chats.read_chat, training.encode_chat)
        call = (
            '[encode_chat(tokenizer, [*turns, ["assistant", target]], MAX_LENGTH) for turns, target in rows]'
        )
        named += constants(chats, "ROLE_LINES")
    loss = (training.Picked, training.picked, training.loss_at, training.loss_of, training.keeps_logits)
    functions = printed(training.Encoded, *encoding, training.wanted, training.collate, *loss)
    encode = (_ENCODE_CHATS if facts.chats else _ENCODE_TEXTS).replace("<CALL>", call)
    code = f"{named}\n\n{functions}\n\n{encode}"
    imports = ("inspect", "collections.abc:Mapping", "collections.abc:Sequence", "dataclasses:dataclass")
    return Section("Tokens, batches, loss", prose, code, (*imports, "typing:Any", "typing:NamedTuple"))


def scoring(facts: Facts) -> Section:
    metric = facts.task.metric.replace("_", " ")
    if facts.classifies:
        if metric != "accuracy":
            raise BadInput(f"A script cannot score '{facts.task.name}' by {metric} yet.", "task")
        prose = "Accuracy and mean loss on the held-out rows."
        return Section("Scoring", prose, _SCORE_CLASSES)
    right, imports = _right(facts)
    prose = f"{metric.capitalize()} of greedy answers, and the mean loss per token, on the held-out rows."
    answer = _ANSWER_APART if facts.apart else _ANSWER
    if facts.chats:
        written = "write_chat(tokenizer, text, True)"
        answer = answer.replace("render(tokenizer, text)", written).replace("tokenizer.eos_token_id", "ENDS")
        right = f"{right}\n\n{printed(chats.end_of_answer, chats.ends_of)}\nENDS = ends_of(tokenizer)\n"
    return Section("Scoring", prose, f"{right}\n\n{answer}\n\n{_SCORE_TEXTS}", imports)


def _right(facts: Facts) -> tuple[str, tuple[str, ...]]:
    """Return the function that judges one generated answer, and its imports. Raises BadInput for other tasks."""
    task = facts.task
    if isinstance(task, orders.Orders):
        return _RIGHT_JSON, ("json",)
    if isinstance(task, orders.Fields):
        return _RIGHT_FIELDS, ()
    if isinstance(task, style.ShipsLog):
        marks = {"OPENINGS": style.OPENINGS, "CLOSINGS": style.CLOSINGS}
        lines = "".join(f"{name} = {_tuple(texts)}\n" for name, texts in marks.items())
        return f"{lines}\n{_RIGHT_STYLE}", ()
    if isinstance(task, OwnTask) and facts.chats:
        return f"{printed(word_f1)}\n{_RIGHT_CHAT}", ("collections:Counter",)
    if isinstance(task, OwnTask):
        return _RIGHT_OWN, ()
    raise BadInput(f"A script cannot score the answers of '{task.name}' yet.", "task")


def _tuple(texts: tuple[str, ...]) -> str:
    return "(\n" + "".join(f"    {literal(text)},\n" for text in texts) + ")"


_ENCODE_TEXTS = """\
def encode(rows):
    texts, targets = [text for text, _ in rows], [target for _, target in rows]
    return <CALL>
"""

_ENCODE_CHATS = """\
def encode(rows):
    return <CALL>
"""

_SCORE_CLASSES = """\
@torch.no_grad()
def score(model, rows):
    model.eval()
    encoded = encode(rows)
    order = sorted(range(len(rows)), key=lambda number: len(encoded[number]))
    right, total = 0, 0.0
    for first in range(0, len(rows), ROWS_AT_ONCE):
        batch = collate([encoded[number] for number in order[first : first + ROWS_AT_ONCE]], PAD, DEVICE)
        labels = batch.pop("labels")
        logits = model(**batch).logits.float()
        total += float(torch.nn.functional.cross_entropy(logits, labels)) * len(labels)
        right += int((logits.argmax(-1) == labels).sum())
    return right / len(rows), total / len(rows)
"""

_ANSWER = '''\
def answer(model, texts):
    """Greedy answers. Prompts are padded on the left, so that every answer starts right after its own."""
    prompts = [render(tokenizer, text) for text in texts]
    made = tokenizer(prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    room = MAX_LENGTH - 1
    tokens = made["input_ids"][:, -room:].to(DEVICE)
    mask = made["attention_mask"][:, -room:].to(DEVICE)
    made = model.generate(
        input_ids=tokens,
        attention_mask=mask,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=PAD,
        eos_token_id=tokenizer.eos_token_id,
    )
    return tokenizer.batch_decode(made[:, tokens.shape[1] :], skip_special_tokens=True)
'''

_ANSWER_APART = '''\
def answer(model, texts):
    """Greedy answers of the decoder, after its first token."""
    made = tokenizer(texts, padding=True, return_tensors="pt")
    made = model.generate(
        input_ids=made["input_ids"][:, -(MAX_LENGTH - 1) :].to(DEVICE),
        attention_mask=made["attention_mask"][:, -(MAX_LENGTH - 1) :].to(DEVICE),
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=PAD,
        eos_token_id=tokenizer.eos_token_id,
    )
    return tokenizer.batch_decode(made[:, 1:], skip_special_tokens=True)
'''

_SCORE_TEXTS = """\
@torch.no_grad()
def score(model, rows):
    model.eval()
    encoded = encode(rows)
    order = sorted(range(len(rows)), key=lambda number: len(encoded[number]))
    hits, total, amount = 0, 0.0, 0
    for first in range(0, len(rows), ROWS_AT_ONCE):
        numbers = order[first : first + ROWS_AT_ONCE]
        batch = collate([encoded[number] for number in numbers], PAD, DEVICE)
        tokens = int((batch["labels"] != IGNORED).sum())
        total += float(loss_of(model, batch)) * tokens
        amount += tokens
        answers = answer(model, [rows[number][0] for number in numbers])
        hits += sum(right(said, rows[number][1]) for said, number in zip(answers, numbers, strict=True))
    return hits / len(rows), total / amount
"""

_RIGHT_JSON = '''\
def once(pairs):
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def no_constant(name):
    raise ValueError(f"{name} is not JSON")


strict = json.JSONDecoder(object_pairs_hook=once, parse_constant=no_constant)


def right(said, target):
    """Whether the first JSON object in an answer equals the expected one, the order of keys aside."""
    if "{" not in said:
        return False
    try:
        found = strict.raw_decode(said, said.find("{"))[0]
    except (ValueError, RecursionError):
        return False
    return json.dumps(found, sort_keys=True) == json.dumps(json.loads(target), sort_keys=True)
'''

_RIGHT_FIELDS = '''\
def read(said):
    """The fields of an answer by name; None where one stands twice, or something is no field."""
    pairs = [part.partition("=") for part in said.split(";")]
    found = {key.strip(): value.strip() for key, _, value in pairs}
    return found if all(mark and key.strip() for key, mark, _ in pairs) and len(found) == len(pairs) else None


def right(said, target):
    """Whether an answer has exactly the expected fields, in any order."""
    return read(said) == read(target)
'''

_RIGHT_STYLE = '''\
def right(said, target):
    """Whether an answer opens and closes like an entry of the log; what it says in between is not judged."""
    return said.lstrip().startswith(OPENINGS) and said.rstrip().endswith(CLOSINGS)
'''

_RIGHT_OWN = '''\
def right(said, target):
    """Whether an answer is the expected one, spacing aside."""
    return said.split() == target.split()
'''

_RIGHT_CHAT = '''\
def right(said, target):
    """How much of an answer is in the expected one."""
    return word_f1(said, target)
'''
