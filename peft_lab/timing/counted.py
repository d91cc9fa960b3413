"""A step's work from a model's shape alone, where there is no time to trace it: its products are counted, the rest is
taken as the traced step of a Llama has it.

On the seven traced steps of tests/timing/test_counted.py the traced work takes 0.97 to 1.41 times as long.
"""

from __future__ import annotations

from peft_lab.memory.work import Op, Piece, Work
from peft_lab.methods.base import Formula
from peft_lab.models.shapes import CLASSIFIERS, ModelShape

#: Of one layer, forward and backward: operations that go through activations, and their bytes for each token and each
#: number of its width; views; and bytes for each logit. Counted on Llama 3.2 3B with one bias trained.
STREAMS, STREAMED, VIEWS, LOGIT = 97, 436, 100, 57
#: The same of each map with an adapter: casts, scaling and sums. Counted on that model with LoRA.
ADAPTED, ADAPTED_BYTES = 8, 38
#: An encoder's layers do less beside their products: fused norms, no gate, no rotation of positions.
ENCODER = 0.5
#: Share of that in the forward pass, which checkpointing does again.
FORWARD = 0.4
#: Times that AdamW's kernels over lists and the clipping go through a parameter, its gradient or a moment.
PASSES = 24
#: Bytes of a packed number, which is read, and of the 16-bit one that is written.
PACKED, HALF = 0.5, 2


def work(
    shape: ModelShape,
    trainable: int,
    batch: int,
    length: int,
    adapted: float = 0.0,
    full: bool = False,
    packed: bool = False,
    checkpointing: bool = False,
    bus: float = 0.0,
    passes: int = 1,
) -> Work:
    """What a step of ``batch`` rows of ``length`` tokens does.

    Args:
        trainable: parameters. adapted: maps that have two products in 32 bits beside their own.
        full: whether the model's own weights are trained, so that its products have a third one, to the weights.
        packed: in 4 bits, rebuilt for every product. bus: bytes that come from main memory.
        passes: that make an update. One of them is counted, with its share of the optimizer's work.
    """
    tokens, again = batch * length, FORWARD if checkpointing else 0.0
    products = 2 + full + checkpointing
    ops: list[tuple[Op, int]] = []
    for group in shape.matrices:
        inner, out = group.in_features, group.out_features
        moved = HALF * (inner * out + tokens * (inner + out))
        size = (1, tokens, out, inner)
        ops.append((Op("matmul16", 2 * tokens * inner * out, moved, size), products * group.count))
        if packed and group.layers:
            rebuilt = int((PACKED + HALF) * inner * out)
            ops.append((Op("dequantise", 0, rebuilt), (2 + checkpointing) * group.count))
    if shape.kind not in CLASSIFIERS:
        head = (1, tokens, shape.vocab, shape.hidden)
        moved = HALF * (shape.vocab * shape.hidden + tokens * (shape.vocab + shape.hidden))
        ops.append((Op("matmul16", 2 * tokens * shape.vocab * shape.hidden, moved, head), 2 + full))
    if adapted:
        times = round(adapted * 2 * (3 + checkpointing))
        flops = round(2 * tokens * trainable * (3 + checkpointing) / times)
        ops.append((Op("matmul32", flops, 4 * tokens * shape.hidden, ()), times))
        beside = round(adapted * ADAPTED * (1 + again))
        ops.append((Op("stream", 0, int(ADAPTED_BYTES / ADAPTED * tokens * shape.hidden)), beside))
    pairs = shape.num_layers * (7 + 2 * checkpointing)  # two products forward, five backward
    ops.append((Op("attention", 2 * batch * length**2 * shape.heads * shape.head_dim, 0), pairs))
    share = ENCODER if shape.kind in CLASSIFIERS else 1.0
    streams = round(STREAMS * share * shape.num_layers * (1 + again))
    ops.append((Op("stream", 0, int(STREAMED / STREAMS * tokens * shape.hidden)), streams))
    if shape.kind not in CLASSIFIERS:
        ops.append((Op("stream", 0, LOGIT * tokens * shape.vocab // 5), 5))
    ops.append((Op("view", 0, 0), round(VIEWS * share) * shape.num_layers))
    ops.append((Op("each", 0, int(trainable * (HALF if full else 4) * PASSES / passes)), 1))
    if bus:
        ops.append((Op("host", 0, int(bus)), 1))
    return (Piece("step", 1, tuple(ops)),)


def adapted_maps(formula: Formula) -> float:
    """Maps that have a pair of matrices, of a method's count: half of what repeats from layer to layer."""
    return sum(term.count for term in formula.terms if "{}" in term.module) / 2
