"""Prefix tuning from scratch: trained keys and values before every layer's own (Li & Liang 2021, arXiv 2101.00190).

    attention( q,  [P_k; k],  [P_v; v] )        P_k, P_v: n x d_kv in each of L layers, trained

          q            k              v
          |     [P P P | k k k] [P P P | v v v]        the prefix is no layer's input: it is put into the cache
          |        |                 |
          +--------+---- softmax ----+
                         |
                         h

    P = MLP(P')        section 4.3: train a smaller table P' and an MLP, store only what they give

A prefix has 2 n L d_kv parameters. It cannot be merged: every token attends to n more places.

    python -m peft_lab.scratch.prefix FOLDER_OF_MODEL
"""

import sys
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache


class PrefixModel(nn.Module):
    """A frozen decoder that reads every text as if a prefix had stood before it.

    P: (n, 2 L d_kv), the prefix itself. With an MLP, P is P', (n, d_kv), and the MLP makes the prefix of it.
    """

    def __init__(self, model: Any, P: torch.Tensor, MLP: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.P = nn.Parameter(P)
        self.MLP = MLP

    def prefix(self) -> torch.Tensor:
        return self.P if self.MLP is None else self.MLP(self.P)  # (n, 2 L d_kv)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **more: Any) -> Any:
        P = self.prefix()  # (n, 2 L d_kv)
        rows, n = len(input_ids), len(P)
        L, heads = self.model.config.num_hidden_layers, self.model.config.num_key_value_heads
        P = P.view(n, L, 2, heads, -1).permute(1, 2, 3, 0, 4)  # (L, 2, heads, n, d_head)
        cache = DynamicCache()
        for layer, (P_k, P_v) in enumerate(P):  # each (heads, n, d_head), the same for all rows
            cache.update(P_k.expand(rows, -1, -1, -1), P_v.expand(rows, -1, -1, -1), layer)
        seen = torch.cat([attention_mask.new_ones(rows, n), attention_mask], dim=1)  # (rows, n + length)
        # The text's positions start at n. The prefix has no logits, so the labels need no change.
        return self.model(input_ids=input_ids, attention_mask=seen, past_key_values=cache, **more)


def wrap(model: Any, ids: torch.Tensor) -> PrefixModel:
    """Start from the keys and values of n real tokens: random ones disturb the model (section 7.4)."""
    cache: Any = DynamicCache()
    with torch.no_grad():
        model(input_ids=ids[None], past_key_values=cache)  # ids: (n,)
    P = torch.stack(
        [torch.cat([layer.keys, layer.values]) for layer in cache.layers]
    )  # (L, 2, heads, n, d_head)
    return PrefixModel(model, P.permute(3, 0, 1, 2, 4).flatten(1))  # (n, 2 L d_kv)


def wrap_with_mlp(model: Any, n: int, width: int) -> PrefixModel:
    """Start from a random table and an MLP, which train more steadily than P itself (section 4.3)."""
    d_kv = model.config.num_key_value_heads * model.config.hidden_size // model.config.num_attention_heads
    last = nn.Linear(width, 2 * model.config.num_hidden_layers * d_kv)
    MLP = nn.Sequential(nn.Linear(d_kv, width), nn.Tanh(), last)  # (n, d_kv) -> (n, width) -> (n, 2 L d_kv)
    return PrefixModel(model, torch.randn(n, d_kv), MLP)


def train(model: nn.Module, batches: list[dict[str, torch.Tensor]], lr: float) -> list[float]:
    """Make one step of AdamW on each batch (input_ids, attention_mask, labels); return the losses."""
    model.train()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=0.0)
    losses = []
    for batch in batches:
        loss = model(**batch).loss  # mean cross entropy over the tokens whose label is not -100
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def save(model: PrefixModel, path: str) -> None:
    """Write P only; an MLP that made it is left out."""
    torch.save(model.prefix().detach(), path)


def load(model: Any, path: str) -> PrefixModel:
    """Put a saved prefix before the texts of a model."""
    return PrefixModel(model, torch.load(path, weights_only=True))


if __name__ == "__main__":
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    texts = ["The capital of Peru is Lima.", "Water boils at 100 degrees.", "Bees make honey."]
    batch = dict(tokenizer(texts, return_tensors="pt", padding=True))
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)

    start = tokenizer("Facts in short sentences:", return_tensors="pt")["input_ids"][0]
    model = wrap(base, start)
    print(f"{model.P.numel():,} parameters are trained")
    print([round(loss, 3) for loss in train(model, [batch] * 10, lr=1e-2)])
    save(model, "prefix.pt")
