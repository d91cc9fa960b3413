r"""Adapters: small bottleneck networks inside every layer (Houlsby et al. 2019, arXiv 1902.00751, section 2.1).

    h <- h + W_up f(W_down h + b_down) + b_up        W_down: m x d    W_up: d x m

        attention -> o --[ adapter ]--( + x )-- FFN --[ adapter ]--( + )     houlsby: two per layer
        attention -> o ---------------( + x )-- FFN --[ adapter ]--( + )     pfeiffer: one per layer

                              h                     +-[ adapter * s ]-+
                             / \                    |                 |
                   [ d -> m ]   |          x -------+----- FFN ----( + )     parallel: beside the FFN
                       f        |
                   [ m -> d ]   |          near identity: both matrices start tiny, so the model starts as it was
                             \ /
                            ( + )

A nonlinear function between two matrices cannot be folded into the base's weights: an adapter stays, and costs time.
Parameters each: 2 m d + d + m. Where a feed-forward part is a mixture of experts, its adapter stands after (or beside)
the mixture as a whole, so that every token passes it whatever the router chose. On encoder-decoder models the
cross-attention's output map gets one too (houlsby). The paper trains new layer norms as well; they are left alone here,
as the adapters library does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from peft_lab.core.field import Values
from peft_lab.core.later import torch
from peft_lab.methods.base import Formula, MethodSpec, Part, Problem, Term
from peft_lab.methods.shared import bottleneck, peft_backed
from peft_lab.models import shapes
from peft_lab.models.heads import CLASSIFYING, TaskType
from peft_lab.models.shapes import ModelShape, ModuleGroup

PEFT_TYPE = "BOTTLENECK"


class Adapters(MethodSpec):
    """Bottleneck adapters, of our own: Houlsby, Pfeiffer and parallel placement."""

    slug = "adapters"

    def check(self, shape: ModelShape, values: Values) -> Iterable[Problem]:
        if not self.hosts(shape, values):
            yield bottleneck.no_places(shape, values["placement"])
            return
        yield from bottleneck.place_problems(shape, values["placement"])
        if values["bottleneck"] >= shape.hidden:
            width = values["bottleneck"]
            message = (
                f"At width {width} the bottleneck is no narrower than the model itself ({shape.hidden})."
            )
            yield Problem("bottleneck", message, "warning")

    def hosts(self, shape: ModelShape, values: Values) -> list[tuple[ModuleGroup, ModuleGroup | None]]:
        """Return the maps whose output is adapted, each with the module whose input is read too, or instead."""
        return bottleneck.host_places(shape, values["placement"])

    def formula(self, shape: ModelShape, values: Values) -> Formula:
        m = values["bottleneck"]
        terms = []
        for host, entrance in self.hosts(shape, values):
            inputs, outputs = bottleneck.place_inputs(host, entrance), host.out_features
            expression = (
                rf"2 \cdot {m} \cdot {inputs} + {inputs} + {m}"
                if inputs == outputs
                else rf"{m} \cdot ({inputs} + {outputs}) + {outputs} + {m}"
            )
            terms.append(Term(host.path, expression, m * (inputs + outputs) + outputs + m, host.count))
        total = sum(term.total for term in terms)
        return Formula(r"\sum_{\text{places}} (2\,m\,d + d + m)", tuple(terms), added=total, stored=total)

    def parts(self, shape: ModelShape, values: Values) -> tuple[Part, ...]:
        parallel = values["placement"] in bottleneck.SCALED
        size = {"width": values["bottleneck"], "hidden": shape.hidden, "parallel": int(parallel)}
        if values["placement"] in bottleneck.ON_STREAM:
            size["stream"] = 1
        return tuple(
            Part("bottleneck", "ffn" if parallel else host.path, values["nonlinearity"], size)
            for host, _ in self.hosts(shape, values)
        )

    def apply(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType
    ) -> torch.nn.Module:
        return self.add(model, shape, values, task_type, "default")

    def add(
        self, model: torch.nn.Module, shape: ModelShape, values: Values, task_type: TaskType, name: str
    ) -> torch.nn.Module:
        """Add one more adapter to a model and train only that one. :meth:`set_active` switches between them. Raises
        BadInput: the name is in use."""
        prefix = _prefix(model, shape)
        hosts = [
            tuple(None if path is None else prefix + path for path in place)
            for place in bottleneck.place_paths(shape, values["placement"])
        ]
        settings = {knob.name: values[knob.name] for knob in self.knobs}
        _attach(model, name, {**settings, "task_type": task_type, "hosts": hosts})
        own = {id(parameter) for parameter in bottleneck.parameters_of(model, name).values()}
        peft_backed.train_only(model, [n for n, p in model.named_parameters() if id(p) in own], task_type)
        return model

    def names(self, model: torch.nn.Module) -> tuple[str, ...]:
        """Return the names of the adapters on a model."""
        return bottleneck.names(model)

    def set_active(self, model: torch.nn.Module, active: str | Sequence[str | None] | None) -> None:
        """Use one adapter for all rows, one per row of the batch, or none; no weights are moved.

        A loaded classifier answers through the head saved with the adapter.

        Raises:
            BadInput: an adapter of that name is not on the model.
        """
        bottleneck.set_active(model, active)
        peft_backed.set_active_head(model, active if isinstance(active, str | None) else tuple(active))

    def remove(self, model: torch.nn.Module) -> None:
        """Remove all adapters, which restores the base."""
        bottleneck.remove(model)
        peft_backed.remove_head(model)
        _notes(model).clear()

    def state(self, model: torch.nn.Module, name: str = "default") -> dict[str, torch.Tensor]:
        """Return the tensors of one adapter, and of the head if it was trained with one. Each has the shape it is saved
        in."""
        found = {key: parameter.detach() for key, parameter in bottleneck.parameters_of(model, name).items()}
        if _notes(model)[name]["task_type"] in CLASSIFYING:
            own = {key: p.detach() for key, p in model.named_parameters() if shapes.in_head(key)}
            kept = peft_backed.head_state(model, name)
            found |= kept or {
                key: tensor for key, tensor in own.items() if f".{peft_backed.HEAD_CHILD}." not in key
            }
        return found

    def save(self, model: torch.nn.Module, directory: Path, name: str = "default") -> None:
        peft_backed.write_own_format(
            directory, {"peft_type": PEFT_TYPE, **_notes(model)[name]}, self.state(model, name)
        )

    def load(self, model: torch.nn.Module, directory: Path, name: str = "default") -> torch.nn.Module:
        """Add a saved adapter with its head to a base, beside any adapters already there, and make it active."""
        config = peft_backed.read_config(directory, PEFT_TYPE)
        config.pop("peft_type")
        _attach(model, name, config)
        state = peft_backed.read_state(directory)
        head = {key: state.pop(key) for key in list(state) if shapes.in_head(key)}
        own = bottleneck.parameters_of(model, name)
        peft_backed.copy_into(own, state)
        if head:
            peft_backed.add_head(model, name, head)
        self.set_active(model, name)
        model.requires_grad_(False)
        model.eval()
        return model


def _attach(model: Any, name: str, config: dict[str, Any]) -> None:
    bottleneck.add(
        model,
        name,
        [tuple(place) for place in config["hosts"]],
        width=config["bottleneck"],
        nonlinearity=config["nonlinearity"],
        std=config["init_std"],
        scale=config["scale"] if config["placement"] in bottleneck.SCALED else 1.0,
        summed=config["placement"] in bottleneck.SUMMED,
    )
    _notes(model)[name] = config


def _notes(model: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of every adapter on a model, stored on the model itself."""
    if not hasattr(model, "_peft_lab_adapters"):
        model._peft_lab_adapters = {}
    notes: dict[str, dict[str, Any]] = model._peft_lab_adapters
    return notes


def _prefix(model: torch.nn.Module, shape: ModelShape) -> str:
    """Return the prefix of the bare model's paths: a classifier holds it under one more name, such as ``bert.``."""
    known = next(path for group in shape.groups for path in group.paths)
    found = next(path for path, _ in model.named_modules() if path == known or path.endswith("." + known))
    return found.removesuffix(known)


METHOD = Adapters()
