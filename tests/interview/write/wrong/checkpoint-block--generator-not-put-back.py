# kata: checkpoint-block
# slip: draws the same numbers again but leaves the generator where the second pass ended
# named: generator-not-restored

import torch


class Checkpoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block, x):
        ctx.block = block
        ctx.rng = torch.get_rng_state()
        ctx.save_for_backward(x)
        with torch.no_grad():
            return block(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_(True)
        torch.set_rng_state(ctx.rng)
        with torch.enable_grad():
            y = ctx.block(x)
        y.backward(gradient)
        return None, x.grad
