r"""P-Tuning: virtual tokens made by a small encoder (Liu et al. 2021, arXiv 2103.10385v2, section 2).

    P = encoder(E')        E': n x d, trained        encoder: MLP or BiLSTM + MLP, trained, thrown away afterwards

        E' E' E' E'
        [ encoder ]            in training only; what is stored is its output P
        P  P  P  P  | x x x x x x
        --------------------------
        |     frozen model        |
        --------------------------

The encoder ties the virtual tokens together and makes them easier to optimise. Parameters in training: n d and the
encoder's; stored: n d. The paper puts its prompts anywhere in a template; PEFT puts them in front.

Version 2 (Liu et al. 2021, arXiv 2110.07602, section 3.2) has no encoder and trains keys and values in front of every
layer's: on decoders that is PEFT's Prefix Tuning without its projection, on encoders
:mod:`peft_lab.methods.shared.virtual_tokens`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.base import Formula, Part, Problem, Term
from peft_lab.methods.prefix.spec import METHOD as PREFIX
from peft_lab.methods.shared import peft_backed, virtual_tokens
from peft_lab.methods.shared.peft_backed import on_meta, without_dropout
from peft_lab.methods.shared.virtual_tokens import (
    START_TEXTS,
    InputPromptMethod,
    rows,
    start_as_words,
    text_ids,
    text_problems,
)
from peft_lab.models.catalogue import catalogue
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import ModelKind, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

DEEP_TYPE = "DEEP_PROMPTS"
DEEP = ("num_virtual_tokens", "init_weights", "init_text")  # the knobs that version 2 reads


class PTuning(InputPromptMethod):
    """P-Tuning: version 1 with an encoder at the input, version 2 with prompts in every layer."""

    slug = "ptuning"
    deep_learning_rates: ClassVar[Mapping[ModelKind, float]] = {"encoder": 3e-2, **PREFIX.learning_rates}

    def in_every_layer(self, values: Values) -> bool:
        return is_deep(values)

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        """Return the defaults. A text start needs a tokenizer, so it is the default if the model's weights are here."""
        known = catalogue().get(shape.name)
        start = {"init_weights": "text"} if known and known.live else {}
        text = {"init_text": START_TEXTS.get(shape.kind, "")}
        return super().defaults(shape) | {"encoder_hidden_size": shape.hidden} | text | start

    def learning_rate(self, kind: ModelKind, values: Values) -> float:
        return (self.deep_learning_rates if is_deep(values) else self.learning_rates)[kind]

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        if not is_deep(values):
            yield from super().check(shape, values)
            yield from text_problems(values, "init_weights")
            if values["init_weights"] == "zero":
                yield Problem(
                    "init_weights",
                    "The encoder starts from random numbers or from a text. Only version v2 can start at zero.",
                )
        elif shape.kind != "encoder":
            yield from PREFIX.check(shape, _as_prefix(shape, values))
        elif not virtual_tokens.fits(shape):
            yield Problem(
                "version",
                f"Deep prompts go into attention modules called '{virtual_tokens.ATTENTION}', as in BERT, RoBERTa and "
                f"ELECTRA. {shape.title} has none. Choose version v1.",
            )
        else:
            yield from text_problems(values, "init_weights")

    # -- without torch -------------------------------------------------------------------------------------------

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        if is_deep(values):
            return _deep_formula(shape, values)
        count, d, h = rows(shape, values), shape.hidden, values["encoder_hidden_size"]
        table = Term("prompt_encoder.embedding", rf"{count} \cdot {d}", count * d, 1)
        n = r"2\,n" if shape.kind == "seq2seq" else "n"
        if values["encoder_reparameterization_type"] == "MLP":
            symbolic = rf"{n}\,d + (d\,h + h) + (h^2 + h) + (h\,d + d)"
            encoder = [("0", d, h), ("2", h, h), ("4", h, d)]
            terms = [_linear(f"prompt_encoder.mlp_head.{layer}", *sizes) for layer, *sizes in encoder]
        else:
            lstm = r"2 \cdot 4h\,(d + h + 2) + 2\,(\ell - 1) \cdot 4h\,(3h + 2)"
            symbolic = rf"{n}\,d + {lstm} + (4h^2 + 2h) + (2h\,d + d)"
            terms = [
                _lstm(layer, d if layer == 0 else 2 * h, h) for layer in range(values["encoder_num_layers"])
            ]
            terms.append(_linear("prompt_encoder.mlp_head.0", 2 * h, 2 * h))
            terms.append(_linear("prompt_encoder.mlp_head.2", 2 * h, d))
        total = table.total + sum(term.total for term in terms)
        return Formula(symbolic, (table, *terms), added=total, stored=table.total)

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        if is_deep(values):
            return PREFIX.parts(shape, _as_prefix(shape, values))
        kind = values["encoder_reparameterization_type"]
        layers = 3 if kind == "MLP" else values["encoder_num_layers"]
        return (
            Part("cells", "tokens", "P", {"tokens": values["num_virtual_tokens"], "width": shape.hidden}),
            Part("encoder", "tokens", kind, {"width": values["encoder_hidden_size"], "layers": layers}),
        )

    # -- with torch ----------------------------------------------------------------------------------------------

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig | None:  # type: ignore[override]
        from peft import PromptEncoderConfig

        if is_deep(values):
            # PEFT has no deep prompts for encoders.
            return (
                None
                if shape.kind == "encoder"
                else PREFIX.config(shape, _as_prefix(shape, values), task_type)
            )
        # PEFT warns if an MLP is given these, and ignores them.
        lstm = values["encoder_reparameterization_type"] == "LSTM"
        more = {name: values[name] for name in ("encoder_num_layers", "encoder_dropout") if lstm}
        return PromptEncoderConfig(
            task_type=task_type,
            num_virtual_tokens=values["num_virtual_tokens"],
            encoder_reparameterization_type=values["encoder_reparameterization_type"],
            encoder_hidden_size=values["encoder_hidden_size"],
            **more,
        )

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        if not is_deep(values):
            adapted = super().apply(model, shape, values, task_type)
            if values["init_weights"] == "text" and not on_meta(model):
                start_as_words(adapted, text_ids(model, values["init_text"], values["num_virtual_tokens"]))
            return adapted
        if shape.kind != "encoder":
            return PREFIX.apply(model, shape, _as_prefix(shape, values), task_type)
        without_dropout(model)
        tokens, start = values["num_virtual_tokens"], values["init_weights"]
        if on_meta(model):
            start = "zero"  # only the shapes are needed, and those are the same for every start
        ids = text_ids(model, values["init_text"], tokens) if start == "text" else []
        peft_backed.train_only(model, virtual_tokens.add_prompts(model, tokens, start, ids), task_type)
        return model

    def state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        return super().state(model) if hasattr(model, "peft_config") else peft_backed.trained_state(model)

    def save(self, model: torch.nn.Module, directory: Path) -> None:
        if hasattr(model, "peft_config"):
            super().save(model, directory)
            return
        state = self.state(model)
        tokens = next(tensor.shape[1] for name, tensor in state.items() if virtual_tokens.CHILD in name)
        peft_backed.write_own_format(directory, {"peft_type": DEEP_TYPE, "num_virtual_tokens": tokens}, state)

    def load(self, model: torch.nn.Module, directory: Path) -> torch.nn.Module:
        config = peft_backed.read_any_config(directory)
        if config.get("peft_type") != DEEP_TYPE:
            return super().load(model, directory)
        virtual_tokens.add_prompts(model, config["num_virtual_tokens"], "zero")
        peft_backed.restore_adapter(model, peft_backed.read_state(directory))
        return model


