"""The simulation's settings: model, device, sizes, precision, optimizer; as controls, in the URL, and from another
tool's config file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal

import streamlit as st

from peft_lab.advise.foreign.parsing import MOST_NOTEBOOK
from peft_lab.advise.foreign.reading import Reading, read
from peft_lab.core.errors import BadInput
from peft_lab.core.form import choice
from peft_lab.core.inspector import get_pool
from peft_lab.engine import published, simulate
from peft_lab.engine.devices import Device, device_of, device_titles
from peft_lab.engine.loading import Loading, loading
from peft_lab.engine.request import COMPUTING, PRECISIONS, WIDTHS, Simulation, StepForm, StepRequest
from peft_lab.engine.simulate import memory_of
from peft_lab.engine.step import TITLES
from peft_lab.methods import all_methods, get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.models import images
from peft_lab.models.catalogue import get_model, model_title
from peft_lab.models.shapes import ModelEntry, ModelShape
from peft_lab.ui.compare.setup import method_titles
from peft_lab.ui.components import figures
from peft_lab.ui.components.form import Controls
from peft_lab.ui.components.frame import error_line
from peft_lab.ui.components.model_choice import entry_of, model_control
from peft_lab.ui.foreign import plain

# ----------------------------------------
# Which matrices the low-rank methods adapt: the same ones, so that their bars differ by method alone, or their own.


OWN = "own"
TARGETS = {
    "query-value": "Same for all: query and value",
    "all-linear": "Same for all: every linear map",
    OWN: "Each method's own default",
}


def low_rank(method: MethodSpec) -> bool:
    """Return whether a method adds a low-rank product to matrices that can be chosen."""
    return {"r", "target_modules"} <= {knob.name for knob in method.knobs}


def named(slug: str, shape: ModelShape, targets: str) -> tuple[str, ...]:
    """Return the names of adapted modules. Query and value are LoRA's default targets: one map if fused."""
    method = get_method(slug if targets == OWN else "lora")
    return ("all-linear",) if targets == "all-linear" else tuple(method.defaults(shape)["target_modules"])


def listed(names: Sequence[str]) -> str:
    """Return names as a part of a sentence."""
    return "every linear map" if tuple(names) == ("all-linear",) else ", ".join(names)


SCOPE = "memory"
TABS = {
    "timeline": "Step by step",
    "fits": "What fits",
    "curves": "Cost curves",
    "why": "Why",
    "published": "Published peaks",
}
_TARGETS_HELP = (
    "With the same targets, the bars of LoRA and QLoRA differ only by the method. By default, LoRA adapts query and "
    "value. QLoRA adapts every linear map, and a step then stores far more activations."
)


@dataclass(frozen=True)
class MemoryForm(StepForm):
    """The step that the page simulates with every method, and the page's own settings."""

    targets: str = choice(
        "query-value", "LoRA and QLoRA adapt", _TARGETS_HELP, TARGETS, noun="choice of targets"
    )
    method: str = choice("lora", "Method", "", method_titles)
    tab: str = choice("timeline", "Tab", "", TABS)
    row: str = choice(
        "lora--llama-3.2-3B-rank32", "A run to count and simulate now", "",
        lambda: {name: row.title for name, row in published.rows().items()}, noun="published run",
    )  # fmt: skip

    @property
    def entry(self) -> ModelEntry:
        """Return the model."""
        return entry_of(self.model)

    @property
    def card(self) -> Device:
        """Return the device that holds the step."""
        return device_of(self.device)

    @property
    def width(self) -> int:
        """Return the bytes of a number of the base that is not packed."""
        return WIDTHS.get(COMPUTING[self.precision].stored or self.dtype, WIDTHS["bfloat16"])

    def rules(self) -> Iterator[BadInput]:
        """Yield the form's errors, and one for more tokens than the model has positions."""
        yield from super().rules()
        limit = self.entry.shape.max_positions
        if limit and self.seq > limit:
            error = BadInput(f"{self.entry.title} has only {limit:,} positions.", "seq")
            error.nearest = limit
            yield error

    def request(self, slug: str, model: str | None = None) -> StepRequest:
        """Return one method's step on this or another model, with other settings at their defaults."""
        values, dtype = self.base_for(slug, model)
        step = StepRequest(model or self.model, slug, values, self.setting, dtype, self.checkpointing)
        # A capability is asked for in any case; a processor's kernels ignore it.
        return step.on(self.card) if self.card.kind == "cuda" else step.at(device=self.card.kind)

    def simulate(
        self,
        urgency: int,
        slug: str,
        sizes: Mapping[str, int] | None = None,
        model: str | None = None,
        checkpointing: bool | None = None,
    ) -> Future[Simulation]:
        """Simulate :meth:`request` with these changes. Results are cached for all visitors."""
        kept = self.checkpointing if checkpointing is None else checkpointing
        step = replace(self.request(slug, model).at(**(sizes or {})), checkpointing=kept)
        return get_pool().submit(urgency, memory_of, step)

    def base_for(self, slug: str, model: str | None = None) -> tuple[dict[str, Any], str]:
        """Return a method's knobs and precision for these targets and this base; QLoRA packs it."""
        values = {}
        if self.targets != OWN and low_rank(get_method(slug)):
            shape = get_model(model).shape if model else self.entry.shape
            values["target_modules"] = named(slug, shape, self.targets)
        if slug != "qlora" or self.dtype in PRECISIONS:
            return values, self.dtype
        own = {"load_in_8bit": True} if self.dtype == "int8" else {"bnb_4bit_quant_type": self.dtype}
        return {**values, **own}, PRECISIONS[0]

    def loading(self, slug: str) -> Loading:
        """Return what loading the base for a method takes."""
        values, dtype = self.base_for(slug)
        spec = get_method(slug)
        own = spec.quantization(spec.require(self.entry.shape, values))
        return loading(self.entry.shape, dtype, self.precision, own)

    def search(self, urgency: int, what: Literal["batch", "seq"], slug: str) -> Future[int]:
        """Search the largest ``batch`` or ``seq`` that fits on the device, 0 if not even 1 does."""
        limit, method = self.entry.shape.max_positions, all_methods()[slug]
        virtual = method.virtual_tokens(method.complete(self.entry.shape, {}))
        most = limit - virtual if limit and what == "seq" else None
        return get_pool().submit(
            urgency, simulate.largest_that_fits, what, self.card, self.request(slug), most
        )

    def key(self) -> tuple[Any, ...]:
        """Return a key that tells these settings' results from others'."""
        return tuple(value for name, value in self.by_name().items() if name not in ("method", "tab", "row"))


