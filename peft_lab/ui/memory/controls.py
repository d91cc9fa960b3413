"""What is simulated: model, device, sizes, precision, optimizer; in the controls and in the page's address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal

import streamlit as st

from peft_lab.core.errors import BadInput, UnknownName
from peft_lab.engine import fits, published
from peft_lab.engine.devices import Device, devices
from peft_lab.engine.request import PRECISIONS, Setting, Simulation, StepRequest
from peft_lab.engine.simulate import memory_of
from peft_lab.engine.step import OPTIMIZER_TITLES
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.models import images
from peft_lab.models.catalogue import ModelEntry, get_model
from peft_lab.models.shapes import ModelShape
from peft_lab.ui import state
from peft_lab.ui.components.model_choice import entry_of, from_address, model_control
from peft_lab.ui.foreign import plain
from peft_lab.workers.pool import get_pool

# ----------------------------------------
# Which matrices the low-rank methods adapt: the same ones, so that their bars differ by method alone, or their own.


OWN = "own"
TARGETS = {
    "query-value": "The same: query and value",
    "all-linear": "The same: every linear map",
    OWN: "Each method's own default",
}


def low_rank(method: MethodSpec) -> bool:
    """Whether a method puts a product of a rank beside matrices that can be chosen."""
    return {"r", "target_modules"} <= {knob.name for knob in method.knobs}


def low_rank_methods() -> tuple[str, ...]:
    return tuple(slug for slug, method in all_methods().items() if low_rank(method))


def values_for(slug: str, shape: ModelShape, targets: str) -> dict[str, Any]:
    """The knob that a method needs to adapt what ``targets`` says; none where it has no such choice."""
    if targets == OWN or not low_rank(get_method(slug)):
        return {}
    return {"target_modules": named(slug, shape, targets)}


def named(slug: str, shape: ModelShape, targets: str) -> tuple[str, ...]:
    """The names of what a method adapts. Query and value are what LoRA has by default: one map where they are fused."""
    method = get_method(slug if targets == OWN else "lora")
    return ("all-linear",) if targets == "all-linear" else tuple(method.defaults(shape)["target_modules"])


def listed(names: Sequence[str]) -> str:
    """As a sentence has them."""
    return "every linear map" if tuple(names) == ("all-linear",) else ", ".join(names)


SCOPE = "memory"
DEFAULTS: dict[str, Any] = {
    "model": "llama-3.2-3b",
    "device": "rtx-4090",
    "batch": 4,
    "seq": 768,
    "dtype": "bfloat16",
    "optimizer": "adamw",
    "checkpointing": False,
    "offload": False,
    "targets": "query-value",
    "method": "lora",
    "tab": "timeline",
    "row": "lora--llama-3.2-3B-rank32",
}
TABS = {
    "timeline": "Step by step",
    "fits": "What fits",
    "curves": "Cost curves",
    "why": "Why",
    "published": "Published peaks",
}
DTYPES = {name: name for name in PRECISIONS} | {
    "int8": "8 bits (int8)",
    "nf4": "4 bits (NF4)",
    "fp4": "4 bits (FP4)",
}
SIZES = {"batch": "Batch size", "seq": "Tokens per row"}
_WHAT = {"row": "published run", "dtype": "precision", "targets": "choice of targets"}
_TARGETS_HELP = (
    "With the same targets, the bars of LoRA and QLoRA differ only by the method. By default LoRA adapts query "
    "and value, and QLoRA every linear map, which keeps far more activations."
)
_CHECKPOINTING_HELP = (
    "Gradient checkpointing keeps only every layer's input and recomputes the rest in the backward pass: less memory, "
    "more time."
)
_OFFLOAD_HELP = (
    "Activation offloading copies what the backward pass needs to main memory in the forward pass, and back when it is "
    "needed. With checkpointing that is only every layer's input."
)


@dataclass(frozen=True)
class Chosen:
    """What is set. ``problems`` says what cannot work, by control; with one of them nothing is simulated."""

    entry: ModelEntry
    device: Device
    batch: int
    seq: int
    dtype: str
    optimizer: str
    checkpointing: bool
    problems: Mapping[str, str]
    targets: str = DEFAULTS["targets"]
    offload: bool = False

    def request(self, slug: str, model: str | None = None) -> StepRequest:
        """One method's step as set here, of this or another model, the rest at its defaults."""
        values, dtype = self.base_for(slug, model)
        setting = Setting(self.batch, self.seq, optimizer=self.optimizer, offload=self.offload)
        asked = StepRequest(model or self.entry.name, slug, values, setting, dtype, self.checkpointing)
        # A capability is asked for in any case; a processor's kernels ignore it.
        return asked.on(self.device) if self.device.kind == "cuda" else asked.at(device=self.device.kind)

    def simulate(
        self,
        urgency: int,
        slug: str,
        sizes: Mapping[str, int] | None = None,
        model: str | None = None,
        checkpointing: bool | None = None,
    ) -> Future[Simulation]:
        """:meth:`request` but for what is given. Answers are kept for all visitors."""
        kept = self.checkpointing if checkpointing is None else checkpointing
        asked = replace(self.request(slug, model).at(**(sizes or {})), checkpointing=kept)
        return get_pool().submit(urgency, memory_of, asked)

    def base_for(self, slug: str, model: str | None = None) -> tuple[dict[str, Any], str]:
        """The knobs and the precision by which a method gets targets and base as set here: QLoRA packs it itself."""
        values = values_for(slug, get_model(model).shape if model else self.entry.shape, self.targets)
        if slug != "qlora" or self.dtype in PRECISIONS:
            return values, self.dtype
        own = {"load_in_8bit": True} if self.dtype == "int8" else {"bnb_4bit_quant_type": self.dtype}
        return {**values, **own}, PRECISIONS[0]

    def search(self, urgency: int, what: Literal["batch", "seq"], slug: str) -> Future[int]:
        """The largest ``batch`` or ``seq`` that fits on the device, 0 when not even 1 does."""
        limit, method = self.entry.shape.max_positions, all_methods()[slug]
        virtual = method.virtual_tokens(method.complete(self.entry.shape, {}))
        most = limit - virtual if limit and what == "seq" else None
        return get_pool().submit(urgency, fits.largest_that_fits, what, self.device, self.request(slug), most)

    def key(self) -> tuple[Any, ...]:
        """By which what was found for these settings is told from what was found for others."""
        return (
            self.entry.name, self.device.name, self.batch, self.seq, self.dtype, self.optimizer,
            self.checkpointing, self.targets, self.offload,
        )  # fmt: skip


