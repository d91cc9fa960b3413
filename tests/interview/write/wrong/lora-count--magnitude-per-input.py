# kata: lora-count
# slip: counts one magnitude for each input instead of each output
# named: magnitudes-per-input


def count(shapes, targets, r, use_dora):
    hits = [
        shape for name, shape in shapes.items() if any(name == t or name.endswith("." + t) for t in targets)
    ]
    if not hits:
        raise ValueError(f"no map matches {targets}")
    return sum(r * (o + i) + (i if use_dora else 0) for o, i in hits)
