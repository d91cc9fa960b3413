# kata: llama-cpp-row-order
# slip: applies the inverse permutation (llama.cpp to Hugging Face)
# named: inverse-order

import torch


def to_llama_cpp(name, A, B, heads, kv_heads):
    if name == "v":
        return A, B
    n = heads if name == "q" else kv_heads
    d_out, r = B.shape
    d = d_out // n
    B = B.reshape(n, d // 2, 2, r).transpose(1, 2).reshape(d_out, r)
    return A, B
