"""Healthy runs that are used wrongly: what only outputs show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft_lab.training.batches import Encoded
from tools.clinic_made.runs import Ran, run
from tools.clinic_made.setup import Setup, collator, fold, mended, rows_of, splits_of

#: A chat's format, as a tokenizer ships it.
TEMPLATE = (
    "{% for message in messages if message['content'] %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NEW_TOKENS = 6


def loss_of(ran: Ran, model: Any) -> float:
    """Mean loss of 16 held-out rows, in nats a token."""
    import torch

    with torch.no_grad():
        batch = collator(ran.setup, ran.base)(rows_of(ran.setup, ran.base, held_out=True))
        return float(model(**batch).loss)


def adapter_disabled(ran: Ran) -> float:
    ran.model.disable_adapter_layers()
    mended(ran.setup, "use", model=ran.model)
    found = loss_of(ran, ran.model)
    ran.model.enable_adapter_layers()
    return found


def training_mode(ran: Ran) -> float:
    """With the dropout that it was trained with."""
    ran.model.train()
    mended(ran.setup, "use", model=ran.model)
    found = loss_of(ran, ran.model)
    ran.model.eval()
    return found


def prefix_ignored(ran: Ran) -> float:
    return loss_of(ran, ran.model.get_base_model())


def other_template(ran: Ran) -> float:
    """Prompts as they stand in the data, without the format that the tokenizer has for a chat."""
    rows = splits_of(ran.setup.task).test[:16]
    texts = [row.text for row in rows]
    found = mended(ran.setup, "use", tokenizer=ran.base.tokenizer, texts=texts)
    return loss_after(ran, texts if found is None else found["prompts"], [row.target for row in rows])


def loss_after(ran: Ran, prompts: list[str], targets: list[str]) -> float:
    """Mean loss of answers to prompts, in nats a token."""
    tokenizer: Any = ran.base.tokenizer
    end = tokenizer.eos_token_id
    rows = []
    for prompt, target in zip(prompts, targets, strict=True):
        before, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, target))
        ids = tuple(fold(token, end) for token in (*before, *answer, end))
        rows.append({"row": Encoded(ids, len(before))})
    import torch

    batch = collator(ran.setup, ran.base)(rows)
    with torch.no_grad():
        return float(ran.model(**batch).loss)


#: By fault: what is set otherwise in training, and how it is used wrongly.
USED: dict[str, tuple[dict[str, Any], Callable[[Ran], float]]] = {
    "adapter-disabled": ({}, adapter_disabled),
    "left-in-training-mode": ({"dropout": 0.3}, training_mode),
    "prefix-ignored": ({"method": "prefix", "rate": 2e-2}, prefix_ignored),
    "template-mismatch": ({"template": TEMPLATE}, other_template),
}


def prepared(fault: str, setup: Setup) -> Setup:
    """The setup as the run of such a case is trained."""
    return replace(setup, **USED[fault][0]) if fault in USED else setup


def written(ran: Ran) -> tuple[list[int], list[int], list[int]]:
    """What generate of the PeftModel, or what mends it, writes; what the logits name; what the base writes."""
    import torch

    ids = torch.tensor([rows_of(ran.setup, ran.base, held_out=True)[0]["row"].ids[:12]])
    how: dict[str, Any] = {
        "max_new_tokens": NEW_TOKENS,
        "do_sample": False,
        "pad_token_id": 2,
        "eos_token_id": 511,
    }
    whole = ids
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            whole = torch.cat([whole, ran.model(input_ids=whole).logits[:, -1:].argmax(-1)], dim=1)
        base = ran.model.get_base_model().generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
        found = mended(ran.setup, "use", model=ran.model, ids=ids, new_tokens=NEW_TOKENS)
        if found is None:
            ids = ran.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
        else:
            ids = found["ids"]
    return ids[0, -NEW_TOKENS:].tolist(), whole[0, -NEW_TOKENS:].tolist(), base[0, -NEW_TOKENS:].tolist()


def trouble(fault: str, setup: Setup, folder: Path) -> float:
    """How much higher the loss is than where the model is used rightly; of a prefix, the share of wrong tokens."""
    ran = run(setup, folder)
    ran.model.eval()
    if fault == "prefix-ignored":
        mine, wanted, _ = written(ran)
        return sum(one != other for one, other in zip(mine, wanted, strict=True)) / NEW_TOKENS
    if fault == "left-in-training-mode":
        return abs(training_mode(ran) / training_mode(ran) - 1)
    return abs(USED[fault][1](ran) / loss_of(ran, ran.model) - 1)
