"""The request for plans, as controls and in the page's URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import streamlit as st

from peft_lab.advise.plans.nearest import PlanRequest, Unread, Way, as_typed
from peft_lab.advise.plans.wanted import (
    FURTHER,
    KEYS,
    TYPICAL,
    Lengths,
    Typical,
    Wanted,
    rows_of,
    why_no_lengths,
)
from peft_lab.advise.recipes.rules import OBJECTIVES, OF_ENCODERS
from peft_lab.advise.situation import KEYS as SITUATION_KEYS
from peft_lab.advise.situation import LINKS, RENAMED, Situation
from peft_lab.core import units
from peft_lab.core.errors import BadInput
from peft_lab.core.inspector import get_pool
from peft_lab.engine.devices import device_of, devices
from peft_lab.engine.step import OPTIMIZER_TITLES
from peft_lab.methods import get_method
from peft_lab.ui import state
from peft_lab.ui.components import figures
from peft_lab.ui.components.form import Controls, widget
from peft_lab.ui.components.frame import address_line, error_line
from peft_lab.ui.components.model_choice import choose_model, entry_of, from_address
from peft_lab.ui.components.plan_steps import lengths_file
from peft_lab.ui.foreign import plain

# ----------------------------------------
# Controls of the form with a place below each, where what is wrong with it is said and mended.


SCOPE, UNREAD = "plan", "unread"


def fields() -> Controls[Wanted]:
    """Return the controls that remember the request's values."""
    return Controls(Wanted, SCOPE)


class Places(Controls[Wanted]):
    """The drawn controls. A URL's invalid text is shown in its control until another value is given; what belongs to no
    control is said at the ``foot``."""

    def __init__(self, foot: Any) -> None:
        super().__init__(Wanted, SCOPE)
        self._foot = foot
        self.lost, self.still = unread(), dict[str, Unread]()

    def draw(self, name: str, cell: Any = None, **more: Any) -> Any:
        """Draw a field's control and return its value, or the previous one while the control is empty."""
        if "options" in more:  # any other value is listed as it was given
            current = self.value(name)
            more["options"] = {**more["options"], current: more["options"].get(current, current)}
        lost = self.lost.get(name)
        if lost is None:
            return super().draw(name, cell, **more)
        field = replace(Wanted.field(name), empty=lost.text)
        with st.container(gap=None) if cell is None else cell:
            value = widget(field, None, self.key(name), **more | {"placeholder": lost.text})
            self.below(name)
        if value is None:
            self.still[name] = lost
            return self.value(name)
        self.remember(name, value)
        return value

    def gpu(self, current: str) -> str:
        """Draw the choice of a GPU from the list, or by a typed memory size. Other text is returned as it is,
        for the check to refuse."""
        cards = [name for name, device in devices().items() if device.kind == "cuda"]
        options = list(dict.fromkeys([*cards, current]))
        typed: str = st.selectbox(
            "Graphics card", options, options.index(current), key=self.key("gpu"), format_func=_gpu_title,
            accept_new_options=True, help=Wanted.field("gpu").help,
        )  # fmt: skip
        self.below("gpu")
        try:
            return device_of(typed).name
        except BadInput:
            return typed

    def refuse(self, name: str | None, text: str, ways: Sequence[Way] = ()) -> None:
        """Draw an error at its control, with a button for each way that works."""
        with self.at(name):
            error_line(text)
            offers(ways)

    def offer(self, name: str, text: str, ways: Sequence[Way]) -> None:
        """Draw a suggestion at a control, with a button for each way that works."""
        with self.at(name):
            near(text)
            offers(ways)

    def at(self, name: str | None) -> Any:
        """Return the place below a control; the foot for a message that belongs to no drawn control."""
        found = super().at(name)
        return self._foot if found is st else found


def near(text: str) -> None:
    """Draw a sentence about time, as simulated."""
    st.markdown(f":material/schedule: {plain(text)} {figures.badge('simulated')}")


def take_up(changes: Mapping[str, Any]) -> None:
    """Set some fields, keep the others, and redraw the controls."""
    fields().put(**changes)
    left = {name: one for name, one in unread().items() if name not in changes}
    state.remember(SCOPE, UNREAD, left)


def unread() -> dict[str, Unread]:
    """Return the URL's invalid texts, by field."""
    found: dict[str, Unread] = state.remembered(SCOPE, UNREAD, {})
    return found


def offers(ways: Sequence[Way], first: bool = False) -> None:
    """Draw a button for each way that works; ``first``: as the page's main button."""
    offered = [way for way in ways if way.changes]
    if not offered:
        return
    with st.container(horizontal=True):
        for way in offered:
            # keys differ by what the buttons set, and by whether one removes the deadline or moves it
            key = "-".join(("plan-way", *way.changes, *([] if all(way.changes.values()) else ["none"])))
            kind: Any = "primary" if first else "secondary"
            st.button(f"Use {plain(way.short)}", key=key, type=kind, on_click=take_up, args=(way.changes,))


