"""LoRA from scratch: a trained low-rank correction beside a frozen matrix (Hu et al. 2021, arXiv 2106.09685).

    h = W0 x + (alpha / r) B A x

              x --------------------+
              |                     |
        [ W0: d_out x d_in ]   [ A: r x d_in ]    starts random
              | frozen              | trained
              |                [ B: d_out x r ]   starts at zero
              |                     | * alpha / r
              +-------( + )---------+
                        |
                        h

B starts at zero, so before the first step the model answers as it did. A matrix gets r (d_in + d_out) parameters.

    python -m peft_lab.scratch.lora FOLDER_OF_MODEL
"""

import sys

import torch
from torch import nn


class LoRA(nn.Module):
    """A frozen linear map W0 with a trained correction beside it."""

    def __init__(self, W0: nn.Linear, r: int, alpha: float) -> None:
        super().__init__()
        d_out, d_in = W0.weight.shape
        self.W0 = W0
        self.scale = alpha / r
        self.A = nn.Parameter(torch.empty(r, d_in))
        self.B = nn.Parameter(torch.zeros(d_out, r))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)  # as nn.Linear: uniform within 1 / sqrt(d_in)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # x: (rows, length, d_in)
        low = x @ self.A.T  # (rows, length, r)
        correction = low @ self.B.T  # (rows, length, d_out)
        return self.W0(x) + self.scale * correction  # (rows, length, d_out)

    def delta(self) -> torch.Tensor:
        """Return what the correction adds to W0."""
        return self.scale * (self.B @ self.A)  # (d_out, r) @ (r, d_in) = (d_out, d_in)


def wrap(model: nn.Module, targets: tuple[str, ...], r: int, alpha: float) -> None:
    """Freeze the model and put a LoRA in the place of each linear map whose path ends in one of the targets."""
    model.requires_grad_(False)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and path.endswith(targets):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, LoRA(module, r, alpha))


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
        loss.backward()  # dL/dB (d_out, r) and dL/dA (r, d_in); at step 0 dL/dA is zero, because B is
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def save(model: nn.Module, path: str) -> None:
    """Write A and B only: the frozen weights are in the base model's own files."""
    torch.save({name: parameter.detach() for name, parameter in trained(model).items()}, path)


def load(model: nn.Module, path: str) -> None:
    """Read what `save` wrote into a model that was wrapped in the same way."""
    with torch.no_grad():
        for name, saved in torch.load(path, weights_only=True).items():
            trained(model)[name].copy_(saved)


def merge(model: nn.Module) -> None:
    """Add each correction to its W0 and remove the LoRA: the same answers at no extra cost."""
    for path, module in list(model.named_modules()):
        if isinstance(module, LoRA):
            module.W0.weight.data += module.delta().detach()
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, module.W0)


if __name__ == "__main__":
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    texts = ["The capital of Peru is Lima.", "Water boils at 100 degrees.", "Bees make honey."]
    batch = dict(tokenizer(texts, return_tensors="pt", padding=True))
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)

    wrap(model, ("q_proj", "v_proj"), r=8, alpha=16)
    print(f"{sum(parameter.numel() for parameter in trained(model).values()):,} parameters are trained")
    print([round(loss, 3) for loss in train(model, [batch] * 10, lr=2e-3)])
    save(model, "lora.pt")
    merge(model)
