"""Draw a form's controls. Each remembers its choice, is locked if a teacher fixed it, and shows errors.

A page arranges the controls in any order and cells::

    controls = Controls(Step, "memory")
    controls.read_address()
    batch = controls.draw("batch", cell)
    step = controls.form()          # as the learner left it
    controls.show(step.problems())  # each below its control, with a button for the nearest valid value
    controls.write_address()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import streamlit as st

from peft_lab.core.errors import BadInput
from peft_lab.core.field import Field
from peft_lab.core.form import Form
from peft_lab.ui import state
from peft_lab.ui.components.frame import address_line, error_line
from peft_lab.ui.foreign import plain

F = TypeVar("F", bound=Form)
#: The scope of what pages share: the model, the data, the devices.
SHARED = "situation"
SHORT = 24  # letters of all options that stand side by side


class Controls(Generic[F]):
    """The controls of one form on one page. ``usual``: returns the page's defaults, which may depend on other choices.
    ``keys``: returns, for a field, keys that keep its choices apart, such as the kind of the model."""

    def __init__(
        self,
        form: type[F],
        scope: str,
        usual: Callable[[], F] | None = None,
        keys: Callable[[str], tuple[str, ...]] = lambda name: (),
    ) -> None:
        self._form, self.scope, self._keys = form, scope, keys
        self._usual = usual or form
        self._below: dict[str, Any] = {}

    @property
    def usual(self) -> F:
        """Return the page's defaults."""
        return self._usual()

    # -- values --------------------------------------------------------------------------------------------------

    def value(self, name: str) -> Any:
        """Return the learner's last choice, or the default."""
        return self._value(self._form.field(name))

    def _value(self, field: Field) -> Any:
        choice = state.remembered(*self._place(field), None, *self._keys(field.name))
        return self.default(field.name) if choice is None else choice

    def default(self, name: str) -> Any:
        """Return the page's default."""
        return getattr(self.usual, name)

    def form(self) -> F:
        """Return the form with the learner's choices, valid or not."""
        values = {name: self._value(field) for name, field in self._form.fields().items()}
        made: Any = replace(self.usual, **values)  # type: ignore[type-var]
        return made

    def remember(self, name: str, value: Any) -> None:
        """Store a choice without redrawing its control; ``None`` forgets it."""
        self._remember(self._form.field(name), value)

    def _remember(self, field: Field, value: Any) -> None:
        scope, key = self._place(field)
        state.remember(scope, key, value, *self._keys(field.name))

    def put(self, **changes: Any) -> None:
        """Set choices from code, and redraw their controls."""
        for name, value in changes.items():
            self.remember(name, None if value == self.default(name) else value)
        state.renew(self.scope)

    def _place(self, field: Field) -> tuple[str, str]:
        return (SHARED, field.shared) if field.shared else (self.scope, field.key)

    def key(self, name: str, *more: str) -> str:
        """Return the key of a control."""
        return self._key(self._form.field(name), *more)

    def _key(self, field: Field, *more: str) -> str:
        apart = (*self._keys(field.name), *self.redrawn_for(field.name))
        return state.widget_key(self.scope, field.key, *apart, *more)

    def redrawn_for(self, name: str) -> tuple[str, ...]:
        """Return keys that redraw a control when they change, without forgetting its choice."""
        return ()

    # -- the address ---------------------------------------------------------------------------------------------

    def readers(self, **own: Callable[[str], Any]) -> dict[str, Callable[[str], None]]:
        """Return a reader of each field from a URL; ``own``: readers that replace the fields'."""

        def reader(name: str, field: Field) -> Callable[[str], None]:
            def take(text: str) -> None:
                self._remember(field, own.get(name, field.parse)(text))

            return take

        return {field.key: reader(name, field) for name, field in self._form.fields().items()}

    def read_address(self, **own: Callable[[str], Any]) -> None:
        """Read the choices from the URL, once per page and session; ``own``: as in :meth:`readers`."""
        state.read_address(self.scope, self.readers(**own))

    def address(self, leave_out: Iterable[str] = ()) -> dict[str, tuple[Any, Any]]:
        """Return the URL's parameters, ``name: (value, default)``, without values out of range."""
        wrong = {error.field for error in self.form().problems()} | set(leave_out)
        return {name: pair for name, pair in self.form().address(self.usual).items() if name not in wrong}

    def write_address(self, more: Mapping[str, tuple[Any, Any]] | None = None) -> None:
        """Write the choices, and ``more``, into the URL."""
        state.write_address(self.address() | dict(more or {}))

    # -- drawing -------------------------------------------------------------------------------------------------

    def draw(
        self,
        name: str,
        cell: Any = None,
        *,
        options: Mapping[str, str] | None = None,
        noun: str = "row",
        key: str = "",
        caption: bool = False,
        disabled: bool = False,
        **more: Any,
    ) -> Any:
        """Draw a field's control in a cell and return its value; report an invalid one in the URL below it.

        Args:
            options: titles by value in place of the field's own. A choice that is no longer among them is
                replaced by the default.
            noun: the kind of training data, for label and help.
            key: of the control, if not :meth:`key`.
            caption: whether to show a sentence of the help below the control.
            more: arguments of the control and of :func:`widget`.
        """
        own, usual = self._form.field(name), self.default(name)
        start, key, shut = self._value(own), key or self._key(own), state.is_fixed(own.key)
        field = replace(own.in_terms_of(noun), default=usual)
        if options is not None:
            if field.kind == "choice" and start not in options:  # it was, before another choice
                start = usual if usual in options else next(iter(options))
                self._remember(own, start)
            field = replace(field, kind="modules" if field.kind == "modules" else "choice", options=options)
        with st.container(gap=None) if cell is None else cell:
            value = widget(field, start, key, disabled=disabled or shut, **more)
            if caption:
                st.caption(plain(field.brief(value)))
            self._reserve(own)
        if value != start:
            # A default may follow from another choice, so that it is not remembered; other pages have other defaults.
            self._remember(own, None if value == usual and not own.shared else value)
        return value

    def below(self, name: str) -> None:
        """Reserve a place for errors below the last control; report an invalid value in the URL there."""
        self._reserve(self._form.field(name))

    def _reserve(self, field: Field) -> None:
        self._below[field.name] = st.container()
        address_line(self.scope, field.key, self._below[field.name], default=True)

    def at(self, name: str | None) -> Any:
        """Return the place below a control; the page for a control that is not drawn."""
        return self._below.get(name or "", st)

    def show(self, problems: Iterable[BadInput]) -> None:
        """Draw each error below its control, with a button for the nearest valid value."""
        for error in problems:
            with self.at(error.field) if error.field in self._below else st.container():
                error_line(error)
                self._offer(error)

    def _offer(self, error: BadInput) -> None:
        name, near = error.field or "", error.nearest
        if near is None or name not in self._form.fields() or state.is_fixed(self._form.field(name).key):
            return
        field = self._form.field(name)
        text = field.titles.get(near, near) if field.kind == "choice" else f"{near:,}"
        st.button(f"Use {text}", key=self.key(name, "nearest"), on_click=self.put, kwargs={name: near})


