"""Walk the tree for a situation, check what it advises, and say why.

A piece of advice has to apply to the model, to fit on the device (simulated) and into the room for a task (counted),
and to leave requests as long as they are where they may take no longer. What does not is overruled by the next that
does, and the trace says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from peft_lab import published, units
from peft_lab.choose import answers, words
from peft_lab.choose.advice import ADVICE, NOTHING, PROMPTING, Advice, Reason
from peft_lab.choose.answers import GIVEN, answer
from peft_lab.choose.cited import ADAPTER_LATENCY
from peft_lab.choose.room import Room, Step, StepPlan
from peft_lab.choose.situation import Situation, stored_bytes
from peft_lab.choose.tree import NODES, QUESTIONS, ROOT, label
from peft_lab.errors import BadInput, SimulationError
from peft_lab.methods import get_method
from peft_lab.recipes.job import job
from peft_lab.recipes.recipe import recipe
from peft_lab.units import Source

_DTYPE = "bfloat16"  # of a simulated step
_BFLOAT16 = (8, 0)  # compute capability from which a GPU multiplies it
_TIGHT = 0.95  # of the memory: nearer to it than the simulation is exact


@dataclass(frozen=True)
class Answered:
    """One question of the path. ``how`` is ``told`` or a source; ``because`` the figure behind the answer."""

    node: str
    question: str
    value: str
    label: str
    how: str
    because: str


@dataclass(frozen=True)
class Why:
    """One reason. ``kind`` is its source's, empty where the text follows from a definition."""

    text: str
    source: str
    kind: str


@dataclass(frozen=True)
class Decision:
    """What the tree says and what can be: ``others`` goes on through what could stand in, worked out when asked."""

    path: tuple[Answered, ...]
    advice: Advice
    plan: StepPlan | None
    overruled: list[Why]
    others: Iterator[tuple[Advice, StepPlan]]


@dataclass(frozen=True)
class Recommendation:
    """What to do. ``plan`` is ``None`` where nothing is trained; ``runner_up`` where nothing comes second."""

    method: str
    advice: str
    title: str
    why: tuple[Why, ...]
    path: tuple[Answered, ...]
    plan: StepPlan | None
    runner_up: str | None
    runner_up_text: str
    overruled: tuple[Why, ...] = ()


def recommend(situation: Situation, room: Room, claims: Mapping[str, str] | None = None) -> Recommendation:
    """The recommendation for a situation.

    Args:
        claims: answers that were given to questions the lab answers itself; they have to be what it finds.

    Raises:
        BadInput: the situation or a claim cannot be. SimulationError: a step that cannot be simulated.
    """
    situation.check()
    _check_claims(situation, room, claims or {})
    decided = decide(situation, room)
    chosen, plan, path = decided.advice, decided.plan, decided.path
    known = words.Words(situation, room, chosen, plan)
    named: tuple[str, str] | None = None
    if chosen.method == PROMPTING:
        trained = decide(replace(situation, prompting="no"), room).advice
        named = trained.method, f"If a prompt is not enough after all: {trained.title}."
    elif chosen.id == "no-way":  # a smaller model is no way out where the room for a task is too small
        named = None
    elif chosen.method == NOTHING:
        named = _on_a_smaller_model(situation, room, "qlora")
    elif chosen.method == "qlora":
        named = _on_a_smaller_model(situation, room, "lora")
    else:
        second = next((advice for advice, _ in decided.others if advice.method != chosen.method), None)
        named = (second.method, f"{second.title} {second.instead}") if second else None
    reasons = [reason for reason in chosen.reasons if _is_so(reason, situation, room)]
    return _result(chosen, reasons, known, path, plan, named, tuple(decided.overruled))


def decide(situation: Situation, room: Room) -> Decision:
    """The advice alone, without reasons and runner-up. Raises as :func:`recommend`."""
    situation.check()
    path, leaf = walk(situation, room)
    if leaf.method in (PROMPTING, NOTHING):
        return Decision(path, leaf, None, [], iter(()))
    overruled: list[Why] = []
    possible = _possible(situation, room, leaf, overruled)
    chosen, plan = next(possible, (ADVICE["no-way"], None))
    return Decision(path, chosen, plan, list(overruled), possible)


def walk(
    situation: Situation, room: Room, given: Mapping[str, str] | None = None
) -> tuple[tuple[Answered, ...], Advice]:
    """The way through the tree and where it ends. ``given`` answers questions otherwise than the situation does."""
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
                f"{key}={value} does not hold for this model and device: {because} ({key}={found}).", key
            )


def _on_a_smaller_model(situation: Situation, room: Room, method: str) -> tuple[str, str] | None:
    """What to do on this device with less of a model."""
    title = words.smaller_model(situation, room, method)
    return (method, f"{get_method(method).title} on {title}, which fits this device.") if title else None


def _possible(
    situation: Situation, room: Room, leaf: Advice, overruled: list[Why]
) -> Iterator[tuple[Advice, StepPlan]]:
    """The leaf and what may stand in for it, as far as it can be; reasons against what cannot go to ``overruled``."""
    for advice in (leaf, *(ADVICE[name] for name in leaf.others)):
        found = _step(situation, room, advice)
        if isinstance(found, Step):
            yield advice, _plan(situation, room, advice, found)
        else:
            overruled.append(replace(found, text=f"{_named(advice)}: {found.text}"))


