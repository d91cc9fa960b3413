"""What the source text says about P-Tuning alone: its parameters, what it is, what it costs."""

from __future__ import annotations

from functools import partial

from peft_lab.core import units
from peft_lab.core.units import Source
from peft_lab.interview.claims.base import Claim, Found, Subject, counted, holds
from peft_lab.interview.claims.figures import TOKENS, share
from peft_lab.interview.question import prefixed, prompted
from peft_lab.methods import get_method

WIDTH = 128
read = partial(Claim, source=Source.COUNTED)


def _ptuning_small(model: Subject) -> Found:
    snippet = model.share("ptuning", num_virtual_tokens=TOKENS, encoder_hidden_size=WIDTH)
    mlp = model.share("ptuning", num_virtual_tokens=TOKENS)
    lstm = model.share("ptuning", num_virtual_tokens=TOKENS, encoder_reparameterization_type="LSTM")
    small = [value < 1 for value in (snippet, mlp, lstm)]
    return Found(
        "right" if all(small) else "imprecise" if any(small) else "wrong",
        f"{share(snippet)} of the model at width {WIDTH}; at PEFT's default width {share(mlp)} as an MLP and "
        f"{share(lstm)} as an LSTM",
        "PEFT's default width is the model's own, and an LSTM has four gates in two directions. Only the virtual "
        "tokens "
        "are stored.",
        {"snippet": snippet, "mlp": mlp, "lstm": lstm},
    )


def _v2(model: Subject) -> Found:
    spec = get_method("prefix")
    formula = spec.formula(model.shape, spec.complete(model.shape, {"num_virtual_tokens": TOKENS}))
    layers = formula.stored / (TOKENS * 2 * model.shape.kv_width)
    return Found(
        holds(layers == model.shape.num_layers),
        f"{units.count(formula.stored)} stored for {TOKENS} tokens: keys and values for {layers:.0f} layers",
        "In PEFT it is Prefix Tuning without projection, with a head where a class is chosen; there is no class of "
        "that name.",
        {"stored": formula.stored},
    )


CLAIMS = (
    counted(
        id="ptuning-small", topic="ptuning", check=_ptuning_small, fits=prompted,
        claim="P-Tuning uses a small LSTM or MLP.",
        quote="Uses a small LSTM or MLP to generate virtual prompt tokens",
    ),
    read(
        id="ptuning-v2", topic="ptuning", check=_v2, fits=prefixed, how="closed formula of the prefix",
        claim="P-Tuning v2 puts prompts into every layer, like Prefix Tuning.",
        quote="P-Tuning v2 applies prompts at every transformer layer (similar to prefix tuning).",
    ),
)  # fmt: skip
