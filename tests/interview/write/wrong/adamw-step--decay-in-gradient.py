# kata: adamw-step
# slip: adds the decay to the gradient (L2, as Adam does) instead of decoupling it
# named: decay-in-the-gradient

import torch


def adamw_step(w, g, m, v, t, lr, betas, eps, decay):
    b1, b2 = betas
    g = g + decay * w
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    m_hat = m / (1 - b1**t)
    v_hat = v / (1 - b2**t)
    w = w - lr * m_hat / (v_hat.sqrt() + eps)
    return w, m, v
