"""Walk the tree for a situation, check its advice, and give the reasons.

Advice must apply to the model, fit on the device (simulated) and into the storage per task (counted), and not
lengthen requests beyond the limit. Advice that fails is overruled by the next that passes; the trace says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from peft_lab.advise import plan as plans
from peft_lab.advise import room, tree, words
from peft_lab.advise.plan import StepPlan, Unknown, unknown
from peft_lab.advise.room import Room, training_seconds
from peft_lab.advise.simulating import Step, StepRun
from peft_lab.advise.situation import FOLLOWING, FOUND, WORDS, Situation, stored_bytes, tight
from peft_lab.advise.tree import (
    ADAPTER_LATENCY,
    ADVICE,
    BITS_A_PARAMETER,
    BITS_A_TOKEN,
    NODES,
    NOTHING,
    QUESTIONS,
    ROOT,
    UNTRAINED,
    Advice,
    Reason,
    TreePlace,
    label,
)
from peft_lab.advise.words import GIVEN, amount, answer, found_answer, held
from peft_lab.atlas import all_types
from peft_lab.core import references as src
from peft_lab.core import units
from peft_lab.core.errors import BadInput, SimulationError, named
from peft_lab.core.units import Source
from peft_lab.methods import get_method
from peft_lab.models.catalogue import known_base
from peft_lab.takeaway.ship.passport import served_by

#: Share of the time that a base in 4 bits has to save to be chosen where 16 bits fit too: estimates err by less.
WORTH = 0.1
#: The methods that Plan ranks unasked, most capable first; a deadline decides between them.
RANKED = ("full", "lora", "qlora")
#: QLoRA is a runner-up only if its base saves at least this share of a step: the lab's own limit.
SAVES = 0.1
#: Methods that servers such as vLLM apply; once merged, every method is a plain model to them.
_SERVED = ("lora", "qlora", "full")


@dataclass(frozen=True)
class Answered:
    """One question of the path. ``how``: ``told`` or a kind of source. ``because``: the figure behind it."""

    node: str
    question: str
    value: str
    label: str
    how: str
    because: str


@dataclass(frozen=True)
class Why:
    """One reason. ``kind``: the kind of its source; empty if the text follows from a definition."""

    text: str
    source: str
    kind: str


@dataclass(frozen=True)
class Decision:
    """The path through the tree and the advice that works.

    Attributes:
        others: further fallbacks, not tried yet. saved: share of the time of 16 bits that 4 bits save, if they do.
    """

    path: tuple[Answered, ...]
    advice: Advice
    step: Step | None
    overruled: list[Why]
    others: tuple[Advice, ...]
    saved: float = 0.0


@dataclass(frozen=True)
class Recommendation:
    """What to do. ``plan`` is ``None`` if nothing is trained, ``runner_up`` if nothing comes second.

    Attributes:
        unknown: what is not known, one sentence each. nearest: ways out if nothing can be done.
    """

    method: str
    advice: str
    title: str
    why: tuple[Why, ...]
    path: tuple[Answered, ...]
    plan: StepPlan | None
    runner_up: str | None
    runner_up_text: str
    overruled: tuple[Why, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    nearest: Mapping[str, words.Near] = field(default_factory=dict)


def recommend(situation: Situation, room: Room, claims: Mapping[str, str] | None = None) -> Recommendation:
    """Return the recommendation for a situation. ``claims``: the user's answers to questions that the lab answers
    itself; they must equal the lab's. Raises BadInput if the situation or a claim is impossible; SimulationError if a
    step cannot be simulated."""
    situation.check()
    _check_claims(situation, room, claims or {})
    decided = decide(situation, room)
    chosen, step, path = decided.advice, decided.step, decided.path
    planned = None if step is None else plans.make(situation, room, chosen, step)
    known = words.TemplateWords(situation, room, chosen, planned)
    known["quicker"] = next((words.sentence(at.because) for at in path if at.question == "quicker"), "")
    named: tuple[str, str] | None = None
    if chosen.method in UNTRAINED and chosen.method != NOTHING:
        trained = decide(replace(situation, prompting="no"), room).advice
        named = trained.method, f"If that is not enough: {trained.title}."
    elif chosen.id == "no-way":  # a smaller model does not help if the storage per task is too small
        named = None
    elif chosen.method == NOTHING:
        named = _on_a_smaller_model(situation, room, "qlora")
    else:
        second = _second(situation, room, decided)
        named = (second.method, f"{second.title} {second.instead}") if second else None
        if named is not None and decided.saved and named[0] == "lora":
            more = 1 / (1 - decided.saved) - 1
            named = "lora", f"LoRA on a 16-bit base fits too, but takes {more:.0%} more time."
        if named is None and chosen.method == "qlora":
            named = _on_a_smaller_model(situation, room, "lora")
    why = [
        Why(reason.text.format_map(known), reason.source, str(reason.kind or ""))
        for reason in chosen.reasons
        if _is_so(reason, situation, room, path)
    ]
    if chosen.method == NOTHING:
        why += decided.overruled
    if planned is not None and chosen.method == "full" and planned.remembered != "float32":
        why.append(Why(words.LOST, src.PURE_BF16, str(Source.CITED)))
    told = ("quicker",) if chosen.method == "qlora" else ()  # its reason has the figures
    why += [
        Why(words.sentence(at.because), _basis(at.how), at.how)
        for at in path
        if at.how != GIVEN and at.question not in told
    ]
    slug, text = named or (None, "")
    ways = {}
    if chosen.method == NOTHING:
        ways = words.nearest(situation, room, lambda there, rooms: decide(there, rooms, quick=True).advice)
    return Recommendation(
        chosen.method, chosen.id, chosen.title, tuple(why), path, planned, slug, text, tuple(decided.overruled),
        unknown(situation, chosen, planned),
        ways,
    )  # fmt: skip


def decide(situation: Situation, room: Room, quick: bool = False) -> Decision:
    """Return the advice alone, without reasons and runner-up. Raises as :func:`recommend`.

    ``quick``: only check whether advice fits; its step is then the smallest.
    """
    situation.check()
    path, leaf = walk(situation, room)
    if leaf.method in UNTRAINED:
        return Decision(path, leaf, None, [], ())
    overruled: list[Why] = []
    saved = 0.0
    tried = (leaf, *(ADVICE[name] for name in leaf.others))
    if leaf.four and any(at.question == "base" for at in path):
        saved, because = _faster(situation, room, leaf)
        question, value = QUESTIONS["quicker"], "yes" if saved else "no"
        if because:
            how = str(Source.SIMULATED)
            path = (*path, Answered("", question.key, value, question.answers[value], how, because))
        if saved:
            tried = (ADVICE[leaf.four], *tried)
    first: Decision | None = None
    for number, advice in enumerate(tried, start=1):
        if first is not None and (advice.method == first.advice.method or advice.method not in RANKED):
            continue
        found = _step(
            situation, room, advice, room.smallest if quick and situation.deadline_hours is None else None
        )
        if isinstance(found, Step):
            late = _late(situation, room, advice, found)
            here = Decision(path, advice, found, list(overruled), tried[number:], saved)
            if late is None:
                return here
            first, found = first or here, late
        overruled.append(replace(found, text=f"{_named(advice)}: {found.text}"))
    return first or Decision(path, ADVICE["no-way"], None, overruled, ())


def _faster(situation: Situation, room: Room, leaf: Advice) -> tuple[float, str]:
    """Compare LoRA's best step with QLoRA's, if LoRA's computes twice or is split; only a GPU saves time so.

    Returns:
        the share of the time that 4 bits save, 0 if too little, and the figures as a text; empty if 16 bits leave
        enough room, so that the question is not asked.
    """
    if situation.hardware.kind != "cuda" or situation.shape.mixtures:
        return 0.0, ""
    wide = _step(situation, room, leaf)
    if not isinstance(wide, Step) or not (wide.checkpointing or wide.split):
        return 0.0, ""
    packed = ADVICE[leaf.four]
    narrow = _step(situation, room, packed)
    shape, tokens = situation.shape, situation.tokens * situation.pairs
    if not isinstance(narrow, Step):
        return 0.0, ""
    times = [
        training_seconds(situation, one.method, one.knobs(shape), step, room.devices, tokens)
        for one, step in ((leaf, wide), (packed, narrow))
    ]
    if times[0] is None or times[1] is None:
        return 0.0, ""
    saved = 1 - sum(times[1]) / sum(times[0])
    free = [units.percent(100 * (1 - step.needed / room.memory)) for step in (wide, narrow)]
    twice = " with activations computed twice" if wide.checkpointing else ""
    split = f" sharded over {room.devices:,} devices" if wide.split else ""
    again = ", without computing anything twice" if wide.checkpointing and not narrow.checkpointing else ""
    share = f"{abs(saved):.0%} {'less' if saved >= 0 else 'more'} time"
    because = (
        f"a 16-bit base fits{split or ' only'}{twice} and leaves {free[0]} of each device free; a 4-bit base leaves "
        f"{free[1]} free{again} and takes {share}"
    )
    return (saved if saved >= WORTH else 0.0), because


def _late(situation: Situation, room: Room, advice: Advice, step: Step) -> Why | None:
    """Return the objection to advice that is not sure to end by the deadline; ``None`` if it is, or has none."""
    limit = situation.deadline_hours
    if limit is None or advice.method not in RANKED:
        return None
    seconds = plans.make(situation, room, advice, step).seconds
    if seconds is None or seconds[1] * situation.tasks <= limit * 3600:
        return None
    span = units.span(seconds[0] * situation.tasks, seconds[1] * situation.tasks)
    return _against(f"it is not sure to finish within {units.several(f'{limit:g}', 'hour')}: {span}.")


def _second(situation: Situation, room: Room, decided: Decision) -> Advice | None:
    """Return the next fallback that uses another method, fits (if need be with one row) and has an advantage."""
    others = (advice for advice in decided.others if advice.method != decided.advice.method)
    return next(
        (
            one
            for one in others
            if (one.method != "qlora" or _memory_is_short(situation, decided.step))
            and isinstance(_step(situation, room, one, room.smallest), Step)
        ),
        None,
    )


def _memory_is_short(situation: Situation, step: Step | None) -> bool:
    """Return whether a base in 4 bits is worth it: it saves memory alone, at the price of time.

    That is so on a GPU whose 16-bit step had to shrink, if packing saves at least :data:`SAVES` of its memory. A
    processor unpacks the weights into the same main memory.
    """
    if step is None or situation.hardware.kind != "cuda":
        return False
    shrunk = step.checkpointing or step.accumulate > 1 or step.split or step.loss != "whole"
    run = StepRun(step.batch, step.checkpointing)
    shape = situation.shape
    saved = room.weight_bytes(shape, "lora", run) - room.weight_bytes(shape, "qlora", run)
    return shrunk and saved >= SAVES * step.needed


def walk(
    situation: Situation, room: Room, given: Mapping[str, str] | None = None
) -> tuple[tuple[Answered, ...], Advice]:
    """Return the path through the tree and the advice at its end. ``given``: answers that take precedence."""
    path: list[Answered] = []
    at = ROOT
    while at in NODES:
        node = NODES[at]
        question = QUESTIONS[node.question]
        if given and question.key in given:
            value, because, how = given[question.key], "", GIVEN
        else:
            value, because = answer(question.key, situation, room)
            how = GIVEN if question.by == "you" else question.by
        branch = next(branch for branch in node.branches if value in branch.values)
        path.append(Answered(at, question.key, value, label(branch, question), how, because))
        at = branch.to
    return tuple(path), ADVICE[at]


def _check_claims(situation: Situation, room: Room, claims: Mapping[str, str]) -> None:
    for key, value in claims.items():
        found, because = answer(key, situation, room)
        if found != value:
            raise BadInput(
                f"{key}={value} is not true for this model and device: {because} ({key}={found}).", key
            )


def _on_a_smaller_model(situation: Situation, room: Room, method: str) -> tuple[str, str] | None:
    """Return what to do on this device with a smaller model; ``None`` if no such model fits."""
    title = words.smaller_model(situation, room, method)
    return (method, f"{get_method(method).title} on {title}, which fits this device.") if title else None


def _named(advice: Advice) -> str:
    """Return the method's title with the settings that tell this advice from others of the method."""
    said = ", ".join(
        f"{name} {'+'.join(map(str, value)) or 'none' if isinstance(value, tuple) else value}"
        for name, value in advice.values.items()
    )
    return f"{advice.title} ({said or 'defaults'})"


