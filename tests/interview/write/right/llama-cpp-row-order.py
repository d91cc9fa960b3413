# kata: llama-cpp-row-order

import torch


def to_llama_cpp(name, A, B, heads, kv_heads):
    if name == "v":
        return A, B
    heads = heads if name == "q" else kv_heads
    d = B.shape[0] // heads
    order = []
    for h in range(heads):
        for i in range(d // 2):
            order += [h * d + i, h * d + i + d // 2]
    return A, B[order]
