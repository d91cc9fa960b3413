"""P-tuning from scratch: virtual tokens made by a small encoder (Liu et al. 2021, arXiv 2103.10385v2, section 2).

    P = MLP(E)        E: n x d, trained        MLP: d -> h -> h -> d, trained, thrown away afterwards

        E E E E E
        [  MLP  ]                       in training only: what is stored is its output P
        P P P P P | x x x x x x x
        -------------------------
        |     frozen model      |

The encoder ties the virtual tokens together and makes them easier to train. In training there are n d + d h + h h + h d
weights and the MLP's biases; stored are n d. The paper's encoder is an LSTM and an MLP; PEFT's default is this MLP.

    python -m peft_lab.scratch.ptuning FOLDER_OF_MODEL
"""

import sys
from typing import Any

import torch
from torch import nn


class Encoder(nn.Module):
    """What makes the virtual tokens while they are trained."""

    def __init__(self, n: int, d: int, h: int) -> None:
        super().__init__()
        self.E = nn.Parameter(torch.randn(n, d))
        self.MLP = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, d))

    def forward(self) -> torch.Tensor:
        return self.MLP(self.E)  # (n, d) -> (n, h) -> (n, h) -> (n, d)


class Table(nn.Module):
    """What gives the virtual tokens once they are trained."""

    def __init__(self, P: torch.Tensor) -> None:
        super().__init__()
        self.P = nn.Parameter(P, requires_grad=False)

    def forward(self) -> torch.Tensor:
        return self.P  # (n, d)


class PTuned(nn.Module):
    """A frozen model that reads n virtual tokens before every text."""

    def __init__(self, model: Any, prompt: nn.Module) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.prompt = prompt

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> Any:
        P = self.prompt()  # (n, d)
        rows, n = len(input_ids), len(P)
        x = self.model.get_input_embeddings()(input_ids)  # (rows, length, d)
        inputs = torch.cat([P.expand(rows, -1, -1), x], dim=1)  # (rows, n + length, d)
        mask = torch.cat([attention_mask.new_ones(rows, n), attention_mask], dim=1)  # (rows, n + length)
        labels = torch.cat([labels.new_full((rows, n), -100), labels], dim=1)  # P is never predicted
        return self.model(inputs_embeds=inputs, attention_mask=mask, labels=labels)


def wrap(model: Any, n: int, h: int) -> PTuned:
    """Freeze the model and put n virtual tokens from an encoder of width h before each text."""
    return PTuned(model, Encoder(n, model.config.hidden_size, h))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by their path: E and the MLP."""
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


def save(model: PTuned, path: str) -> None:
    """Write P only: the encoder has done its work."""
    torch.save(model.prompt().detach(), path)


def load(model: Any, path: str) -> PTuned:
    """Put a saved P before the texts of a model, without an encoder."""
    return PTuned(model, Table(torch.load(path, weights_only=True)))


if __name__ == "__main__":
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    texts = ["The capital of Peru is Lima.", "Water boils at 100 degrees.", "Bees make honey."]
    batch = dict(tokenizer(texts, return_tensors="pt", padding=True))
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)

    model = wrap(base, n=10, h=base.config.hidden_size)
    print(f"{sum(parameter.numel() for parameter in trained(model).values()):,} parameters are trained")
    print([round(loss, 3) for loss in train(model, [batch] * 10, lr=2e-4)])
    save(model, "ptuning.pt")