def _step(
    situation: Situation,
    room: Room,
    advice: Advice,
    fitting: Callable[[str, Mapping[str, Any]], Step | None] | None = None,
) -> Step | Why:
    """Return a step that fits, or why there is none. ``fitting``: how to find it; by default the cheapest."""
    shape, spec = situation.shape, get_method(advice.method)
    try:
        values = advice.knobs(shape)
        stored = stored_bytes(shape, advice.method, values)
        if situation.storage is not None and stored > situation.storage:
            said, most = units.unlike(stored, situation.storage)
            return _against(f"it stores {said}; at most {most} is allowed.")
        refused = unserved(situation, advice)
        if refused is not None:
            return refused
        virtual, limit = spec.virtual_tokens(spec.complete(shape, values)), shape.max_positions
        longer = lengthens(situation, advice)
        if longer is not None:
            return longer
        if limit is not None and situation.seq + virtual > limit:
            more = f"{situation.seq:,} tokens and {virtual:,} virtual ones"
            return _against(f"{shape.title} has {limit:,} positions, too few for {more}.")
        step = (fitting or room.step)(advice.method, values)
    except (BadInput, SimulationError) as error:
        return _against(str(error))
    if step is None:
        if fitting is not None:  # nobody reads the reason
            return _against("no step of it fits.")
        least = units.size(room.least(advice.method, values))
        return Why(f"even one row needs {least}.", _basis(Source.SIMULATED), str(Source.SIMULATED))
    return step


