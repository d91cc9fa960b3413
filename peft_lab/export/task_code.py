"""The sections that depend on the kind of task: tokens, batches, the loss, and scoring."""

from __future__ import annotations

from peft_lab.errors import BadInput
from peft_lab.export.calls import literal
from peft_lab.export.facts import Facts
from peft_lab.export.layout import Section
from peft_lab.tasks import orders, style
from peft_lab.tasks.own import OwnTask


def batches(facts: Facts) -> Section:
    if facts.classifies:
        return Section(
            "Tokens, batches, loss", "The loss is the mean cross entropy over the rows of a batch.", _CLASSIFY
        )
    prose = (
        "The model is shown prompt and completion and is asked for the completion's tokens only. The output head is "
        "applied from the first of those to the last; positions count from the end, because a method may put virtual "
        "tokens in front."
    )
    return Section("Tokens, batches, loss", prose, _GENERATE, ("inspect",))


def scoring(facts: Facts) -> Section:
    metric = facts.task.metric.replace("_", " ")
    if facts.classifies:
        if metric != "accuracy":
            raise BadInput(f"A script cannot score '{facts.task.name}' by {metric} yet.", "task")
        prose = "Accuracy and mean loss on the held-out rows."
        return Section("Scoring", prose, _SCORE_CLASSES)
    right, imports = _right(facts)
    prose = f"{metric.capitalize()} of greedy answers, and the mean loss per token, on the held-out rows."
    return Section("Scoring", prose, f"{right}\n\n{_SCORE_TEXTS}", imports)


def _right(facts: Facts) -> tuple[str, tuple[str, ...]]:
    """The function that says whether one generated answer counts, and its imports."""
    task = facts.task
    if isinstance(task, orders.Orders):
        return _RIGHT_JSON, ("json",)
    if isinstance(task, style.ShipsLog):
        marks = {"OPENINGS": style.OPENINGS, "CLOSINGS": style.CLOSINGS}
        lines = "".join(f"{name} = {_tuple(texts)}\n" for name, texts in marks.items())
        return f"{lines}\n{_RIGHT_STYLE}", ()
    if isinstance(task, OwnTask):
        return _RIGHT_OWN, ()
    raise BadInput(f"A script cannot score the answers of '{task.name}' yet.", "task")


def _tuple(texts: tuple[str, ...]) -> str:
    return "(\n" + "".join(f"    {literal(text)},\n" for text in texts) + ")"


_CLASSIFY = '''\
def encode(rows):
    """Rows as (token ids, label number)."""
    ids = tokenizer([text for text, _ in rows], truncation=True, max_length=MAX_LENGTH)["input_ids"]
    return [(tokens, LABELS.index(label)) for tokens, (_, label) in zip(ids, rows, strict=True)]


def collate(rows):
    """Ids and mask padded on the right (rows, longest), and labels (rows,)."""
    longest = max(len(tokens) for tokens, _ in rows)
    ids = torch.full((len(rows), longest), PAD)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for number, (tokens, _) in enumerate(rows):
        ids[number, : len(tokens)] = torch.tensor(tokens)
        mask[number, : len(tokens)] = 1
    labels = torch.tensor([label for _, label in rows])
    return ids.to(DEVICE), mask.to(DEVICE), labels.to(DEVICE)


def loss_of(model, batch):
    ids, mask, labels = batch
    logits = model(input_ids=ids, attention_mask=mask).logits
    return torch.nn.functional.cross_entropy(logits.float(), labels)
'''

_GENERATE = '''\
IGNORED = -100  # the label of a token that is not asked for


def prompt_of(text):
    """The text in the model's chat format, where it has one."""
    if not tokenizer.chat_template:
        return text
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": text}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def encode(rows):
    """Rows as (token ids, how many of them are the prompt); a prompt that is too long loses its start."""
    spaced = [tokenizer.chat_template or text[-1:].isspace() for text, _ in rows]
    gaps = ["" if there else " " for there in spaced]
    ends = [gap + target + (tokenizer.eos_token or "") for gap, (_, target) in zip(gaps, rows, strict=True)]
    ends = tokenizer(ends, add_special_tokens=False)["input_ids"]
    prompts = tokenizer([prompt_of(text) for text, _ in rows], add_special_tokens=False)["input_ids"]
    kept = [prompt[len(end) - MAX_LENGTH :] for prompt, end in zip(prompts, ends, strict=True)]
    return [(prompt + end, len(prompt)) for prompt, end in zip(kept, ends, strict=True)]


def collate(rows):
    """Ids, mask and labels padded on the right, each (rows, longest)."""
    longest = max(len(tokens) for tokens, _ in rows)
    ids = torch.full((len(rows), longest), PAD)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED)
    for number, (tokens, prompt) in enumerate(rows):
        ids[number, : len(tokens)] = torch.tensor(tokens)
        mask[number, : len(tokens)] = 1
        labels[number, prompt : len(tokens)] = torch.tensor(tokens[prompt:])
    return ids.to(DEVICE), mask.to(DEVICE), labels.to(DEVICE)


def loss_of(model, batch):
    ids, mask, labels = batch
    length = labels.shape[1]
    wanted = (labels != IGNORED).any(dim=0).nonzero().flatten()
    first, last = int(wanted[0]), int(wanted[-1])
    positions = torch.arange(first - 1 - length, last - length, device=DEVICE)
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    keeps = "logits_to_keep" in inspect.signature(bare.forward).parameters
    some = {"logits_to_keep": positions} if keeps else {}
    logits = model(input_ids=ids, attention_mask=mask, **some).logits
    if logits.shape[1] != len(positions):
        logits = logits[:, positions]
    targets = labels[:, first : last + 1]
    said = targets != IGNORED
    return torch.nn.functional.cross_entropy(logits[said].float(), targets[said])
'''

_SCORE_CLASSES = """\
@torch.no_grad()
def score(model, rows):
    model.eval()
    encoded = encode(rows)
    order = sorted(range(len(rows)), key=lambda number: len(encoded[number][0]))
    right, total = 0, 0.0
    for first in range(0, len(rows), ROWS_AT_ONCE):
        ids, mask, labels = collate([encoded[number] for number in order[first : first + ROWS_AT_ONCE]])
        logits = model(input_ids=ids, attention_mask=mask).logits.float()
        total += float(torch.nn.functional.cross_entropy(logits, labels)) * len(labels)
        right += int((logits.argmax(-1) == labels).sum())
    return right / len(rows), total / len(rows)
"""

_SCORE_TEXTS = '''\
def answer(model, texts):
    """Greedy answers. Prompts are padded on the left, so that every answer starts right after its own."""
    prompts = [prompt_of(text) for text in texts]
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


@torch.no_grad()
def score(model, rows):
    model.eval()
    encoded = encode(rows)
    order = sorted(range(len(rows)), key=lambda number: len(encoded[number][0]))
    hits, total, amount = 0, 0.0, 0
    for first in range(0, len(rows), ROWS_AT_ONCE):
        numbers = order[first : first + ROWS_AT_ONCE]
        batch = collate([encoded[number] for number in numbers])
        tokens = int((batch[2] != IGNORED).sum())
        total += float(loss_of(model, batch)) * tokens
        amount += tokens
        answers = answer(model, [rows[number][0] for number in numbers])
        hits += sum(right(said, rows[number][1]) for said, number in zip(answers, numbers, strict=True))
    return hits / len(rows), total / amount
'''

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
