"""Preferences and rewards: references, margins, groups and their advantages."""

from __future__ import annotations

import math

from peft_lab.interview.computed import Answer, Case, line, plain, product, result, tex

HALF, SINGLE = 2, 4  # bytes per number


def reference(case: Case) -> Answer:
    """Bytes of a second copy of the model in bfloat16."""
    total = case.shape.total
    value = total * HALF
    adapter = case.trained("lora", r=16, target_modules=["all-linear"]) * SINGLE
    return result(
        value, "bytes", [line(rf"{tex(total)} \cdot 2 = {tex(value)}\ \text{{bytes}}")],
        (total * SINGLE, "that bfloat16 has two bytes"),
        (total * 16, "that a reference is frozen: it has no gradients and no moments"),
        (adapter, "that the reference is a whole model, not an adapter"),
        tolerance=0.01,
        named={"adapter": plain(adapter / 1e6)},
    )  # fmt: skip


def _loss(margin: float) -> float:
    """-log σ(margin)."""
    return math.log1p(math.exp(-margin))


def dpo_start(case: Case) -> Answer:
    """DPO's loss while the policy is the reference: every log ratio is zero."""
    value = _loss(0.0)
    return result(
        value, "", [line(rf"-\log \sigma(\beta \cdot (0 - 0)) = \log 2 = {tex(value)}")],
        (0.0, "the logarithm: σ(0) is a half, not one"),
        (0.5, "the logarithm of the half"),
        (1.0, "that the logarithm is the natural one: log₂ of a half has the size one"),
        tolerance=0.005,
        named={"beta": plain(case.number("strength"))},
    )  # fmt: skip


def dpo_loss(case: Case) -> Answer:
    """DPO's loss on one pair from the log ratios of policy and reference."""
    beta, chosen, rejected = (case.number(name) for name in ("strength", "chosen", "rejected"))
    margin = beta * (chosen - rejected)
    value = _loss(margin)
    steps = [
        line(
            rf"\beta (\Delta_w - \Delta_l) = {tex(beta)} \cdot ({tex(chosen)} - ({tex(rejected)})) = {tex(margin)}"
        ),
        line(rf"-\log \sigma({tex(margin)}) = {tex(value)}"),
    ]
    return result(
        value, "", steps,
        (_loss(beta * (chosen + rejected)), "that the rejected answer's log ratio is subtracted"),
        (_loss(chosen - rejected), "β, which scales the margin"),
        (_loss(-margin), "the sign: the chosen answer's ratio should be the larger one"),
        (_loss(beta * chosen), "the rejected answer"),
        tolerance=0.005,
        named={"start": plain(_loss(0.0))},
    )  # fmt: skip


def advantage(case: Case) -> Answer:
    """GRPO's advantage of a right answer in a group of rewards of zero and one."""
    rewards = case.numbers("rewards")
    mean = sum(rewards) / len(rewards)
    spread = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards))
    value = (1 - mean) / spread
    sample = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))
    steps = [
        line(rf"\text{{mean}}: {tex(mean)} \qquad \text{{standard deviation}}: {tex(spread)}"),
        line(rf"\frac{{1 - {tex(mean)}}}{{{tex(spread)}}} = {tex(value)}"),
    ]
    return result(
        value, "", steps,
        (1 - mean, "to divide by the standard deviation"),
        ((1 - mean) / spread**2, "the square root: that is the variance"),
        ((1 - mean) / sample, "that the group is all there is: divide by its size (TRL's code: by one less)"),
        (1 / spread, "to subtract the group's mean"),
        tolerance=0.005,
        named={"wrong": plain(-mean / spread), "mean": plain(mean), "sample": plain((1 - mean) / sample)},
    )  # fmt: skip


def silent_groups(case: Case) -> Answer:
    """How likely a group has equal rewards, and so no gradient."""
    size, rate = case["size"], case.number("rate")
    right, none = rate**size, (1 - rate) ** size
    value = 100 * (right + none)
    steps = [
        line(rf"p^k + (1 - p)^k = {tex(rate)}^{{{size}}} + {tex(1 - rate)}^{{{size}}} = {tex(right + none)}"),
    ]
    return result(
        value, "percent", steps,
        (100 * (1 - right - none), "the direction: that is the share of groups which teach something"),
        (100 * rate, "that all answers of the group have to agree"),
        (100 * (1 - rate) * size, "that chances are multiplied, not added"),
        tolerance=0.01,
    )  # fmt: skip


def prompts(case: Case) -> Answer:
    """Prompts of one update, when each takes several completions."""
    devices, each, accumulate, group = (case[name] for name in ("devices", "each", "accumulate", "group"))
    completions = devices * each * accumulate
    value = completions / group
    steps = [
        line(rf"{product(devices, each, accumulate)} = {completions}\ \text{{completions}}"),
        line(rf"{completions} / {group} = {tex(value)}"),
    ]
    return result(
        value, "prompts", steps,
        (float(completions), "that several completions belong to one prompt"),
        (float(completions * group), "that a batch is counted in completions, not in prompts"),
        (devices * each / group, "the accumulation"),
        (each * accumulate / group, "the devices"),
        named={"completions": plain(completions)},
    )  # fmt: skip
