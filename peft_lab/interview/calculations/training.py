"""Training: steps, batches, work, masks, attention's scores, losses, preferences, and signs of a healthy run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peft_lab.interview.computed import (
    HALF,
    SINGLE,
    Answer,
    Case,
    block_entries,
    line,
    product,
    result,
    share,
    tex,
    told,
)

BF16_FRACTION, FP16_FRACTION, FP32_FRACTION = 7, 10, 23  # stored bits of the significand
Matrix = list[list[float]]
ACCUMULATE = 4
FRACTION, EXPONENT = 10, 15  # float16: stored bits of the significand, largest exponent
SCALE = 65_536  # PyTorch's GradScaler starts here and halves at each overflow
SIGMAS = 2


def steps(case: Case) -> Answer:
    rows, batch, epochs = case["rows"], case["batch"], case["epochs"]
    each = math.ceil(rows / batch)
    value = each * epochs
    working = [
        rf"\lceil {tex(rows)} / {batch} \rceil = {tex(each)}",
        rf"{epochs} \cdot {tex(each)} = {tex(value)}",
    ]
    return result(
        value, "steps", working,
        (rows // batch * epochs, "the last, smaller batch of each epoch"),
        (each, "the epochs"),
        (rows * epochs, "that each step takes a whole batch"),
    )  # fmt: skip


def effective_batch(case: Case) -> Answer:
    each, accumulate, devices = case["each"], case["accumulate"], case["devices"]
    value = each * accumulate * devices
    return result(
        value, "examples", [rf"{product(each, accumulate, devices)} = {value}"],
        (each * accumulate, "the devices"),
        (each * devices, "the accumulation"),
        (each, "accumulation and devices"),
    )  # fmt: skip


def work_ratio(case: Case) -> Answer:
    shape = case.shape
    added = case.lora(case["r"])
    maps = block_entries(shape) + shape.vocab * shape.hidden
    full, lora = 6 * maps, 4 * maps + 6 * added
    value = 100 * lora / full
    working = [
        r"\text{full}: 2N\ \text{forward} + 2N\ \text{for inputs} + 2N\ \text{for weights} = 6N",
        r"\text{LoRA}: 2N + 2N\ \text{for the base} + 6n\ \text{for A and B}",
        rf"\frac{{4 \cdot {tex(maps)} + 6 \cdot {tex(added)}}}{{6 \cdot {tex(maps)}}} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", working,
        (100 * 2 / 6, "that the gradient with respect to the inputs still passes through every frozen map"),
        (100 * added / maps, "that the frozen maps still compute forward and backward"),
        (100 * (1 - lora / full), "the direction: ask what is left, not what is saved"),
        tolerance=0.02,
        named={"saved": 100 - value},
    )  # fmt: skip


def warm_up(case: Case) -> Answer:
    total, percent = case["total"], case["percent"]
    exact = total * percent / 100
    value = math.ceil(exact)
    working = rf"\lceil {tex(total)} \cdot {percent}\,\% \rceil = \lceil {tex(exact)} \rceil = {value}"
    return result(
        value, "steps", [working],
        (total - value, "the direction: ask how many steps warm up, not how many are left"),
        (math.floor(exact), "that Transformers rounds up: a started step counts"),
    )  # fmt: skip


def labelled_share(case: Case) -> Answer:
    prompt, completion = case["prompt"], case["completion"]
    value = 100 * completion / (prompt + completion)
    return result(
        value, "percent", [rf"\frac{{{completion}}}{{{prompt} + {completion}}} = {tex(value)}\,\%"],
        (100 * completion / prompt, "that the whole sequence is read, answer included"),
        (100 - value, "the direction: ask which tokens count in the loss"),
    )  # fmt: skip


def padding(case: Case) -> Answer:
    lengths = case.numbers("lengths")
    padded = max(lengths) * len(lengths)
    value = 100 * (1 - sum(lengths) / padded)
    working = [
        rf"{len(lengths)} \cdot {max(lengths)} = {padded} \qquad \sum = {sum(lengths)}",
        rf"1 - {sum(lengths)} / {padded} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", working,
        (100 * sum(lengths) / padded, "the direction: ask what is padding, not what is text"),
        (100 * (padded / sum(lengths) - 1), "that the share is of all positions, padding included"),
    )  # fmt: skip


def bf16_spacing(case: Case) -> Answer:
    value = 2.0**-BF16_FRACTION
    return result(
        value, "", [rf"2^{{-{BF16_FRACTION}}} = {tex(value)}"],
        (2.0**-FP16_FRACTION, "that bfloat16 spends its bits on range: this is float16's spacing"),
        (2.0**-FP32_FRACTION, "that bfloat16 is short: this is float32's spacing"),
        (2.0 ** -(BF16_FRACTION + 1), "that updates below half the spacing are lost; the spacing is twice that"),
        (2.0**-16, "that sign and exponent take most of the 16 bits"),
        tolerance=0.03,
        named={"lost": value / 2},
    )  # fmt: skip


def first_gradient(case: Case) -> Answer:
    """Return the gradients of A and B for a map of two inputs and two outputs, by the chain rule on plain lists."""
    a: Matrix = [[0.3, -0.7]]
    b: Matrix = [[0.0], [0.0]]
    x: Matrix = [[1.0], [2.0]]
    g: Matrix = [[0.5], [-0.4]]
    grad_b = _times(g, _flip(_times(a, x)))
    grad_a = _times(_times(_flip(b), g), _flip(x))
    size_a, size_b = _norm(grad_a), _norm(grad_b)
    working = [
        line(
            r"\partial L / \partial B = s\,g\,(Ax)^\top \qquad \partial L / \partial A = s\,B^\top g\,x^\top"
        ),
        line(
            rf"\text{{for one example with }} B = 0\text{{: norms }} {tex(size_b)}\ \text{{and}}\ {tex(size_a)}"
        ),
    ]
    flags = (
        size_a > 0 and size_b > 0,
        size_a > 0 and size_b == 0,
        size_a == 0 and size_b > 0,
        size_a == 0 and size_b == 0,
    )
    return Answer(flags.index(True), "option", tuple(working))


def _times(left: Matrix, right: Matrix) -> Matrix:
    return [
        [sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*right, strict=True)]
        for row in left
    ]


def _flip(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def _norm(matrix: Sequence[Sequence[float]]) -> float:
    return math.sqrt(sum(value * value for row in matrix for value in row))


def accumulated_steps(case: Case) -> Answer:
    batches = math.ceil(case["rows"] / case["batch"])
    return told(math.ceil(batches / ACCUMULATE) * case["epochs"], "", accumulate=ACCUMULATE)


def fewer_devices(case: Case) -> Answer:
    return told(2 * case["accumulate"], "", devices=case["devices"] // 2)


def sorted_padding(case: Case) -> Answer:
    """Return the padding where the sequences are sorted and batched by halves."""
    lengths = sorted(case.numbers("lengths"))
    half = len(lengths) // 2
    places = half * lengths[half - 1] + (len(lengths) - half) * lengths[-1]
    return told(100 * (1 - sum(lengths) / places), "percent")


def mixed_loss(case: Case) -> Answer:
    """Return the mean loss when the prompt's tokens count as well."""
    prompt, completion = case["prompt"], case["completion"]
    easy, hard = case.number("prompt_loss"), case.number("answer_loss")
    summed = prompt * easy + completion * hard
    value = summed / (prompt + completion)
    steps = [
        (
            rf"\frac{{{prompt} \cdot {tex(easy)} + {completion} \cdot {tex(hard)}}}{{{prompt} + {completion}}} = "
            rf"{tex(value)}"
        )
    ]
    return result(
        value, "", steps,
        (hard, "that every token counts when nothing is masked"),
        ((easy + hard) / 2, "that the two parts have different lengths"),
        (easy, "the answer's tokens"),
        tolerance=0.005,
        named={"part": share(completion, prompt + completion), "of_loss": share(completion * hard, summed)},
    )  # fmt: skip


