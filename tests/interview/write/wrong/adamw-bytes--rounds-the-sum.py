# kata: adamw-bytes
# slip: rounds up to whole bytes once over all tensors instead of for each tensor
# named: rounded-up-once

import math


def training_bytes(tensors, frozen_bits, trained_bits, moment_bits):
    frozen = sum(n for n, t in tensors if not t)
    trained = sum(n for n, t in tensors if t)

    def to_bytes(count, bits):
        return math.ceil(count * bits / 8)

    return {
        "weights": to_bytes(frozen, frozen_bits) + to_bytes(trained, trained_bits),
        "gradients": to_bytes(trained, trained_bits),
        "moments": 2 * to_bytes(trained, moment_bits),
        "master": to_bytes(trained, 32) if trained_bits < 32 else 0,
    }
