# kata: grpo-loss

import torch


def grpo_loss(pi, old, ref, A, mask, eps, beta):
    mask = mask.bool()
    per_answer = []
    for i in range(len(A)):
        t = mask[i]
        ratio = torch.exp(pi[i][t] - old[i][t])
        gain = torch.minimum(ratio * A[i], ratio.clip(1 - eps, 1 + eps) * A[i])
        d = ref[i][t] - pi[i][t]
        per_answer.append((beta * (torch.expm1(d) - d) - gain).mean())
    return sum(per_answer) / len(per_answer)