def lengthens(situation: Situation, advice: Advice) -> Why | None:
    """Return the objection to advice that lengthens requests beyond the limit; ``None`` if it does not."""
    if words.found_answer("latency", situation)[0] == "relaxed" or situation.latency is None:
        return None
    allowed = f"at most {units.percent(situation.latency)} more time is allowed."
    spec = get_method(advice.method)
    virtual = spec.virtual_tokens(spec.complete(situation.shape, advice.knobs(situation.shape)))
    if virtual:
        return _against(f"its {virtual:,} virtual tokens make every request longer; {allowed}")
    if advice.method == "adapters":
        text = f"its layers, which run in sequence, added {ADAPTER_LATENCY} or more; {allowed}"
        return Why(text, ADAPTER_LATENCY.note, str(ADAPTER_LATENCY.source))
    return None


#: Answers that leave a model of the base's own kind, which is served as the base is.
_AS_THE_BASE = ("full", "bitfit", *UNTRAINED)


def served(situation: Situation, found: Recommendation) -> str:
    """Return one line on which engines serve what the method trains: the passport of its config."""
    if found.method in _AS_THE_BASE:
        return "as the base: nothing is added to the model."
    kinds = {entry.taught or entry.name: entry.type for entry in all_types().values()} | {"qlora": "LORA"}
    knobs = found.plan.values if found.plan is not None else {}
    values = {name: value for name, value in knobs.items() if value != "default"}  # PEFT's own default
    kind = kinds.get(found.method, found.method.upper())
    return served_by({"peft_type": kind, **values}, known_base(situation.model))


