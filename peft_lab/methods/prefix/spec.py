r"""Prefix Tuning: learned keys and values before every layer's own (Li & Liang 2021, arXiv 2101.00190, section 4).

    attention( q,  [P_k; k],  [P_v; v] )        P_k, P_v: n x d_kv per layer, trained

              q           k            v
              |      [P P P|k k k] [P P P|v v v]     the prefix is in no layer's input: it is written into the cache
              |           |            |
              +--- attention over n + length --- o

The text can attend to the prefix; the prefix attends to nothing. With ``prefix_projection`` the keys and values come
from a table through an MLP that exists in training only (the paper's reparameterisation). Stored either way:
2 L d_kv n.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.base import Formula, Part, Problem, Term
from peft_lab.methods.shared.peft_backed import on_meta, without_dropout, wrap
from peft_lab.methods.shared.virtual_tokens import (
    START_TEXTS,
    VirtualTokenMethod,
    bridged,
    room_problems,
    start_from_text,
    text_problems,
)
from peft_lab.models.catalogue import catalogue
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import ModelShape, ModuleGroup

if TYPE_CHECKING:
    from peft import PeftConfig


class PrefixTuning(VirtualTokenMethod):
    """Prefix Tuning: trained keys and values before those of the text, in every layer.
    ``2 L d_kv n`` parameters, fewer with grouped-query attention."""

    slug = "prefix"

    def in_every_layer(self, values: Values) -> bool:
        return True

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        """Return the defaults. A text start needs a tokenizer, so it is the default if the model's weights are here."""
        known = catalogue().get(shape.name)
        start = {"init_weights": "text"} if known and known.live and shape.kind == "causal-lm" else {}
        text = {"init_text": START_TEXTS.get(shape.kind, "")}
        return super().defaults(shape) | {"encoder_hidden_size": _width(shape)} | text | start

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        if not shape.heads:
            yield Problem(
                "model",
                f"{shape.title} carries a state from token to token and has no keys and values, so there is no place "
                "for a prefix.",
            )
            return
        yield from room_problems(shape, values["num_virtual_tokens"])
        if without := _without_keys(shape):
            yield Problem("model", without)
        elif shape.kv_width != _width(shape):
            yield Problem(
                "model",
                f"The keys of {shape.title} are {shape.kv_width} wide. PEFT would make the prefix {_width(shape)} "
                "wide (it assumes heads that share the hidden size), which does not fit.",
            )
        yield from text_problems(values, "init_weights")
        if shape.kind == "seq2seq":
            yield Problem(
                "num_virtual_tokens",
                "On encoder-decoder models, PEFT adds the prefix only to the decoder's self-attention, not to the "
                "encoder or the cross-attention.",
                "warning",
            )
        if values["init_weights"] == "text" and shape.kind == "seq2seq":
            yield Problem(
                "init_weights", "PEFT reads the keys and values of a text only from decoders. Choose zero."
            )
        elif values["init_weights"] == "text" and values["prefix_projection"]:
            yield Problem(
                "init_weights",
                "With the projection, the MLP computes the prefix. PEFT does not start it from a text: the "
                "prefix starts at zero.",
                "warning",
            )

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        n, d, layers = values["num_virtual_tokens"], _width(shape), shape.num_layers
        stored = n * 2 * layers * d
        if not values["prefix_projection"]:
            term = Term("prompt_encoder.embedding", rf"{n} \cdot 2 \cdot {layers} \cdot {d}", stored, 1)
            return Formula(r"n \cdot 2 L\, d_{kv}", (term,), added=stored, stored=stored)
        h, out = values["encoder_hidden_size"], 2 * layers * d
        terms = (
            Term("prompt_encoder.embedding", rf"{n} \cdot {d}", n * d, 1),
            Term("prompt_encoder.transform.0", rf"{d} \cdot {h} + {h}", d * h + h, 1),
            Term(
                "prompt_encoder.transform.2", rf"({h} + 1) \cdot 2 \cdot {layers} \cdot {d}", (h + 1) * out, 1
            ),
        )
        symbolic = r"n\, d_{kv} + (d_{kv}\,h + h) + (h + 1) \cdot 2 L\, d_{kv}"
        return Formula(symbolic, terms, added=sum(term.total for term in terms), stored=stored)

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        size = {"tokens": values["num_virtual_tokens"], "width": _width(shape), "layers": shape.num_layers}
        columns = tuple(Part("columns", group.path, label, size) for label, group in _key_value(shape))
        if not values["prefix_projection"]:
            return columns
        return (
            *columns,
            Part("encoder", "attention", "MLP", {"width": values["encoder_hidden_size"], "layers": 2}),
        )

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig:
        from peft import PrefixTuningConfig

        # By default PEFT takes the hidden size, which may differ from the total width of a T5's heads.
        width: Any = _width(shape) if shape.kind == "seq2seq" else None
        return PrefixTuningConfig(
            task_type=task_type,
            num_virtual_tokens=values["num_virtual_tokens"],
            prefix_projection=values["prefix_projection"],
            encoder_hidden_size=values["encoder_hidden_size"],
            init_weights=None if values["init_weights"] == "random" else "zero",
            token_dim=width,
        )

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        without_dropout(model)
        adapted = wrap(model, self.config(shape, values, task_type))
        if starts_from_text(values) and not on_meta(model):
            start_from_text(adapted, values["init_text"], values["num_virtual_tokens"])
        return bridged(adapted)


def starts_from_text(values: Values) -> bool:
    """Return whether the prefix itself is filled with a text's keys and values."""
    return values["init_weights"] == "text" and not values["prefix_projection"]


def _width(shape: ModelShape) -> int:
    """Return the width of PEFT's prefix per layer: the keys'. Without grouped queries PEFT takes the hidden size; it
    detects them by ``num_key_value_heads`` in the config, which Falcon's lacks."""
    return shape.hidden if shape.model_type == "falcon" else shape.kv_width


def _without_keys(shape: ModelShape) -> str:
    """Return why a model's layers cannot take a prefix; empty if they can."""
    if any(group.role == "kv" for group in shape.groups):
        return (
            f"{shape.title} computes keys and values of different widths from one compressed vector (multi-head "
            "latent attention). PEFT makes a prefix of one width for both, which does not fit the model's cache."
        )
    widths = sorted({group.out_features for group in shape.groups if group.role == "k"})
    if len(widths) > 1 and shape.kind == "causal-lm":
        return (
            f"The keys of {shape.title} are {' or '.join(map(str, widths))} wide, depending on the layer. PEFT makes "
            "a prefix of one width for all layers, which does not fit keys of different widths."
        )
    found = {layer for group in shape.groups if group.role in ("k", "qkv") for layer in group.layers}
    if not found:
        return f"PEFT Lab finds no attention in {shape.title}, so there is no place for a prefix."
    if len(found) < shape.num_layers:
        return (
            f"Only {len(found)} of the {shape.num_layers} layers of {shape.title} have keys and values; the others "
            "keep a running state. PEFT makes a prefix for all layers, which the model's cache does not accept."
        )
    return ""


def _key_value(shape: ModelShape) -> list[tuple[str, ModuleGroup]]:
    """Return where the prefix appears: keys and values of the (decoder's) self-attention, or their fused map."""
    own = [
        g
        for g in shape.groups
        if g.role and "EncDec" not in g.path and not g.path.startswith("encoder.block")
    ]
    labels = {"k": "P_k", "v": "P_v", "qkv": "P_k, P_v"}
    return [(labels[str(g.role)], g) for g in own if g.role in labels]


METHOD = PrefixTuning()
