# kata: llama-cpp-row-order
# slip: splits k's rows by the number of query heads
# named: query-heads-for-k

import torch


def to_llama_cpp(name, A, B, heads, kv_heads):
    if name in ("q", "k"):
        rows, r = B.shape
        B = B.view(heads, 2, rows // heads // 2, r).swapaxes(1, 2).reshape(rows, r)
    return A, B