def accumulated(case: Case) -> Answer:
    """Return the mean loss per token over two batches of different length."""
    tokens, losses = case.numbers("tokens_each"), case.numbers("losses")
    value = sum(n * loss for n, loss in zip(tokens, losses, strict=True)) / sum(tokens)
    means = sum(losses) / len(losses)
    parts = " + ".join(rf"{n} \cdot {tex(loss)}" for n, loss in zip(tokens, losses, strict=True))
    return result(
        value, "", [rf"\frac{{{parts}}}{{{sum(tokens)}}} = {tex(value)}"],
        (means, "that batches hold different numbers of tokens: a mean of means gives the shorter one too much weight"),
        (max(losses), "the longer batch"),
        (sum(losses), "to divide by the tokens"),
        tolerance=0.005,
        named={"means": means, "weight": max(tokens) / min(tokens)},
    )  # fmt: skip


def foreign_pairs(case: Case) -> Answer:
    """Return the share of query-key pairs that cross examples in a packed sequence under plain attention."""
    lengths = case.numbers("lengths")
    whole = sum(lengths)
    pairs = whole * (whole + 1) // 2
    own = sum(n * (n + 1) // 2 for n in lengths)
    value = 100 * (pairs - own) / pairs
    steps = [
        rf"\text{{all}}: \tfrac{{{whole} \cdot {whole + 1}}}{{2}} = {tex(pairs)}",
        (
            rf"\text{{within examples}}: {tex(own)} \qquad \frac{{{tex(pairs - own)}}}{{{tex(pairs)}}} = "
            rf"{tex(value)}\,\%"
        ),
    ]
    first = 100 * (whole - lengths[0]) / whole
    return result(
        value, "percent", steps,
        (100 * own / pairs, "the direction: ask for the pairs that cross"),
        (first, "that pairs grow with the square of the length"),
        (
            100 * (whole**2 - sum(n**2 for n in lengths)) / whole**2,
            "that attention is causal: a token looks back, and at itself",
        ),
        tolerance=0.005,
        named={"times": pairs / own},
    )  # fmt: skip


def attention_scores(case: Case) -> Answer:
    """Return the bytes of one layer's attention scores when the matrix is written out, in bfloat16."""
    shape, tokens, batch = case.shape, case["tokens"], case["batch"]
    value = batch * shape.heads * tokens**2 * HALF
    steps = [rf"{batch} \cdot {shape.heads} \cdot {tex(tokens)}^2 \cdot 2 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (batch * tokens**2 * HALF, "that every head has its own scores"),
        (batch * shape.heads * tokens * HALF, "that scores are a square: each token with each token"),
        (
            batch * shape.kv_heads * tokens**2 * HALF,
            "that there is a row of scores for each query head, not for each key/value head",
        ),
        (value * 2, "that bfloat16 has two bytes"),
        tolerance=0.01,
        named={"hidden": value / (batch * tokens * shape.hidden * HALF)},
    )  # fmt: skip


def chunked_logits(case: Case) -> Answer:
    """Return the bytes of logits and their gradient for one chunk of positions, float32."""
    vocab, chunk = case.shape.vocab, case["chunk"]
    value = chunk * vocab * SINGLE * 2
    steps = [rf"{product(chunk, vocab)} \cdot 4 \cdot 2 = {tex(value)}\ \text{{bytes}}"]
    return result(
        value, "bytes", steps,
        (value // 2, "the gradient, which is as large as the logits"),
        (chunk * case.shape.hidden * SINGLE * 2, "that logits are as wide as the vocabulary"),
        (value * (case["positions_all"] / chunk), "that only one chunk is in memory at a time"),
        tolerance=0.01,
        named={"times": case["positions_all"] / chunk},
    )  # fmt: skip


def reference(case: Case) -> Answer:
    """Return the bytes of a second copy of the model in bfloat16."""
    total = case.shape.total
    value = total * HALF
    adapter = case.lora(16) * SINGLE
    return result(
        value, "bytes", [rf"{tex(total)} \cdot 2 = {tex(value)}\ \text{{bytes}}"],
        (total * SINGLE, "that bfloat16 has two bytes"),
        (total * 16, "that a reference is frozen: it has no gradients and no moments"),
        (adapter, "that the reference is a whole model, not an adapter"),
        tolerance=0.01,
        named={"adapter": adapter / 1e6},
    )  # fmt: skip


def _loss(margin: float) -> float:
    """Return -log σ(margin)."""
    return math.log1p(math.exp(-margin))


def dpo_start(case: Case) -> Answer:
    """Return DPO's loss while the policy is the reference: every log ratio is zero."""
    value = _loss(0.0)
    return result(
        value, "", [rf"-\log \sigma(\beta \cdot (0 - 0)) = \log 2 = {tex(value)}"],
        (0.0, "the logarithm: σ(0) is a half, not one"),
        (0.5, "the logarithm of the half"),
        (1.0, "that the logarithm is natural: log₂ of a half is −1"),
        tolerance=0.005,
        named={"beta": case.number("strength")},
    )  # fmt: skip


def dpo_loss(case: Case) -> Answer:
    """Return DPO's loss on one pair from the log ratios of policy and reference."""
    beta, chosen, rejected = (case.number(name) for name in ("strength", "chosen", "rejected"))
    margin = beta * (chosen - rejected)
    value = _loss(margin)
    steps = [
        rf"\beta (\Delta_w - \Delta_l) = {tex(beta)} \cdot ({tex(chosen)} - ({tex(rejected)})) = {tex(margin)}",
        rf"-\log \sigma({tex(margin)}) = {tex(value)}",
    ]
    return result(
        value, "", steps,
        (_loss(beta * (chosen + rejected)), "that the rejected answer's log ratio is subtracted"),
        (_loss(chosen - rejected), "β, which scales the margin"),
        (_loss(-margin), "the sign: the chosen answer's ratio should be larger"),
        (_loss(beta * chosen), "the rejected answer"),
        tolerance=0.005,
        named={"start": _loss(0.0)},
    )  # fmt: skip


def advantage(case: Case) -> Answer:
    """Return GRPO's advantage of a right answer in a group of rewards of zero and one."""
    rewards = case.numbers("rewards")
    mean = sum(rewards) / len(rewards)
    spread = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards))
    value = (1 - mean) / spread
    sample = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))
    steps = [
        rf"\text{{mean}}: {tex(mean)} \qquad \text{{standard deviation}}: {tex(spread)}",
        rf"\frac{{1 - {tex(mean)}}}{{{tex(spread)}}} = {tex(value)}",
    ]
    return result(
        value, "", steps,
        (1 - mean, "to divide by the standard deviation"),
        ((1 - mean) / spread**2, "the square root: this is the variance"),
        ((1 - mean) / sample, "that the group is the whole population: divide by its size (TRL's code: by one less)"),
        (1 / spread, "to subtract the group's mean"),
        tolerance=0.005,
        named={"wrong": -mean / spread, "mean": mean, "sample": (1 - mean) / sample},
    )  # fmt: skip


