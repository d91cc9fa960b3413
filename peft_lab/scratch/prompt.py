"""Prompt tuning from scratch: trained input embeddings before the text (Lester et al. 2021, arXiv 2104.08691).

    [P; E(x)]        P: n x d, trained        E(x): the frozen embeddings of the text

        P P P P P | x x x x x x x       inputs     (n + length) x d
        1 1 1 1 1 | 1 1 1 1 1 0 0       mask       the text attends to P; 0 is padding
        . . . . . | . . a b c . .       labels     P is never predicted: -100
        -------------------------
        |     frozen model      |

The model is unchanged and reads a longer text. P has n d parameters, and the loss reaches them only through all layers,
so the learning rate is large. There is nothing to merge.

    python -m peft_lab.scratch.prompt FOLDER_OF_MODEL
"""

import sys
from typing import Any

import torch
from torch import nn


class PromptModel(nn.Module):
    """A frozen model that reads n trained embeddings before every text."""

    def __init__(self, model: Any, P: torch.Tensor) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.P = nn.Parameter(P)  # (n, d)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> Any:
        rows, n = len(input_ids), len(self.P)
        E = self.model.get_input_embeddings()(input_ids)  # (rows, length, d)
        inputs = torch.cat([self.P.expand(rows, -1, -1), E], dim=1)  # (rows, n + length, d)
        mask = torch.cat([attention_mask.new_ones(rows, n), attention_mask], dim=1)  # (rows, n + length)
        labels = torch.cat([labels.new_full((rows, n), -100), labels], dim=1)  # (rows, n + length)
        return self.model(inputs_embeds=inputs, attention_mask=mask, labels=labels)


def wrap(model: Any, ids: torch.Tensor) -> PromptModel:
    """Start from the embeddings of n real tokens: far from them the model is easily lost (section 3.2)."""
    P = model.get_input_embeddings().weight[ids]  # ids: (n,), P: (n, d)
    return PromptModel(model, P.detach().clone())


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by their path: P."""
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


def save(model: PromptModel, path: str) -> None:
    """Write P only."""
    torch.save(model.P.detach(), path)


def load(model: Any, path: str) -> PromptModel:
    """Put a saved P before the texts of a model."""
    return PromptModel(model, torch.load(path, weights_only=True))


def nearest_tokens(model: PromptModel) -> torch.Tensor:
    """Return the token whose embedding has the largest cosine with each row of P: what P seems to say, (n,)."""
    E = model.model.get_input_embeddings().weight  # (vocabulary, d)
    cosines = nn.functional.normalize(model.P, dim=1) @ nn.functional.normalize(E, dim=1).T  # (n, vocabulary)
    return cosines.argmax(dim=1)


if __name__ == "__main__":
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    texts = ["The capital of Peru is Lima.", "Water boils at 100 degrees.", "Bees make honey."]
    batch = dict(tokenizer(texts, return_tensors="pt", padding=True))
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)

    start = tokenizer("Facts in short sentences:", return_tensors="pt")["input_ids"][0]
    model = wrap(base, start)
    print(f"{sum(parameter.numel() for parameter in trained(model).values()):,} parameters are trained")
    print([round(loss, 3) for loss in train(model, [batch] * 10, lr=3e-2)])
    print(tokenizer.decode(nearest_tokens(model)))
    save(model, "prompt.pt")
