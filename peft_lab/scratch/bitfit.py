"""BitFit from scratch: train the bias vectors and nothing else (Ben Zaken et al. 2021, arXiv 2106.10199).

    h = W x + b        W frozen, b trained

              x
              |
        [ W frozen ]
              |
            ( + b )    trained
              |
              h

Nothing is added, so nothing is slower afterwards and there is nothing to merge. A model without biases, such as Llama,
has nothing to train; BERT has 102,912 of its 109 million parameters in biases. A classifier's head is new: it has to
be trained too.

    python -m peft_lab.scratch.bitfit FOLDER_OF_MODEL        a model with biases, such as BERT
"""

import sys

import torch
from torch import nn


def wrap(model: nn.Module, head: tuple[str, ...] = ()) -> None:
    """Freeze all parameters but the biases and those whose path begins as named in `head`."""
    for path, parameter in model.named_parameters():
        is_bias = path.endswith("bias")  # of linear maps, (d_out,), and of norms, (d,)
        parameter.requires_grad = is_bias or path.startswith(head)
    assert trained(model), "This model has no biases, so BitFit has nothing to train."
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # so few parameters do not overfit


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by their path: every b, and the head."""
    return {path: parameter for path, parameter in model.named_parameters() if parameter.requires_grad}


def train(model: nn.Module, batches: list[dict[str, torch.Tensor]], lr: float) -> list[float]:
    """Make one step of AdamW on each batch (input_ids, attention_mask, labels); return the losses."""
    model.train()
    optimizer = torch.optim.AdamW(trained(model).values(), lr=lr, weight_decay=0.0)
    losses = []
    for batch in batches:
        loss = model(**batch).loss  # mean cross entropy
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def save(model: nn.Module, path: str) -> None:
    """Write the biases and the head only."""
    torch.save({name: parameter.detach() for name, parameter in trained(model).items()}, path)


def load(model: nn.Module, path: str) -> None:
    """Read what `save` wrote into a model that was of the same shape, wrapped in the same way."""
    with torch.no_grad():
        for name, saved in torch.load(path, weights_only=True).items():
            trained(model)[name].copy_(saved)


if __name__ == "__main__":
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], num_labels=2, dtype=torch.float32)
    texts = ["A wonderful film.", "I loved it.", "A waste of time.", "Dull from start to end."]
    batch = dict(tokenizer(texts, return_tensors="pt", padding=True))
    batch["labels"] = torch.tensor([1, 1, 0, 0])

    wrap(model, head=("classifier",))
    print(f"{sum(parameter.numel() for parameter in trained(model).values()):,} parameters are trained")
    print([round(loss, 3) for loss in train(model, [batch] * 10, lr=1e-2)])
    save(model, "bitfit.pt")