def silent_groups(case: Case) -> Answer:
    """Return how likely a group has equal rewards, and so no gradient."""
    size, rate = case["size"], case.number("rate")
    right, none = rate**size, (1 - rate) ** size
    value = 100 * (right + none)
    steps = [
        rf"p^k + (1 - p)^k = {tex(rate)}^{{{size}}} + {tex(1 - rate)}^{{{size}}} = {tex(right + none)}",
    ]
    return result(
        value, "percent", steps,
        (100 * (1 - right - none), "the direction: this is the share of groups that teach something"),
        (100 * rate, "that all answers of the group have to agree"),
        (100 * (1 - rate) * size, "that chances are multiplied, not added"),
        tolerance=0.01,
    )  # fmt: skip


def prompts(case: Case) -> Answer:
    """Return the prompts of one update, when each takes several completions."""
    devices, each, accumulate, group = (case[name] for name in ("devices", "each", "accumulate", "group"))
    completions = devices * each * accumulate
    value = completions / group
    steps = [
        rf"{product(devices, each, accumulate)} = {completions}\ \text{{completions}}",
        rf"{completions} / {group} = {tex(value)}",
    ]
    return result(
        value, "prompts", steps,
        (float(completions), "that several completions belong to one prompt"),
        (float(completions * group), "that a batch is counted in completions, not in prompts"),
        (devices * each / group, "the accumulation"),
        (each * accumulate / group, "the devices"),
        named={"completions": completions},
    )  # fmt: skip


