"""QLoRA from scratch: LoRA beside a base stored in 4 bits (Dettmers et al. 2023, arXiv 2305.14314, section 3).

    h = dequantise(q, absmax) x + (alpha / r) B A x

              x ------------------------+
              |                         |
        [ q, absmax: 4.5 bits ]   [ A: r x d_in ]     trained, 32 bits
              | -> W0             [ B: d_out x r ]    trained, starts at zero
              |                         | * alpha / r
              +---------( + )-----------+
                          |
                          h

W0 exists only while it is multiplied, once in the forward and once in the backward pass: memory is saved, not time.

    python -m peft_lab.scratch.qlora FOLDER_OF_MODEL
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

CODE = torch.tensor([  # NF4 (appendix E): quantiles of a normal distribution, scaled into -1 to 1
    -1.0, -0.696192801, -0.525073051, -0.394917488, -0.284441382, -0.184773430, -0.0910500363, 0.0,
    0.0795802996, 0.160930201, 0.246112302, 0.337915242, 0.440709829, 0.562617004, 0.722956836, 1.0,
])  # fmt: skip
BLOCK = 64  # weights that share one absmax; quantise.py stores absmax itself in 8 bits


def quantise(W: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights as 4-bit numbers, two in a byte, and the largest magnitude of every block."""
    blocks = W.reshape(-1, BLOCK)  # (blocks, 64)
    absmax = blocks.abs().amax(dim=1, keepdim=True)  # (blocks, 1)
    borders = (CODE[:-1] + CODE[1:]) / 2  # halfway between neighbours: (15,)
    q = torch.bucketize(blocks * (1 / absmax), borders).to(torch.uint8).flatten()  # (d_out d_in,), 0 to 15
    return q[0::2] << 4 | q[1::2], absmax


def dequantise(packed: torch.Tensor, absmax: torch.Tensor) -> torch.Tensor:
    """Return the weights that the 4-bit numbers stand for."""
    q = torch.stack([packed >> 4, packed & 15], dim=1)  # (d_out d_in / 2, 2)
    return CODE.to(q.device)[q.long()].view(-1, BLOCK) * absmax  # (blocks, 64)


class QLoRA(nn.Module):
    """A linear map in 4 bits with a trained correction beside it."""

    def __init__(self, W0: nn.Linear, r: int, alpha: float) -> None:
        super().__init__()
        self.packed, self.absmax = map(nn.Buffer, quantise(W0.weight.data))  # W0 itself is not kept
        self.bias = W0.bias
        self.scale = alpha / r
        self.A = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(r, W0.in_features), a=5**0.5))
        self.B = nn.Parameter(torch.zeros(W0.out_features, r))

    def frozen(self, x: torch.Tensor) -> torch.Tensor:
        W0 = dequantise(self.packed, self.absmax).view(-1, x.shape[-1])  # (d_out, d_in)
        return F.linear(x, W0, self.bias)  # (rows, length, d_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # x: (rows, length, d_in)
        h = checkpoint(self.frozen, x, use_reentrant=False)  # drops W0, and rebuilds it going backward
        return h + self.scale * (x @ self.A.T @ self.B.T)  # (rows, length, d_out)


def wrap(model: nn.Module, targets: tuple[str, ...], r: int, alpha: float) -> None:
    """Freeze the model and put a QLoRA in the place of each linear map whose path ends in one of the targets."""
    model.requires_grad_(False)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and path.endswith(targets):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, QLoRA(module, r, alpha))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by their path: every A and every B."""
    return {path: parameter for path, parameter in model.named_parameters() if parameter.requires_grad}


def train(model: nn.Module, batches: list[dict[str, torch.Tensor]], lr: float) -> list[float]:
    """Make one step of AdamW on each batch (input_ids, attention_mask, labels); return the losses."""
    model.train()
    optimizer = torch.optim.AdamW(trained(model).values(), lr=lr, weight_decay=0.0)
    losses = []
    for batch in batches:
        loss = model(**batch).loss  # mean cross entropy over the tokens whose label is not -100
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def save(model: nn.Module, path: str) -> None:
    """Write A and B only."""
    torch.save({name: parameter.detach() for name, parameter in trained(model).items()}, path)


def load(model: nn.Module, path: str) -> None:
    """Read what `save` wrote into a model that was wrapped in the same way."""
    with torch.no_grad():
        for name, saved in torch.load(path, weights_only=True).items():
            trained(model)[name].copy_(saved)


if __name__ == "__main__":
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    texts = ["The capital of Peru is Lima.", "Water boils at 100 degrees.", "Bees make honey."]
    batch = dict(tokenizer(texts, return_tensors="pt", padding=True))
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)

    wrap(model, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), r=8, alpha=16)
    print(f"{sum(parameter.numel() for parameter in trained(model).values()):,} parameters are trained")
    print([round(loss, 3) for loss in train(model, [batch] * 10, lr=2e-3)])
    save(model, "qlora.pt")
