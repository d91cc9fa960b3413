"""From a place in the tree back to a situation: what has to be answered to get there, and nothing else changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil

from peft_lab.choose import counted, examples
from peft_lab.choose.answers import amount, found_answer, held
from peft_lab.choose.cited import BITS_A_PARAMETER, BITS_A_TOKEN
from peft_lab.choose.reading import tight
from peft_lab.choose.situation import FOUND, WORDS, Situation
from peft_lab.choose.tree import NODES, Place
from peft_lab.errors import UnknownName

USUAL = Situation()
TWICE = 2  # as many tokens as LoRA holds, to be beyond the line


def find_place(name: str) -> Place:
    """A place by its id. Raises UnknownName."""
    from peft_lab.choose.tree import places

    known = {place.id: place for place in places()}
    if name not in known:
        raise UnknownName("place in the tree", name, known)
    return known[name]


def reach(situation: Situation, place: Place, known: Mapping[str, str]) -> Situation:
    """The situation that leads to ``place``.

    Args:
        known: what the simulation found for this situation, by question; only these answers count as given.

    Where an answer is one that the lab finds itself and it is not so here, an example model on an example device is
    taken. Where no example is like that either, the nearest is, and the path shows where it leads.
    """
    wanted = {NODES[node].question: values for node, values in place.way}
    facts = {key: values for key, values in wanted.items() if key in FOUND}
    here = {
        **counted.answers(situation.shape),
        **{key: known[key] for key in ("base", "full") if key in known},
    }
    if any(here.get(key) not in values for key, values in facts.items()):
        example = examples.find(facts)
        situation = replace(
            situation, model=example.model, device=example.device, devices=example.devices, link=example.link,
            batch=USUAL.batch, seq=USUAL.seq, output="", objective="",
        )  # fmt: skip
    for key, values in wanted.items():
        if key in FOUND or _given(key, situation) in values:
            continue
        situation = _set(situation, key, values[0])
    return situation


def _given(key: str, situation: Situation) -> str:
    """What the situation answers; none of these questions needs the simulation."""
    return amount(situation)[0] if key == "amount" else found_answer(key, situation)[0]


def _set(situation: Situation, key: str, value: str) -> Situation:
    if (key, value) == ("storage", "tight"):
        return replace(situation, storage=tight(situation.shape))
    if key == "amount":
        more = ceil(TWICE * held(situation) * BITS_A_PARAMETER.value / BITS_A_TOKEN.value)
        return replace(
            situation, rows=max(1, more // situation.seq) if value == "exceeds" else 1, row_tokens=None
        )
    if key == "objective":
        return replace(situation, objective=value, output="")
    return replace(situation, **{key: WORDS[key][value]})