#: The page's defaults.
USUAL = MemoryForm()


#: Controls that are folded away: most people leave them as they are.
_FOLDED = ("precision", "adapter_dtype", *TITLES["switches"])


def form_controls() -> Controls[MemoryForm]:
    """Return the page's controls, not yet drawn."""
    return Controls(MemoryForm, SCOPE)


def controls() -> MemoryForm:
    """Draw the controls, each with its errors below it, and return the form."""
    form = form_controls()
    top, bottom = st.columns([3, 3, 2, 2]), st.columns([3, 2, 3, 2], vertical_alignment="bottom")
    with top[0]:
        entry = model_control(entry_of(form.value("model")), form.key("model"))
        if entry.name != form.value("model"):
            form.remember("model", entry.name)
        form.below("model")
    form.draw("device", top[1], options=device_titles())
    form.draw("batch", top[2])
    if entry.kind == "vision":
        positions = entry.shape.max_positions or 0
        top[3].number_input(
            "Positions per image", value=positions, disabled=True, key=form.key("seq", entry.name),
            help=f"An image of {images.words(entry.config)} is cut into patches. Each patch is one position, and one "
            "more position is for the class token.",
        )  # fmt: skip
    else:
        form.draw("seq", top[3])
    form.draw("dtype", bottom[0])
    form.draw("optimizer", bottom[1])
    form.draw("targets", bottom[2])
    form.draw("checkpointing", bottom[3])
    changed = any(form.value(name) != form.default(name) for name in _FOLDED)
    with st.expander("Precision, kernels, loss and updates", expanded=changed):
        cells = [*st.columns(4, vertical_alignment="bottom"), *st.columns(4)]
        for name, cell in zip(_FOLDED, cells, strict=True):
            form.draw(name, cell)
    asked = form.form()
    # What a processor keeps is in main memory in any case.
    asked = replace(asked, offload=asked.card.kind == "cuda" and form.draw("offload", bottom[3]))
    if entry.kind == "vision":
        asked = replace(asked, seq=positions)
    form.show(asked.problems())
    return asked


def set_page(**choices: Any) -> None:
    """Set controls from code and redraw the page."""
    form_controls().put(**choices)
    st.rerun()


#: Priorities of simulations. The bars come first, because every change needs them.
BARS, TAB, SEARCH = 0, 1, 2


_KEPT = "memory-brought"  # the file that the controls were set from
_TOOLS = "Axolotl, LLaMA-Factory, TRL, Unsloth, torchtune, DeepSpeed or accelerate"


def bring() -> None:
    """Draw the upload of a config file, and what was read of the last one."""
    with st.expander("Bring your config file"):
        file = st.file_uploader(_TOOLS, ["yaml", "yml", "json", "sh", "py", "ipynb"], key="memory-file")
        if file is None:
            return
        try:
            reading = read(file.getvalue()[: MOST_NOTEBOOK + 1].decode("utf-8", "replace"), file.name)
        except BadInput as error:
            error_line(error)
            return
        if st.session_state.get(_KEPT) != file.file_id:
            st.session_state[_KEPT] = file.file_id
            set_page(**fields_of(reading))
        method = f"{get_method(reading.method).title} of " if reading.method else ""
        model = model_title(reading.settings.get("model", "a model that the file does not name"))
        st.markdown(
            f"Read as {reading.tool}: {method}**{plain(model)}**. {len(reading.understood)} keys are understood, "
            f"{len(reading.ignored)} are ignored. `peft-lab memory FILE` also uses the file's rank and sharding."
        )
        with st.expander("Details"):
            figures.table(("Ignored", "Why", "What this may change"), list(reading.ignored))


def fields_of(reading: Reading) -> dict[str, Any]:
    """Return the page's fields that a file decides."""
    said = reading.settings
    found = {
        name: value for name, value in ({**said, **reading.step({})}).items() if name in MemoryForm.fields()
    }
    if not reading.method:
        return found
    names = tuple(said.get("target_modules", ()))
    known = {("all-linear",): "all-linear", ("q_proj", "v_proj"): "query-value"}
    packed = {4: said.get("bnb_4bit_quant_type", "nf4"), 8: "int8"}.get(said.get("bits", 16))
    found |= {"method": reading.method, "targets": known.get(names, OWN)}
    return found | ({"dtype": packed} if packed else {})
