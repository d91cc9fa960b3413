# kata: peak-memory
# slip: frees a tensor when operation dies starts, not when it has ended
# named: freed-before-the-operation


def peak(tensors):
    sizes = [-(-b // 512) * 512 for b, _, _ in tensors]
    best = (-1, 0, [])
    last = max(dies for _, _, dies in tensors)
    for op in range(last + 1):
        held = [i for i, (_, born, dies) in enumerate(tensors) if born <= op < dies]
        total = sum(sizes[i] for i in held)
        if total > best[0]:
            best = (total, op, held)
    return best
