# kata: checkpoint-block

import torch


class Checkpoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block, x):
        ctx.block, ctx.state = block, torch.get_rng_state()
        ctx.save_for_backward(x)
        with torch.no_grad():
            return block(x)

    @staticmethod
    def backward(ctx, gradient):
        now = torch.get_rng_state()
        leaf = ctx.saved_tensors[0].detach().requires_grad_()
        try:
            torch.set_rng_state(ctx.state)
            with torch.enable_grad():
                out = ctx.block(leaf)
        finally:
            torch.set_rng_state(now)
        torch.autograd.backward(out, gradient)
        return None, leaf.grad