def largest_half(case: Case) -> Answer:
    """Return float16's largest number."""
    value = (2 - 2.0**-FRACTION) * 2**EXPONENT
    return result(
        value, "", [rf"(2 - 2^{{-{FRACTION}}}) \cdot 2^{{{EXPONENT}}} = {tex(value)}"],
        (2.0 ** (EXPONENT + 1), "that the significand stays below two"),
        (2.0**EXPONENT, "the significand: the largest is almost two"),
        (448.0, "that float16 stores ten bits: this is an eight-bit format's largest number"),
    )  # fmt: skip


def first_loss(case: Case) -> Answer:
    """Return the cross-entropy of a head that knows nothing."""
    classes = case["classes"]
    value = math.log(classes)
    return result(
        value, "", [rf"-\log \tfrac{{1}}{{{classes}}} = \log {classes} = {tex(value)}"],
        (math.log2(classes), "that the logarithm is natural"),
        (1 / classes, "the logarithm"),
        (1 - 1 / classes, "that this is a loss, not an error rate"),
        (0.0, "that a head that knows nothing is usually wrong"),
        tolerance=0.01,
        named={"chance": 100 / classes},
    )  # fmt: skip


def tensors(case: Case) -> Answer:
    """Return the tensors in the file of a LoRA on every linear map of the blocks: A and B for each."""
    layers = case.shape.num_layers
    value = layers * 7 * 2
    return result(
        value, "tensors", [rf"{product(layers, 7, 2)} = {tex(value)}"],
        (layers * 7, "that A and B are two tensors"),
        (layers * 2, "the seven maps of a layer"),
        (14, "the layers"),
    )  # fmt: skip


