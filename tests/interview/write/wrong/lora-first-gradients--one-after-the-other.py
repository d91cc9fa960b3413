# kata: lora-first-gradients
# slip: updates A first and takes B's gradient with the new A
# named: one-after-the-other

import torch


def gradient_norms(x, y, W0, A, B, alpha, lr, steps):
    A, B = A.clone(), B.clone()
    s = alpha / A.shape[0]
    norms = []
    for _ in range(steps):
        error = x @ W0.T + s * x @ A.T @ B.T - y
        gA = s * B.T @ error.T @ x
        A = A - lr * gA
        error = x @ W0.T + s * x @ A.T @ B.T - y
        gB = s * error.T @ (x @ A.T)
        B = B - lr * gB
        norms.append((gA.norm().item(), gB.norm().item()))
    return norms
