"""Adapters from scratch: small bottleneck networks inside every layer (Houlsby et al. 2019, arXiv 1902.00751).

    h <- h + W_up f(W_down h + b_down) + b_up        W_down: m x d        W_up: d x m        f: GELU

        h: output of the attention, or of the feed-forward part
              |
              +-----------------+
              |                 |
              |          [ W_down: m x d ]
              |                 f            trained: 2 m d + d + m
              |          [ W_up:   d x m ]
              |                 |
              +------( + )------+
                       |
                       h

Both matrices start tiny, so the model starts nearly as it was. Between them stands a nonlinear function, so an adapter
cannot be folded into the matrix before it: it stays, and costs time.

    python -m peft_lab.scratch.adapters FOLDER_OF_MODEL
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F


class Adapter(nn.Module):
    """A bottleneck of width m that is added to its own input."""

    def __init__(self, d: int, m: int) -> None:
        super().__init__()
        self.W_down = nn.Linear(d, m)
        self.W_up = nn.Linear(m, d)
        for W in (self.W_down, self.W_up):
            nn.init.trunc_normal_(W.weight, std=1e-3, a=-2e-3, b=2e-3)  # near the identity (section 2.1)
            nn.init.zeros_(W.bias)

    def forward(self, h: torch.Tensor) -> torch.Tensor:  # h: (rows, length, d)
        narrow = F.gelu(self.W_down(h))  # (rows, length, m)
        return h + self.W_up(narrow)  # (rows, length, d)


def wrap(model: nn.Module, sublayers: tuple[str, ...], m: int) -> None:
    """Freeze the model and put an adapter behind the last linear map of each of these sublayers.

    That is before the sum with the stream: in a Llama, behind `o_proj` and `down_proj`.
    """
    model.requires_grad_(False)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and path.endswith(sublayers):
            parent, _, name = path.rpartition(".")
            both = nn.Sequential(module, Adapter(module.out_features, m))
            setattr(model.get_submodule(parent), name, both)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by their path: all of the adapters'."""
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
    """Write the adapters only."""
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

    wrap(model, ("o_proj", "down_proj"), m=64)
    print(f"{sum(parameter.numel() for parameter in trained(model).values()):,} parameters are trained")
    print([round(loss, 3) for loss in train(model, [batch] * 10, lr=1e-3)])
    save(model, "adapters.pt")
