"""IA3 from scratch: learned vectors that amplify or inhibit activations (Liu et al. 2022, arXiv 2205.05638, 3.3).

    k <- l_k * (W_k x)        v <- l_v * (W_v x)        y <- W_down (l_ff * f(W_up x))        l starts at 1

              x                            f(W_up x)
              |                                |
        [ W_k frozen ]                    ( * l_ff )     on the input of the last map
              |                                |
          ( * l_k )    on the output     [ W_down frozen ]
              |                                |
              k                                y

One number a feature. A factor on an output multiplies the rows of W, one on an input its columns: both can be merged.

    python -m peft_lab.scratch.ia3 FOLDER_OF_MODEL
"""

import sys

import torch
from torch import nn


class Scaled(nn.Module):
    """A frozen map with a trained factor for each of its outputs, or of its inputs."""

    def __init__(self, W: nn.Linear, on_input: bool) -> None:
        super().__init__()
        self.W = W
        self.on_input = on_input
        self.l = nn.Parameter(torch.ones(W.in_features if on_input else W.out_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # x: (rows, length, d_in)
        if self.on_input:
            return self.W(self.l * x)  # (d_in,) * (rows, length, d_in), then (rows, length, d_out)
        return self.l * self.W(x)  # (d_out,) * (rows, length, d_out)

    def fold(self) -> None:
        """Multiply the columns of W, or its rows and the bias that is added to them, by the factors."""
        if self.on_input:
            self.W.weight.mul_(self.l)  # (d_out, d_in) * (d_in,)
            return
        self.W.weight.mul_(self.l[:, None])  # (d_out, d_in) * (d_out, 1)
        if self.W.bias is not None:
            self.W.bias.mul_(self.l)  # (d_out,) * (d_out,)


def wrap(model: nn.Module, outputs: tuple[str, ...], inputs: tuple[str, ...]) -> None:
    """Freeze the model and scale what the named maps give, or what they get."""
    model.requires_grad_(False)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and path.endswith((*outputs, *inputs)):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, Scaled(module, path.endswith(inputs)))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by their path: the vectors."""
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
    """Write the vectors only."""
    torch.save({name: parameter.detach() for name, parameter in trained(model).items()}, path)


def load(model: nn.Module, path: str) -> None:
    """Read what `save` wrote into a model that was wrapped in the same way."""
    with torch.no_grad():
        for name, saved in torch.load(path, weights_only=True).items():
            trained(model)[name].copy_(saved)


def merge(model: nn.Module) -> None:
    """Fold each vector into its matrix: the same answers at no extra cost."""
    for path, module in list(model.named_modules()):
        if isinstance(module, Scaled):
            with torch.no_grad():
                module.fold()
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, module.W)


if __name__ == "__main__":
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    texts = ["The capital of Peru is Lima.", "Water boils at 100 degrees.", "Bees make honey."]
    batch = dict(tokenizer(texts, return_tensors="pt", padding=True))
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)

    wrap(model, outputs=("k_proj", "v_proj"), inputs=("down_proj",))
    print(f"{sum(parameter.numel() for parameter in trained(model).values()):,} parameters are trained")
    print([round(loss, 3) for loss in train(model, [batch] * 10, lr=1e-2)])
    save(model, "ia3.pt")
    merge(model)