def better_than_chance(case: Case) -> Answer:
    """Return the accuracy that chance exceeds rarely, in percent."""
    rows, classes = case["rows"], case["classes"]
    chance = 1 / classes
    deviation = math.sqrt(chance * (1 - chance) / rows)
    value = 100 * (chance + SIGMAS * deviation)
    steps = [
        rf"\sigma = \sqrt{{{tex(chance)} \cdot {tex(1 - chance)} / {rows}}} = {tex(deviation)}",
        rf"{tex(100 * chance)} + 2 \cdot {tex(100 * deviation)} = {tex(value)}\,\%",
    ]
    return result(
        value, "percent", steps,
        (100 * chance, "that chance makes the score vary"),
        (100 * (chance + deviation), "the second standard deviation"),
        (100 * (chance + SIGMAS * chance * (1 - chance) / rows), "the square root"),
        tolerance=0.005,
        named={"deviation": 100 * deviation},
    )  # fmt: skip


def scaler(case: Case) -> Answer:
    """Return PyTorch's loss scale after so many overflows in a row."""
    overflows = case["overflows"]
    value = SCALE / 2**overflows
    return result(
        value, "", [rf"65{{,}}536 / 2^{{{overflows}}} = {tex(value)}"],
        (SCALE / (2 * overflows), "that the scale halves at each of them"),
        (float(SCALE), "that an overflow lowers the scale"),
        (float(SCALE * 2**overflows), "the direction: it falls"),
    )  # fmt: skip
