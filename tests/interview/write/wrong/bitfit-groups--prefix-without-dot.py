# kata: bitfit-groups
# slip: takes every module whose name starts with the head's name for the head
# named: prefix-without-dot

import torch


def bitfit(model, head, lr, head_lr, weight_decay):
    biases, head_params = [], []
    for name, p in model.named_parameters():
        if name.startswith(head):
            p.requires_grad_(True)
            head_params.append(p)
        elif name.split(".")[-1] == "bias":
            p.requires_grad_(True)
            biases.append(p)
        else:
            p.requires_grad_(False)
    if not biases:
        raise ValueError("no bias outside the head")
    return [
        {"params": biases, "lr": lr, "weight_decay": 0.0},
        {"params": head_params, "lr": head_lr, "weight_decay": weight_decay},
    ]