def _gpu_title(name: str) -> str:
    """Return a GPU's title; an unknown one as it was typed."""
    try:
        title = device_of(name).title
    except BadInput:
        return name
    return title[:1].upper() + title[1:]


USUAL = Wanted()
#: Fields of Choose's situation that a request for plans decides.
_SAME = ("model", "device", "devices", "rows", "row_tokens", "seq", "objective", "link", "deadline")
BUYING = "buying"
#: In the address: the method whose plan is shown in full, and what Choose knew beside, as its own address.
METHOD, CHOSEN = "method", "chosen"
OF_FILE = "of-file"  # what the last file of lengths said
_OPTIMIZERS = {"": "AdamW, 8 bits if needed", **OPTIMIZER_TITLES}
_PURPOSES = {"": "Recommended", **{name: text.capitalize() for name, text in OBJECTIVES.items()}}


def readers() -> dict[str, Callable[[str], None]]:
    """Return readers of the URL's fields."""

    def reader(name: str) -> Callable[[str], None]:
        def read(text: str) -> None:
            lost = {field: one for field, one in unread().items() if field != name}
            try:
                value = from_address(text) if name == "model" else Wanted.field(name).parse(text)
            except BadInput as error:
                value = as_typed(name, text)
                if value is None:
                    lost[name] = Unread(text, error)
            state.remember(SCOPE, UNREAD, lost)
            if name not in lost:
                fields().remember(name, value)

        return read

    def buying(text: str) -> None:
        if text not in ("true", "false"):
            raise BadInput(f"'{text[:20]}' is neither true nor false.", BUYING)
        state.remember(SCOPE, BUYING, text == "true")

    return {old: reader(new) for old, new in RENAMED.items()} | {name: reader(name) for name in KEYS} | {
        BUYING: buying,
        METHOD: lambda text: state.remember(SCOPE, METHOD, get_method(text).slug),
        CHOSEN: lambda text: state.remember(SCOPE, CHOSEN, urlencode(_of_choose(text))),
    }  # fmt: skip


def _of_choose(text: str) -> dict[str, str]:
    """Return the parameters of a Choose URL, without unknown names."""
    return {name: said for name, said in parse_qsl(text) if name in SITUATION_KEYS}


def of_choose(wanted: Wanted) -> Situation:
    """Return the request as Choose's situation, with what Choose knew beyond it."""
    beside, same = _of_choose(state.remembered(SCOPE, CHOSEN, "")), asdict(wanted.situation())
    return replace(Situation.read(beside)[0], **{name: same[name] for name in _SAME})


def start_over() -> None:
    """Set every field to its default, and forget what Choose handed over."""
    fields().put(**USUAL.by_name())
    for name in (METHOD, CHOSEN, BUYING):
        state.remember(SCOPE, name, None)
    state.remember(SCOPE, UNREAD, {})


def address(asked: PlanRequest) -> Mapping[str, tuple[Any, Any]]:
    """Return the URL's parameters: ``name: (value, default)``."""
    usual: dict[str, Any] = asdict(USUAL)
    if asked.wanted.row_tokens != USUAL.row_tokens:
        usual["seq"] = None  # always written: without it, an address means a length that holds such rows
    said = asdict(asked.wanted) | {name: one.text for name, one in asked.unread.items()}
    found = {name: (value, usual[name]) for name, value in said.items()}
    more = {name: (state.remembered(SCOPE, name, ""), "") for name in (METHOD, CHOSEN)}
    return {**found, **more, BUYING: (state.remembered(SCOPE, BUYING, False), False)}


def take(typical: Typical) -> None:
    """Set everything to a typical question, and redraw the controls."""
    fields().put(**replace(typical.wanted, price=fields().value("price")).by_name())
    state.remember(SCOPE, BUYING, typical.buying)
    for name in (METHOD, CHOSEN):  # of another question
        state.remember(SCOPE, name, "")
    state.remember(SCOPE, UNREAD, {})


def questions() -> None:
    """Draw a button for each typical question."""
    st.markdown("**Try an example**")
    with st.container(horizontal=True, key="typical", gap="small"):
        for typical in TYPICAL:
            st.button(typical.title, key=f"typical-{typical.name}", on_click=take, args=(typical,))


def form() -> tuple[PlanRequest, Places]:
    """Draw the controls; return the request, and the controls."""
    body = st.container()
    controls = Places(st.container())
    with body:
        asked = _drawn(controls)
    for name in (BUYING, METHOD, CHOSEN):
        address_line(SCOPE, name, controls.at(None), default=True)
    for name, value in asked.wanted.by_name().items():
        if value != controls.value(name):
            controls.remember(name, value)
    state.remember(SCOPE, UNREAD, asked.unread)
    return asked, controls


