r"""LoRA: a trained low-rank correction beside a frozen matrix (Hu et al. 2021, arXiv 2106.09685, section 4.1, eq. 3).

    h = W0 x + (alpha / r) B A x        A: r x d_in, random    B: d_out x r, zero

              x ----------------+
              |                 |
        [ W0 d_out x d_in ]   [ A r x d_in ]
              | frozen          |  trainable
              |               [ B d_out x r ]
              |                 | * alpha / r
              +------( + )------+
                       |
                       h

Because B starts at zero the model's output is unchanged before the first step. Parameters per target: r (d_in + d_out).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from peft_lab.methods._peft import PeftMethod, on_meta
from peft_lab.methods._targets import default_targets, for_peft, matched, stored_transposed, target_problems
from peft_lab.methods.base import Formula, Paper, Part, Problem, TaskType, Term
from peft_lab.methods.knobs import Knob, Values
from peft_lab.shapes import ModelKind, ModelShape

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig

KNOBS = (
    Knob(
        "r", "Rank r", "int", 8, "Width of the bottleneck: capacity and parameters grow with it.",
        usual="4 to 64", paper="1 to 64, 4 or 8 in most tables", min=1, max=1024,
        stops=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    ),
    Knob(
        "lora_alpha", "Scaling α", "int", 16, "ΔW is multiplied by α/r; doubling α doubles ΔW.",
        usual="r to 2r", paper="fixed to the first r tried", min=1, max=1024, stops=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    ),
    Knob(
        "target_modules", "Target modules", "modules", (),
        "Which matrices get a correction. The names are path endings, as in PEFT.",
        usual="q and v, or all linear maps", paper="W_q and W_v in most experiments",
    ),
    Knob(
        "lora_dropout", "Dropout", "float", 0.0, "Applied to the input of A, in training only.",
        usual="0 to 0.1", paper="0 to 0.1", min=0.0, max=0.9,
    ),
    Knob(
        "use_rslora", "rsLoRA", "bool", False,
        "Scale by α/√r instead of α/r, so that large ranks keep learning (Kalajdzievski 2023).",
    ),
    Knob(
        "use_dora", "DoRA", "bool", False,
        "Also train the length of every output row of W (Liu et al. 2024): one more parameter per output.",
    ),
    Knob(
        "init_lora_weights", "Start", "choice", "default",
        "How A and B start. default: A Kaiming-uniform, B zero. gaussian: A normal, B zero. "
        "pissa: both from W's top singular vectors, which changes the base.",
        choices=("default", "gaussian", "pissa"), advanced=True,
    ),
    Knob(
        "bias", "Biases", "choice", "none", "Also train the biases of the adapted layers, or all of them.",
        choices=("none", "lora_only", "all"), paper="none", advanced=True,
    ),
)  # fmt: skip


class Lora(PeftMethod):
    slug = "lora"
    title = "LoRA"
    summary = "Freeze the weight matrix W. Learn a low-rank correction beside it, and add it to the output."
    paper = Paper(
        "Hu et al.", 2021, "LoRA: Low-Rank Adaptation of Large Language Models", "2106.09685", "section 4.1"
    )
    knobs: ClassVar[tuple[Knob, ...]] = KNOBS
    head_learning_rate = 2e-2
    learning_rates: ClassVar[Mapping[ModelKind, float]] = {
        "encoder": 4e-3,
        "causal-lm": 2e-3,
        "seq2seq": 2e-3,
    }
    mergeable = True
    order = 10

    def defaults(self, shape: ModelShape) -> dict[str, Any]:
        return super().defaults(shape) | {"target_modules": default_targets(shape)}

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        yield from target_problems(shape, values["target_modules"])
        rank = values["r"]
        for group in shape.match(values["target_modules"]).groups:
            if "weight" not in group.parameters or len(group.parameters["weight"]) != 2:
                continue
            dense = group.in_features * group.out_features
            if rank * (group.in_features + group.out_features) >= dense:
                name = group.path.split(".")[-1]
                message = f"At rank {rank}, A and B hold no fewer parameters than {name} itself ({dense:,})."
                yield Problem("r", message, "warning")
                break

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        rank, dora = values["r"], values["use_dora"]
        groups = matched(shape, values["target_modules"])
        terms = [
            Term(
                group.path,
                rf"{rank} \cdot ({group.in_features} + {group.out_features})"
                + (f" + {group.out_features}" if dora else ""),
                rank * (group.in_features + group.out_features) + (group.out_features if dora else 0),
                group.count,
            )
            for group in groups
        ]
        added = sum(term.total for term in terms)
        for group, name in shape.biases:
            if values["bias"] == "all" or (values["bias"] == "lora_only" and group in groups):
                size = group.parameters[name][0]
                terms.append(Term(f"{group.path}.{name}", str(size), size, group.count))
        symbolic = r"\sum_{\text{targets}} r\,(d_{in} + d_{out})" + (" + d_{out}" if dora else "")
        if values["bias"] != "none":
            symbolic += r" \;+\; \sum \text{biases}"
        formula = Formula(symbolic, tuple(terms), added, 0)
        return Formula(symbolic, tuple(terms), added, formula.trainable)

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        groups = shape.match(values["target_modules"]).groups
        size = {"rank": values["r"], "magnitude": int(values["use_dora"])}
        return tuple(Part("low_rank", group.path, "A B", size) for group in groups)

    def scale(self, values: Values) -> float:
        """What BA is multiplied by: alpha/r, or alpha/sqrt(r) with rsLoRA."""
        return float(values["lora_alpha"] / (values["r"] ** 0.5 if values["use_rslora"] else values["r"]))

    def config(self, shape: ModelShape, values: Values, task_type: TaskType) -> LoraConfig:
        from peft import LoraConfig

        start = values["init_lora_weights"]
        return LoraConfig(
            task_type=task_type,
            r=values["r"],
            lora_alpha=values["lora_alpha"],
            lora_dropout=values["lora_dropout"],
            target_modules=for_peft(values["target_modules"]),
            use_rslora=values["use_rslora"],
            use_dora=values["use_dora"],
            init_lora_weights=True if start == "default" else start,
            bias=values["bias"],
            fan_in_fan_out=stored_transposed(shape.match(values["target_modules"]).groups),
        )

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        # PiSSA decomposes W, which has no values on meta; the shapes are those of the default start.
        plain = {**values, "init_lora_weights": "default"} if on_meta(model) else values
        return super().apply(model, shape, plain, task_type)


METHOD = Lora()
