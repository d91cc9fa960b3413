"""Write the sections common to all methods: precision, the order of rows, the loop, saving and comparing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from peft_lab.models import shapes
from peft_lab.takeaway.facts import Facts
from peft_lab.takeaway.layout import WIDTH, Section, constants, printed
from peft_lab.training import batches, step
from peft_lab.training import loop as training_loop

LORA_PLUS = "loraplus_lr_ratio"  # the only knob of a method that concerns the optimizer


def precision(facts: Facts) -> Section:
    if facts.mixed:
        prose = (
            f"The model computes in {facts.dtype}, what the method added included. A {facts.dtype} weight loses "
            f"updates below 1/256 of its value, so every trained parameter is kept twice: in {facts.dtype} in the "
            "model, which computes, and in float32 in the optimizer, which adds up the updates (Micikevicius et al. "
            "2017, arXiv 1710.03740, section 3.1). Prompt encoders run once a step over a few tokens and stay in "
            "float32."
        )
    else:
        prose = "Everything is in float32: the masters are the parameters themselves."
    functions = printed(step.cast_added, shapes.in_head, step.Masters)
    head = ", a task head included" if facts.classifies else ""
    named = constants(step, "KEPT") + constants(shapes, "HEADS")
    code = f"{named}\n\n{functions}\n\n{_MASTERS.replace('<HEAD>', head)}"
    return Section("What is trained", prose, code, ("collections.abc:Callable", "typing:Any"))


def order(facts: Facts) -> Section:
    prose = (
        "A batch costs what its longest row costs: within a window of batches rows are sorted by length, cut into "
        "batches, and those are shuffled. The learning rate rises during the warm-up and then falls "
        + ("along half a cosine." if facts.spec.schedule == "cosine" else "in a straight line.")
    )
    imports = ("math", "random", "collections.abc:Sequence")
    return Section("Order and schedule", prose, printed(batches.plan, step.rate_at), imports)


def loop(facts: Facts) -> Section:
    """Return the section with the step, the loop around it, and the call."""
    stop = "    if made.step + 1 == MADE:\n        break\n"
    call = (
        _LOOP.replace("<HEAD_RATE>", "HEAD_RATE" if facts.classifies else "None")
        .replace("<FACTOR>", _factor(facts))
        .replace("<SCHEDULE>", repr(facts.spec.schedule))
        .replace("<STOP>", stop if facts.made < facts.spec.steps else "")
    )
    functions = printed(
        step.nobody, step.train_step, training_loop.Made, training_loop.unfollowed, training_loop.fit
    )
    imports = [
        "time",
        "math",
        "itertools:islice",
        "contextlib:nullcontext",
        "typing:Any",
        "typing:NamedTuple",
    ]
    imports += [
        f"collections.abc:{name}" for name in ("Callable", "Iterable", "Iterator", "Mapping", "Sequence")
    ]
    return Section(
        "Training", "", f"Phase = Callable[[str], None]\n\n\n{functions}\n\n{call}", tuple(imports)
    )


def _factor(facts: Facts) -> str:
    """Return the argument that multiplies a parameter's rate by its name, for LoRA+; empty for any other run."""
    ratio = facts.values.get(LORA_PLUS, 1.0)
    return "" if ratio == 1.0 else f', lambda name: {ratio!r} if ".lora_B." in name else 1.0'


def saving(facts: Facts, code: str, imports: Sequence[str]) -> Section:
    """Return the section that saves the model; ``code`` writes it to OUT."""
    restore, back = "masters.restore()\n", "cast_added(model, DTYPE)\n"
    prose = "What was learned, in float32 rather than rounded." if facts.mixed else "What was learned."
    return Section(
        "Saving", prose, f'OUT = Path("{facts.run.id}")\n{restore}{code}{back}', ("pathlib:Path", *imports)
    )


def comparing(facts: Facts) -> Section:
    losses = textwrap.fill(", ".join(f"{loss:.6f}" for loss in facts.record["loss"]), WIDTH - 4)
    code = f"RUN_LOSSES = [\n{textwrap.indent(losses, '    ')},\n]\n"
    if facts.scored:
        found = facts.record["evaluation"]
        base, tuned = (_pair(facts, found[which]) for which in ("before", "after"))
        code += f"RUN_BASE, RUN_TUNED = {base}, {tuned}  # {facts.task.metric}, loss\n\n"
        code += _COMPARE_SCORES.replace("<METRIC>", facts.task.metric.replace("_", " "))
    code += _COMPARE_LOSSES
    prose = (
        "The run's own figures beside those made here. On the machine and with the versions of the run they are "
        "equal; "
        "another processor or another version adds numbers in another order and rounds a little differently."
    )
    return Section("Compared with the run", prose, code)


def _pair(facts: Facts, evaluation: dict[str, Any]) -> str:
    return f"({evaluation[facts.task.metric]:.6f}, {evaluation['loss']:.6f})"


_MASTERS = """\
cast_added(model, DTYPE)
masters = Masters(model)
print(f"{sum(parameter.numel() for parameter in masters.parameters):,} parameters are trained<HEAD>")
"""

_LOOP = """\
encoded = encode(train)
order = plan([len(row) for row in encoded], STEPS, BATCH, SEED)
groups = masters.groups(RATE, <HEAD_RATE><FACTOR>)
optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=WEIGHT_DECAY, fused=True)
losses = []
set_seed(SEED)  # of dropout
for made in fit(
    model, encoded, order, masters, optimizer, lambda at: rate_at(at, STEPS, WARMUP, <SCHEDULE>), CLIP, PAD, DEVICE
):
    losses.append(made.loss)
    print(f"step {made.step + 1:4d}   loss {made.loss:.4f}", flush=True)
<STOP>"""

_COMPARE_SCORES = """\
tuned = score(model, test)
del model
base = score(load_base(), test)
for which, here, then in (("base", base, RUN_BASE), ("tuned", tuned, RUN_TUNED)):
    print(f"{which:5}  <METRIC> {here[0]:.4f} (run: {then[0]:.4f})   loss {here[1]:.4f} (run: {then[1]:.4f})")
"""

_COMPARE_LOSSES = """\
apart = max(abs(here - then) for here, then in zip(losses, RUN_LOSSES, strict=True))
print(f"largest difference between the two loss curves: {apart:.6f}")
"""