def _against(text: str) -> Why:
    return Why(text, _basis(Source.COUNTED), str(Source.COUNTED))


def unserved(situation: Situation, advice: Advice) -> Why | None:
    """Return the objection to a method that the server can apply neither as it is nor merged, else ``None``."""
    spec = get_method(advice.method)
    merged = situation.tasks == 1 and (spec.mergeable or advice.method == "bitfit")
    if situation.serving != "vllm" or advice.method in _SERVED or merged:
        return None
    return Why("servers such as vLLM apply LoRA, but not this method.", src.VLLM, str(Source.CITED))


def _is_so(reason: Reason, situation: Situation, room: Room, path: tuple[Answered, ...]) -> bool:
    """Return whether a reason holds in this situation."""
    if reason.when is None:
        return True
    question, wanted = reason.when
    if question in FOLLOWING:
        return any((at.question, at.value) == reason.when for at in path)
    return words.value(question, situation, room) == wanted


def _basis(how: str) -> str:
    return "simulated training step" if how == Source.SIMULATED else "counted on the model"


# ----------------------------------------
# From a place in the tree back to a situation: change the answers needed to get there, and nothing else.


USUAL = Situation()
TWICE = 2  # times the tokens that LoRA holds: clearly beyond the threshold


def find_place(name: str) -> TreePlace:
    """Return a place of the tree by its id. Raises UnknownName if there is none."""
    known = {place.id: place for place in tree.places()}
    return named("place in the tree", name, known)


def reach(situation: Situation, place: TreePlace, known: Mapping[str, str]) -> Situation:
    """Return the situation that leads to ``place``. ``known``: the simulation's answers for this situation, by
    question; only these count as given. If the lab would answer one of its own questions otherwise here, an example
    model on an example device is used instead. Raises BadInput if no example has the answers."""
    wanted = {NODES[node].question: values for node, values in place.way}
    facts = {key: values for key, values in wanted.items() if key in FOUND}
    here = {
        **tree.counted_answers(situation.shape),
        **{key: known[key] for key in ("base", "full") if key in known},
    }
    if any(here.get(key) not in values for key, values in facts.items()):
        example = tree.find_example(facts)
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
    """Return the situation's answer; none of these questions needs the simulation."""
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