def _drawn(controls: Places) -> PlanRequest:
    start, lost, still = controls.form(), controls.lost, controls.still
    none = lost.get("model", Unread("", BadInput("")))
    chosen = choose_model(
        entry_of(start.model), controls.key("model"), none.text, none.error if none.text else None
    )
    entry = chosen.entry
    if chosen.error is not None:
        still["model"] = Unread(chosen.typed, BadInput(str(chosen.error), "model"))
    controls.below("model")
    gpu = controls.gpu(start.gpu)
    first = st.columns(2)
    count = controls.draw("devices", first[0], label="How many", help=None)
    link = controls.draw("link", first[1], options=LINKS, label="Connected by", help=None)
    offered = OF_ENCODERS if entry.kind == "encoder" else tuple(_PURPOSES)
    purposes = {name: title for name, title in _PURPOSES.items() if name in ("", start.objective, *offered)}
    objective = controls.draw("objective", options=purposes, label="What it should learn", help=None)
    second, third, packing = st.columns(2), st.columns(2), st.container()
    said = state.remembered(SCOPE, OF_FILE, {})
    folded = ("price", "also", "optimizer", "packed", "precision", "adapter_dtype")
    open_ = any(name in lost or controls.value(name) != controls.default(name) for name in folded) or bool(
        said
    )
    with st.expander("More: price, optimizer, precision, own data", expanded=open_):
        lengths = lengths_file("Lengths from a file", "plan-lengths")
        said = {} if lengths is None else {name: int(text) for name, text in lengths.fields().items()}
        if said != state.remembered(SCOPE, OF_FILE, {}):
            state.remember(SCOPE, OF_FILE, said)
            if said:  # a control keeps its old value until it is drawn afresh
                take_up({**said, "seq": max(start.seq, said["seq"])})
                st.rerun()
        price = controls.draw(
            "price",
            label="Price per GPU-hour",
            placeholder="yours",
            help="In any currency. The lab has no price list.",
        )
        optimizer = controls.draw("optimizer", options=_OPTIMIZERS, help=None)
        if optimizer == "adafactor":
            st.caption(
                "Adafactor reads norms back from the GPU in every update. The estimated time does not include this "
                "wait."
            )
        precision = controls.draw("precision")
        adapter_dtype = controls.draw("adapter_dtype")
        also = st.multiselect(
            "Also rank", list(dict.fromkeys([*FURTHER, *start.further])), start.further, key=controls.key("also"),
            placeholder="no other method", format_func=lambda slug: get_method(slug).title if slug in FURTHER else slug,
            help="These methods are ranked with full fine-tuning, LoRA and QLoRA. The quality of a method is known "
            "only from published trainings of the same model. Without such trainings, no plan can beat a plan of "
            "another method.",
        )  # fmt: skip
        controls.below("also")
    controls.below("packed")
    rows = controls.draw("rows", second[0], label="Training rows", help=None)
    tokens = controls.draw(
        "row_tokens",
        second[1],
        label="Average length",
        help="Tokens per row, on average. This length determines the time.",
    )
    seq = controls.draw(
        "seq",
        third[0],
        label="Maximum length",
        help="In tokens. Longer rows are truncated. This length determines the memory.",
    )
    deadline = controls.draw("deadline", third[1], label="Must be done in", placeholder="any time")
    wanted = Wanted(
        entry.name, objective, rows, tokens, seq, gpu, count, link, price or None, deadline.strip(), ",".join(also),
        optimizer, precision=precision, adapter_dtype=adapter_dtype,
    )  # fmt: skip
    with packing:
        wanted = replace(wanted, packed=_packed(wanted, start, lengths))
    if "packed" in lost and lengths is None:
        still["packed"] = lost["packed"]
    return PlanRequest(wanted, still)


def _packed(wanted: Wanted, before: Wanted, lengths: Lengths | None) -> int:
    """Return the number of packed rows; 0 if rows are padded. Needs lengths, or a URL made with them."""
    if (lengths is None and not before.packed) or why_no_lengths(
        entry_of(wanted.model), wanted.situation().purpose
    ):
        return 0
    on = st.toggle(
        "Pack short rows", bool(before.packed), key=state.widget_key(SCOPE, "packed"),
        help="Several rows are packed into one sequence of this many tokens. Each row has its own positions and "
        "attends only to itself, so the training result stays the same.",
    )  # fmt: skip
    if not on:
        return 0
    if lengths is not None and wanted.rows == len(lengths.tokens):
        found: int = get_pool().submit(0, rows_of, lengths.tokens, wanted.seq).result()
    elif before.packed and (wanted.rows, wanted.seq) == (before.rows, before.seq):
        found = before.packed
    else:
        st.caption(
            "The rows have changed since they were packed, so they are padded now. Give the rows' lengths again."
        )
        return 0
    st.caption(
        f"{wanted.rows:,} rows fit into {units.several(found, 'sequence')} of {units.several(wanted.seq, 'token')}. "
        + figures.badge("counted")
    )
    return found