def widget(field: Field, value: Any, key: str, *, slider: bool = False, scale: float = 1, **rest: Any) -> Any:
    """Draw a field's control and return its value. Ranges are checked later, by the form.

    Args:
        slider: whether to draw numbers as sliders, and short choices side by side.
        scale: the size of the displayed unit.
        rest: arguments of the control; with a ``placeholder``, a list of names is a dropdown.
    """
    rest = {"key": key, "help": field.full_help or None} | rest
    start: Any
    label = rest.pop("label", field.label)
    if field.kind == "bool":
        return st.toggle(label, value=bool(value), **rest)
    if field.kind == "choice":
        titles = dict(field.titles)
        if slider and sum(map(len, titles)) <= SHORT:
            return st.segmented_control(
                label, list(titles), default=value, required=True, width="stretch", **rest
            )
        offered = list(titles) if value in titles or value is None else [*titles, value]
        start = offered.index(value) if value in offered else 0
        return st.selectbox(label, offered, start, format_func=lambda one: titles.get(one, one), **rest)
    if field.kind == "modules":
        titles = dict(field.titles)
        chosen = [name for name in value if name in titles]
        rest |= {"default": chosen, "format_func": titles.__getitem__}
        if "placeholder" in rest:
            picked = st.multiselect(label, list(titles), **rest)
        else:
            picked = st.pills(label, list(titles), selection_mode="multi", **rest)
        return tuple(picked) if slider else tuple(name for name in titles if name in picked)
    if field.kind == "text":
        # A sentence does not fit a line of a column.
        draw = st.text_area if slider and " " in str(field.default) else st.text_input
        return draw(label, value=value, **{"placeholder": field.empty or None, **rest})
    if slider and field.stops:
        return st.select_slider(label, sorted({*field.stops, value}), value=value, **rest)
    if slider and field.kind == "int":
        return st.slider(label, int(field.min or 0), int(field.max or 100), value=value, step=1, **rest)
    if slider:
        low, high = float(field.min or 0.0), float(field.max or 1.0)
        return st.slider(label, low, high, value=float(value), step=0.05, **rest)
    step = rest.pop("step", 1 if field.kind == "int" and scale == 1 else None)
    number = int if field.kind == "int" and scale == 1 else float
    start = None if value is None else number(value / scale)
    rest = {"placeholder": field.empty or None, "step": step} | rest
    typed = st.number_input(label, value=start, **rest)
    if typed is None:
        return None if field.empty else field.default
    return round(typed * scale) if field.kind == "int" else float(typed * scale)


# ----------------------------------------
# A select box whose choice the session remembers, with what its address said of it and could not be used.


Value = TypeVar("Value")


def choose(
    scope: str,
    name: str,
    label: str,
    options: Mapping[Value, str] | Sequence[Value],
    default: Value | None = None,
    *,
    afresh: Sequence[str] = (),
    place: Any = st,
    text: str | None = None,
) -> Value:
    """Draw the select box and return the choice: the remembered one while it is an option, else the default.

    Args:
        options: titles by value, or values that say it themselves.
        default: the first option unless given.
        afresh: keys that redraw the control, when they change, without forgetting the choice.
        text: the help text.
    """
    values = list(options)
    index = state.one_of(scope, name, values, values[0] if default is None else default)
    value: Value = place.selectbox(
        label,
        values,
        index=index,
        key=state.widget_key(scope, name, *afresh),
        format_func=options.__getitem__ if isinstance(options, Mapping) else str,
        help=text,
        disabled=state.is_fixed(name),
    )
    address_line(scope, name, place)
    state.remember(scope, name, value)
    return value
