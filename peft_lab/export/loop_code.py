"""The sections that are the same for every method: precision, the order of rows, the loop, saving and comparing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from peft_lab.export.facts import Facts
from peft_lab.export.layout import WIDTH, Section

LORA_PLUS = "loraplus_lr_ratio"  # the one knob of a method that belongs to the optimizer


def precision(facts: Facts) -> Section:
    amount = _AMOUNT.replace("<HEAD>", ", a task head included" if facts.classifies else "")
    if not facts.mixed:
        prose = "Everything is in float32."
        code = "parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]"
        return Section("What is trained", prose, f"{code}\n{amount}")
    prose = (
        f"The model computes in {facts.dtype}, what the method added included. A {facts.dtype} weight forgets updates "
        "below 1/256 of itself, so every trained parameter lives twice: low in the model, which computes, and high in "
        "the optimizer, which remembers (Micikevicius et al. 2017, arXiv 1710.03740, section 3.1). Prompt encoders "
        "run once a step over a few tokens and stay in float32."
    )
    return Section("What is trained", prose, f"{_CAST}\n\n{_MASTERS}{amount}")


def order(facts: Facts) -> Section:
    prose = (
        "A batch costs what its longest row costs: within a window of batches rows are sorted by length, cut into "
        "batches, and those are shuffled. The learning rate rises during the warm-up and then falls "
        + ("along half a cosine." if facts.spec.schedule == "cosine" else "in a straight line.")
    )
    fall = "0.5 * (1 + math.cos(math.pi * (1 - left)))" if facts.spec.schedule == "cosine" else "left"
    return Section("Order and schedule", prose, _ORDER.replace("<FALL>", fall), _order_imports(facts))


def _order_imports(facts: Facts) -> tuple[str, ...]:
    return ("random", "math") if facts.spec.schedule == "cosine" else ("random",)


def loop(facts: Facts) -> Section:
    stop = "    if step == MADE:\n        break\n"
    code = (
        _LOOP.replace("<GROUPS>", _groups(facts))
        .replace("<STOP>", stop if facts.made < facts.spec.steps else "")
        .replace("<TAKE>", _TAKE if facts.mixed else "")
        .replace("<PUBLISH>", _PUBLISH if facts.mixed else "")
        .replace("<CLIP>", "CLIP" if facts.spec.clip else 'float("inf")')
    )
    return Section("Training", "", code)


def _groups(facts: Facts) -> str:
    """The optimizer's groups: one, or those with a learning rate of their own beside the rest."""
    own = []
    if facts.classifies:
        own.append(("heads", '{"classifier", "score"} & set(name.split("."))', "HEAD_RATE"))
    ratio = facts.values.get(LORA_PLUS, 1.0)
    if ratio != 1.0:
        own.append(("ups", '".lora_B." in name', f"{ratio!r} * RATE"))
    if not own:
        return _GROUPS
    code = "named = list(model.named_parameters())\n"
    code += "".join(
        f"{name} = {{id(parameter) for name, parameter in named if {test}}}\n" for name, test, _ in own
    )
    if facts.mixed:
        code += "".join(_OWN_MASTERS.replace("<OWN>", name) for name, _, _ in own)
    rest = " | ".join(name for name, _, _ in own)
    lines = [
        _GROUP.replace("<TEST>", f"not in {rest}" if len(own) == 1 else f"not in ({rest})").replace(
            "<PEAK>", "RATE"
        )
    ]
    lines += [
        _GROUP.replace("<TEST>", f"in {name}").replace("<PEAK>", peak) for name, _, peak in reversed(own)
    ]
    return f"{code}groups = [\n{''.join(lines)}]\n"


def saving(facts: Facts, code: str, imports: Sequence[str]) -> Section:
    """``code`` writes the model to OUT."""
    restore = (
        "for small, big in zip(low, high, strict=True):\n    small.data = big.data\n" if facts.mixed else ""
    )
    back = "for small in low:\n    small.data = small.data.to(DTYPE)\n" if facts.mixed else ""
    prose = "What was learned, in float32 and not its rounding." if facts.mixed else "What was learned."
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
        "The run's own figures beside those made here. On the machine and with the versions of the run they are equal; "
        "another processor or another version adds numbers in another order and rounds a little differently."
    )
    return Section("Compared with the run", prose, code)


def _pair(facts: Facts, evaluation: dict[str, Any]) -> str:
    return f"({evaluation[facts.task.metric]:.6f}, {evaluation['loss']:.6f})"


_CAST = """\
for name, parameter in model.named_parameters():
    if parameter.dtype == torch.float32 and "prompt_encoder" not in name:
        parameter.data = parameter.data.to(DTYPE)
"""

_MASTERS = """\
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
low = [parameter for parameter in trained if parameter.dtype != torch.float32]
high = [torch.nn.Parameter(parameter.detach().float()) for parameter in low]
parameters = [parameter for parameter in trained if parameter.dtype == torch.float32] + high
"""

_AMOUNT = """\
print(f"{sum(parameter.numel() for parameter in parameters):,} parameters are trained<HEAD>")
"""

_ORDER = '''\
def plan(lengths):
    """The row numbers of every batch."""
    chance = random.Random(SEED)
    order = []
    while len(order) < STEPS * BATCH:
        once = list(range(len(lengths)))
        chance.shuffle(once)
        order += once
    batches = []
    for start in range(0, STEPS * BATCH, WINDOW * BATCH):
        window = order[start : min(start + WINDOW * BATCH, STEPS * BATCH)]
        window.sort(key=lambda row: lengths[row])
        cut = [window[first : first + BATCH] for first in range(0, len(window), BATCH)]
        chance.shuffle(cut)
        batches += cut
    return batches


def rate(step):
    """The learning rate of a step, counted from 0, as a share of its peak."""
    rise = round(STEPS * WARMUP)
    if step < rise:
        return (step + 1) / (rise + 1)
    left = (STEPS - step) / max(1, STEPS - rise)
    return <FALL>
'''

_LOOP = """\
encoded = encode(train)
<GROUPS>optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=WEIGHT_DECAY, fused=True)
losses = []
set_seed(SEED)  # of dropout
model.train()
for step, numbers in enumerate(plan([len(tokens) for tokens, _ in encoded])):
<STOP>    loss = loss_of(model, collate([encoded[number] for number in numbers]))
    loss.backward()
<TAKE>    torch.nn.utils.clip_grad_norm_(parameters, <CLIP>)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * rate(step)
    optimizer.step()
    optimizer.zero_grad()
<PUBLISH>    losses.append(float(loss.detach()))
    print(f"step {step + 1:4d}   loss {losses[-1]:.4f}", flush=True)
"""

_GROUPS = """\
groups = [{"params": parameters, "peak": RATE}]
"""

_GROUP = """\
    {"params": [parameter for parameter in parameters if id(parameter) <TEST>], "peak": <PEAK>},
"""

_OWN_MASTERS = """\
<OWN> |= {id(big) for small, big in zip(low, high, strict=True) if id(small) in <OWN>}
"""

_TAKE = """\
    for small, big in zip(low, high, strict=True):
        big.grad = None if small.grad is None else small.grad.float()
        small.grad = None
"""

_PUBLISH = """\
    with torch.no_grad():
        for small, big in zip(low, high, strict=True):
            small.copy_(big)
"""

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
