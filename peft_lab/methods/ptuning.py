r"""P-Tuning: virtual tokens made by a small encoder (Liu et al. 2021, arXiv 2103.10385, section 3.2).

    P = encoder(E')        E': n x d, trained        encoder: MLP or BiLSTM + MLP, trained, thrown away afterwards

        E' E' E' E'
        [ encoder ]            in training only; what is stored is its output P
        P  P  P  P  | x x x x x x
        --------------------------
        |     frozen model        |
        --------------------------

The encoder ties the virtual tokens together and makes them easier to optimise. Parameters in training: n d and the
encoder's; stored: n d. The paper puts its prompts anywhere in a template; PEFT puts them in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.methods._prompts import InputPromptMethod, rows, tokens_knob
from peft_lab.methods.base import Formula, Paper, Part, TaskType, Term
from peft_lab.methods.knobs import Knob, Values
from peft_lab.shapes import ModelKind, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

KNOBS = (
    tokens_knob("How many virtual tokens stand before the text.", "8 to 50", "few, placed by hand in a template"),
    Knob(
        "encoder_reparameterization_type", "Encoder", "choice", "MLP",
        "What turns the trained table into virtual tokens: three linear layers, or a bidirectional LSTM and two "
        "linear layers.",
        usual="MLP", paper="BiLSTM and a two-layer MLP", choices=("MLP", "LSTM"),
    ),
    Knob(
        "encoder_hidden_size", "Encoder width", "int", 0,
        "Width of the encoder's hidden layers. PEFT's default is the model's hidden size, which can exceed "
        "everything else by far.",
        usual="128 to the hidden size", min=1, max=16384,
        stops=(64, 128, 256, 384, 512, 768, 1024, 2048, 3072, 4096, 8192),
    ),
    Knob(
        "encoder_num_layers", "LSTM layers", "int", 2,
        "Layers of the LSTM. The MLP always has its three linear layers.",
        usual="1 or 2", min=1, max=8, advanced=True,
    ),
    Knob(
        "encoder_dropout", "LSTM dropout", "float", 0.0, "Between the layers of the LSTM, in training only.",
        usual="0", min=0.0, max=0.9, advanced=True,
    ),
)  # fmt: skip


class PTuning(InputPromptMethod):
    slug = "ptuning"
    title = "P-Tuning"
    summary = (
        "Virtual tokens before the text, made by a small trained encoder that is thrown away after training."
    )
    paper = Paper("Liu et al.", 2021, "GPT Understands, Too", "2103.10385", "section 3.2")
    knobs = KNOBS
    head_learning_rate = 2e-2
    learning_rates: ClassVar[Mapping[ModelKind, float]] = {
        "encoder": 3e-3,
        "causal-lm": 2e-3,
        "seq2seq": 2e-3,
    }
    order = 50

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        return super().defaults(shape) | {"encoder_hidden_size": shape.hidden}

    def formula(self, shape: ModelShape, values: Values) -> Formula:
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
        kind = values["encoder_reparameterization_type"]
        layers = 3 if kind == "MLP" else values["encoder_num_layers"]
        return (
            Part("cells", "tokens", "P", {"tokens": values["num_virtual_tokens"], "width": shape.hidden}),
            Part("encoder", "tokens", kind, {"width": values["encoder_hidden_size"], "layers": layers}),
        )

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> PeftConfig:
        from peft import PromptEncoderConfig

        # PEFT warns when an MLP is given these, and ignores them.
        lstm = values["encoder_reparameterization_type"] == "LSTM"
        more = {name: values[name] for name in ("encoder_num_layers", "encoder_dropout") if lstm}
        return PromptEncoderConfig(
            task_type=task_type,
            num_virtual_tokens=values["num_virtual_tokens"],
            encoder_reparameterization_type=values["encoder_reparameterization_type"],
            encoder_hidden_size=values["encoder_hidden_size"],
            **more,
        )


def _linear(path: str, inputs: int, outputs: int) -> Term:
    return Term(path, rf"{inputs} \cdot {outputs} + {outputs}", inputs * outputs + outputs, 1)


def _lstm(layer: int, inputs: int, hidden: int) -> Term:
    """One bidirectional layer: four gates each with input weights, recurrent weights and torch's two biases."""
    each = 2 * 4 * hidden * (inputs + hidden + 2)
    expression = rf"2 \cdot 4 \cdot {hidden} \cdot ({inputs} + {hidden} + 2)"
    return Term(f"prompt_encoder.lstm_head (layer {layer})", expression, each, 1)


METHOD = PTuning()