def _named(advice: Advice) -> str:
    """The method with the settings that tell this advice from others of it."""
    settings = ", ".join(f"{name} {_plain(value)}" for name, value in advice.values.items())
    return f"{advice.title} ({settings or 'defaults'})"


def _plain(value: object) -> str:
    return "+".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _step(situation: Situation, room: Room, advice: Advice) -> Step | Why:
    """A step that fits, or why there is none."""
    shape, spec = situation.shape, get_method(advice.method)
    try:
        values = advice.knobs(shape)
        stored = stored_bytes(shape, advice.method, values)
        if situation.storage is not None and stored > situation.storage:
            return _against(
                f"it stores {units.size(stored)}, at most {units.size(situation.storage)} is allowed."
            )
        virtual, limit = spec.virtual_tokens(spec.complete(shape, values)), shape.max_positions
        longer = lengthens(situation, advice)
        if longer is not None:
            return longer
        if limit is not None and situation.seq + virtual > limit:
            more = f"{situation.seq:,} tokens and {virtual:,} virtual ones"
            return _against(f"{shape.title} has {limit:,} positions, {more} do not fit.")
        step = room.step(advice.method, values)
    except (BadInput, SimulationError) as error:
        return _against(str(error))
    if step is None:
        least = units.size(room.least(advice.method, values))
        return Why(f"even one row needs {least}.", _found_how(Source.SIMULATED), str(Source.SIMULATED))
    return step


def lengthens(situation: Situation, advice: Advice) -> Why | None:
    """The reason against what makes requests longer and cannot be merged, where they may take no longer."""
    if answers.found_answer("latency", situation)[0] == "relaxed" or situation.latency is None:
        return None
    allowed = f"at most {units.percent(situation.latency)} more time is allowed."
    spec = get_method(advice.method)
    virtual = spec.virtual_tokens(spec.complete(situation.shape, advice.knobs(situation.shape)))
    if virtual:
        return _against(f"its {virtual:,} virtual tokens lengthen every request; {allowed}")
    if advice.method == "adapters":
        text = f"its layers in sequence took {ADAPTER_LATENCY} longer or more; {allowed}"
        return Why(text, ADAPTER_LATENCY.note, str(ADAPTER_LATENCY.source))
    return None


def _against(text: str) -> Why:
    return Why(text, _found_how(Source.COUNTED), str(Source.COUNTED))


def _plan(situation: Situation, room: Room, advice: Advice, step: Step) -> StepPlan:
    shape, spec = situation.shape, get_method(advice.method)
    values, dtype = spec.complete(shape, advice.knobs(shape)), _DTYPE
    if situation.hardware.kind == "cuda" and situation.hardware.capability < _BFLOAT16:
        dtype = "float16"
        values = {name: dtype if value == _DTYPE else value for name, value in values.items()}
    asked = job(
        advice.method, shape, situation.objective, situation.rows, situation.seq, batch=step.batch * step.accumulate,
        dtype=dtype, checkpointing=step.checkpointing, values=values,
    )  # fmt: skip
    return StepPlan(
        values=values,
        batch=step.batch,
        seq=situation.seq,
        checkpointing=step.checkpointing,
        accumulate=step.accumulate,
        recipe=recipe(asked),
        needed_bytes=step.needed,
        memory_bytes=room.memory,
        trainable=spec.formula(shape, values).trainable,
        stored_bytes=stored_bytes(shape, advice.method, values),
    )


def _is_so(reason: Reason, situation: Situation, room: Room) -> bool:
    """Whether a reason holds in this situation."""
    if reason.when is None:
        return True
    question, value = reason.when
    return answer(question, situation, room)[0] == value


def _result(
    advice: Advice,
    reasons: Sequence[Reason],
    known: words.Words,
    path: tuple[Answered, ...],
    plan: StepPlan | None,
    runner: tuple[str, str] | None,
    overruled: tuple[Why, ...],
) -> Recommendation:
    why = [Why(reason.text.format_map(known), reason.source, str(reason.kind or "")) for reason in reasons]
    if advice.method == NOTHING:
        why += overruled
    if plan is not None and plan.needed_bytes > _TIGHT * plan.memory_bytes:
        share, off = units.percent(100 * plan.needed_bytes / plan.memory_bytes), _largest()
        text = (
            f"This is tight: the step takes {share} of the usable memory, and simulated peaks were off by up to "
            f"{off}."
        )
        why.append(Why(text, _found_how(Source.SIMULATED), str(Source.SIMULATED)))
    why += [
        Why(words.sentence(step.because), _found_how(step.how), step.how)
        for step in path
        if step.how != GIVEN
    ]
    slug, text = runner or (None, "")
    return Recommendation(
        advice.method, advice.id, advice.title, tuple(why), path, plan, slug, text, overruled
    )


def _largest() -> str:
    """How far the simulation was off at most, of all published peaks."""
    errors = [
        published.error(published.rows()[name], outcome) for name, outcome in published.simulated().items()
    ]
    return units.percent(published.agreement(errors).largest)


def _found_how(how: str) -> str:
    return "simulated training step" if how == Source.SIMULATED else "counted on the model"