def readers() -> dict[str, Any]:
    """What takes each setting out of the address."""
    return {name: _reader(name) for name in DEFAULTS}


def _reader(name: str) -> Any:
    def read(text: str) -> None:
        default = DEFAULTS[name]
        value: Any = text
        if name == "model":
            value = from_address(text)
        elif isinstance(default, bool):
            if text not in ("true", "false"):
                raise BadInput(f"'{text[:20]}' is neither true nor false.", name)
            value = text == "true"
        elif isinstance(default, int):
            try:
                value = int(text[:20])
            except ValueError:
                raise BadInput(f"'{text[:20]}' is not a whole number.", name) from None
            _check_size(name, value)
        elif name in titles() and text not in titles()[name]:
            raise UnknownName(_WHAT.get(name, name), text[:60], titles()[name], name)
        state.remember(SCOPE, name, value)

    return read


def titles() -> dict[str, dict[str, str]]:
    """What can be chosen from a list, and how each is written."""
    return {
        "device": {name: device.title for name, device in devices().items()},
        "dtype": DTYPES,
        "optimizer": OPTIMIZER_TITLES,
        "targets": TARGETS,
        "method": {slug: method.title for slug, method in all_methods().items()},
        "tab": TABS,
        "row": {name: row.title for name, row in published.rows().items()},
    }


def _check_size(name: str, value: int) -> None:
    if not 1 <= value <= fits.LARGEST[name]:
        raise BadInput(f"{SIZES[name]} must be from 1 to {fits.LARGEST[name]:,}; {value:,} is not.", name)


def controls() -> Chosen:
    """Draw the controls, each with what is wrong under it."""
    top, bottom = st.columns([3, 3, 2, 2]), st.columns([3, 2, 3, 2], vertical_alignment="bottom")
    with top[0]:
        current = entry_of(state.remembered(SCOPE, "model", DEFAULTS["model"]))
        entry = model_control(current, state.widget_key(SCOPE, "model"))
        state.remember(SCOPE, "model", entry.name)
        address_problem("model")
    device = devices()[pick(top[1], "device", "Device")]
    problems: dict[str, str] = {}
    batch = _size(top[2], "batch", None, problems)
    seq = _size(top[3], "seq", entry, problems) if entry.kind != "vision" else images_seq(top[3], entry)
    dtype = pick(bottom[0], "dtype", "The base is stored in")
    optimizer = pick(bottom[1], "optimizer", "Optimizer")
    targets = pick(bottom[2], "targets", "LoRA and QLoRA adapt", _TARGETS_HELP)
    checkpointing = _switch(bottom[3], "checkpointing", "Checkpointing", _CHECKPOINTING_HELP)
    # What a processor keeps is in main memory in any case.
    apart = device.kind == "cuda"
    offload = _switch(bottom[3], "offload", "Offloading", _OFFLOAD_HELP) if apart else False
    return Chosen(entry, device, batch, seq, dtype, optimizer, checkpointing, problems, targets, offload)


