# kata: lora-count
# slip: matches every name that ends in the target, in the middle of a word too
# named: ends-alike


def count(shapes, targets, r, use_dora):
    total = 0
    matched = False
    for name, (d_out, d_in) in shapes.items():
        if name.endswith(tuple(targets)):
            matched = True
            total += r * (d_in + d_out)
            if use_dora:
                total += d_out
    if not matched:
        raise ValueError("target modules not found")
    return total