def is_deep(values: Values) -> bool:
    """Return whether the settings are those of version 2."""
    return bool(values["version"] == "v2")


def _as_prefix(shape: ModelShape, values: Values) -> dict[str, Any]:
    """Return the same settings as Prefix Tuning's."""
    own = {name: values[name] for name in DEEP}
    return PREFIX.defaults(shape) | own | {"prefix_projection": False}


def _deep_formula(shape: ModelShape, values: Values) -> Formula:
    if shape.kind != "encoder":
        return PREFIX.formula(shape, _as_prefix(shape, values))
    n, keys = values["num_virtual_tokens"], virtual_tokens.attention(shape)
    d = keys.out_features
    path = f"{keys.path.rpartition('.')[0]}.{virtual_tokens.CHILD}"
    terms = tuple(Term(f"{path}.{name}", rf"{n} \cdot {d}", n * d, keys.count) for name in ("key", "value"))
    total = sum(term.total for term in terms)
    return Formula(r"n \cdot 2 L\, d_{kv}", terms, added=total, stored=total)


def _linear(path: str, inputs: int, outputs: int) -> Term:
    return Term(path, rf"{inputs} \cdot {outputs} + {outputs}", inputs * outputs + outputs, 1)


def _lstm(layer: int, inputs: int, hidden: int) -> Term:
    """Return the term of one bidirectional layer: four gates, each with input and recurrent weights and two biases."""
    each = 2 * 4 * hidden * (inputs + hidden + 2)
    expression = rf"2 \cdot 4 \cdot {hidden} \cdot ({inputs} + {hidden} + 2)"
    return Term(f"prompt_encoder.lstm_head (layer {layer})", expression, each, 1)


METHOD = PTuning()