def _switch(cell: Any, name: str, label: str, explanation: str) -> bool:
    with cell:
        value = st.toggle(
            label,
            value=bool(state.remembered(SCOPE, name, DEFAULTS[name])),
            key=state.widget_key(SCOPE, name),
            disabled=state.is_fixed(name),
            help=explanation,
        )
        address_problem(name)
    state.remember(SCOPE, name, value)
    return value


def pick(cell: Any, name: str, label: str, explanation: str | None = None) -> str:
    known = titles()[name]
    index = state.one_of(SCOPE, name, list(known), DEFAULTS[name])
    with cell:
        key = state.widget_key(SCOPE, name)
        rest: dict[str, Any] = {"key": key, "disabled": state.is_fixed(name), "help": explanation}
        value = str(st.selectbox(label, list(known), index, format_func=known.__getitem__, **rest))
        address_problem(name)
    state.remember(SCOPE, name, value)
    return value


def _size(cell: Any, name: str, entry: ModelEntry | None, problems: dict[str, str]) -> int:
    """A size without bounds of the control's own, which would refuse a number without saying why."""
    start = int(state.remembered(SCOPE, name, DEFAULTS[name]))
    with cell:
        key = state.widget_key(SCOPE, name)
        shut = state.is_fixed(name)
        value = int(st.number_input(SIZES[name], value=start, step=1, key=key, disabled=shut))
        address_problem(name)
        state.remember(SCOPE, name, value)
        try:
            _check_size(name, value)
        except BadInput as error:
            problems[name] = str(error)
        limit = entry.shape.max_positions if entry else None
        if entry and limit and name not in problems and value > limit:
            problems[name] = f"{entry.title} has {limit:,} positions."
        if name in problems:
            st.markdown(f":red[:material/error: {plain(problems[name])}]")
            if limit and st.button(f"Use {limit:,}", key=f"{key}-limit"):
                set_page(**{name: limit})
    return value


def images_seq(cell: Any, entry: ModelEntry) -> int:
    """What every image is to a model that reads them, which nothing changes."""
    positions = entry.shape.max_positions or 0
    cell.number_input(
        "Positions per image", value=positions, disabled=True, key=state.widget_key(SCOPE, "seq", entry.name),
        help=f"An image of {images.words(entry.config)} is cut into patches: a position each, and one for the class.",
    )  # fmt: skip
    return positions


def set_page(**choices: Any) -> None:
    """Set controls from code and draw the page again."""
    for name, value in choices.items():
        state.remember(SCOPE, name, value)
    state.renew(SCOPE)
    st.rerun()


def address(chosen: Chosen) -> dict[str, tuple[Any, Any]]:
    """What the address has to say: ``name: (value, default)``. A size that cannot be is left out."""
    values = {
        "model": chosen.entry.name,
        "device": chosen.device.name,
        "batch": chosen.batch,
        "seq": chosen.seq,
        "dtype": chosen.dtype,
        "optimizer": chosen.optimizer,
        "checkpointing": chosen.checkpointing,
        "targets": chosen.targets,
        "offload": chosen.offload,
        "method": state.remembered(SCOPE, "method", DEFAULTS["method"]),
        "tab": state.remembered(SCOPE, "tab", DEFAULTS["tab"]),
        "row": state.remembered(SCOPE, "row", DEFAULTS["row"]),
    }
    left_out = {*chosen.problems, *(("seq",) if chosen.entry.kind == "vision" else ())}
    return {name: (value, DEFAULTS[name]) for name, value in values.items() if name not in left_out}


def address_problem(name: str) -> None:
    """Say under a control what the address said of it and could not be used."""
    problem = state.address_problem(SCOPE, name)
    if problem:
        st.markdown(f":red[:material/link_off: From the address: {plain(problem)} The default is used.]")


#: Urgency of simulations: what is answered first. Bars are what every change is for.
BARS, TAB, SEARCH = 0, 1, 2
