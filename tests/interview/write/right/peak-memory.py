# kata: peak-memory


def peak(tensors):
    events = sorted({born for _, born, _ in tensors})
    best = None
    for op in events:
        held = [i for i, (_, b, d) in enumerate(tensors) if b <= op <= d]
        total = sum((tensors[i][0] + 511) // 512 * 512 for i in held)
        if best is None or total > best[0]:
            best = (total, op, held)
    return best
