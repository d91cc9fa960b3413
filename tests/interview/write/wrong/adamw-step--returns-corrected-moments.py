# kata: adamw-step
# slip: keeps the bias-corrected moments as the state and returns them
# named: corrected-moments-kept

import torch


def adamw_step(w, g, m, v, t, lr, betas, eps, decay):
    beta1, beta2 = betas
    w = w * (1 - lr * decay)
    m = torch.lerp(g, m, beta1)
    v = beta2 * v + (1 - beta2) * g.square()
    m = m / (1 - beta1**t)
    v = v / (1 - beta2**t)
    return w - lr * m / (v.sqrt() + eps), m, v
