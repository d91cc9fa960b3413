# kata: virtual-count
# slip: the prefix encoder's embedding is as wide as the hidden size, not as the keys
# named: embedding-of-hidden-size


def linear(d_in, d_out):
    return d_in * d_out + d_out


def count(method, n, layers, d, kv_heads, head_dim, width):
    kv = kv_heads * head_dim
    if method == "prompt":
        return n * d, n * d
    if method == "p-tuning":
        encoder = linear(d, width) + linear(width, width) + linear(width, d)
        return n * d + encoder, n * d
    stored = n * layers * 2 * kv
    if method == "prefix":
        return stored, stored
    return n * d + linear(d, width) + linear(width, 2 * layers * kv), stored
