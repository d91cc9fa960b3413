# kata: adamw-step

import torch


def adamw_step(w, g, m, v, t, lr, betas, eps, decay):
    b1, b2 = betas
    w, m, v = w.clone(), m.clone(), v.clone()
    w.mul_(1 - lr * decay)
    m.mul_(b1).add_(g, alpha=1 - b1)
    v.mul_(b2).addcmul_(g, g, value=1 - b2)
    denominator = (v / (1 - b2**t)).sqrt().add_(eps)
    w.addcdiv_(m, denominator, value=-lr / (1 - b1**t))
    return w, m, v
