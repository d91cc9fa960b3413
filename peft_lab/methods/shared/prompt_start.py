"""How virtual tokens and the frozen model around them start, beyond what PEFT's configs can say.

Each function is also written, word for word, into exported scripts. Torch is imported inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def start_as_words(model: Any, ids: Sequence[int]) -> None:
    """Set the last layer of P-Tuning's prompt encoder so that the encoder makes the embeddings of these tokens.

    Of all last layers that do, the smallest (pseudoinverse). With fewer hidden features than tokens they are met as
    well as least squares can. Solved on the processor in float64, which Apple's GPUs do not have.
    """
    import torch

    encoder = model.prompt_encoder["default"]
    words = model.get_base_model().get_input_embeddings().weight.detach()
    encoder.eval()
    with torch.no_grad():
        hidden = encoder.embedding.weight[None]
        if hasattr(encoder, "lstm_head"):
            hidden = encoder.lstm_head(hidden)[0]
        # PEFT makes two rows a token for an encoder-decoder and reads the first half of them.
        features = encoder.mlp_head[:-1](hidden)[0, : len(ids)].cpu().double()
        wanted = words[torch.tensor(list(ids), device=words.device)].cpu().double()
        encoder.mlp_head[-1].weight.copy_((torch.linalg.pinv(features) @ wanted).T)
        encoder.mlp_head[-1].bias.zero_()
    encoder.train()
