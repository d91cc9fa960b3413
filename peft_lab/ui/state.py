"""Settings: the one place that names session keys, and reads and writes a page's URL.

A learner's choices live in one dictionary per scope (a method's knobs, the shared model and task, the
training form) that survives page changes. A page's URL carries everything that differs from its defaults, so
that copying it reproduces the page; opening such a URL sets the same choices, and a value that cannot be read
is reported at its control, with the default kept.

A control is drawn with the remembered choice as its default and a key made here. Streamlit forgets a
control's value when another page is shown, and may lose one set in its session state when runs follow each
other quickly; the default it falls back to is then the learner's own choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from peft_lab.core.errors import BadInput, echoed
from peft_lab.core.field import as_text

_SETTINGS = "settings"
_GENERATIONS = "generations"
_READ = "addresses-read"
_PROBLEMS = "address-problems"
_REPORTED = "address-problems-told"
_FIRST = "first-defaults"
_PAGE = "page"
_CARRIED = "carried"
_FIXED = "fixed"
_COMPLETE = "complete-address"
_DIFFERS = "differing-address"
_UNSAID = "address-to-be-shown"
_CONTROL = re.compile(r"[^.]+\.\d+\.")  # as widget_key makes them
# What an address may say besides a page's own settings.
_AROUND = ("stop", "fixed", "projector")
_WHOLE = re.compile(r"[+-]?[0-9]+")
#: What a browser's control can hold exactly.
LARGEST = 2**53 - 1


def _all() -> dict[str, dict[str, Any]]:
    settings: dict[str, dict[str, Any]] = st.session_state.setdefault(_SETTINGS, {})
    return settings


def scope(name: str) -> dict[str, Any]:
    """Return the remembered choices of one scope, such as ``shared``, ``lora`` or ``train``."""
    return _all().setdefault(name, {})


def remembered(scope_name: str, name: str, default: Any, *variants: str) -> Any:
    """Return the learner's last choice, or ``default``. ``variants`` keep apart choices with different
    options, such as the names of a model's modules; each is remembered."""
    return scope(scope_name).get(".".join((name, *variants)), default)


def remember(scope_name: str, name: str, value: Any, *variants: str) -> None:
    """Store the learner's choice; ``None`` forgets it."""
    key = ".".join((name, *variants))
    if value is None:
        scope(scope_name).pop(key, None)
    else:
        scope(scope_name)[key] = value


def widget_key(scope_name: str, name: str, *variants: str) -> str:
    """Return a control's key. It changes when code sets the scope's choices, which redraws the control."""
    generation = st.session_state.setdefault(_GENERATIONS, {}).get(scope_name, 0)
    return ".".join((scope_name, str(generation), name, *variants))


def first_default(key: str, wanted: Any) -> Any:
    """Return the ``wanted`` that was given when the control ``key`` was first drawn, or since Streamlit forgot it."""
    first: dict[str, Any] = st.session_state.setdefault(_FIRST, {})
    if key not in st.session_state:
        first[key] = wanted
    return first.setdefault(key, wanted)


def one_of(scope_name: str, name: str, options: Sequence[Any], default: Any) -> int:
    """Return the index of the remembered choice among ``options``, or else of the default."""
    value = remembered(scope_name, name, default)
    return options.index(value if value in options else default)


def renew(scope_name: str) -> None:
    """Redraw the scope's controls after code has set choices."""
    generations: dict[str, int] = st.session_state.setdefault(_GENERATIONS, {})
    generations[scope_name] = generations.get(scope_name, 0) + 1


def forget(scope_name: str) -> None:
    """Forget the scope's choices, and redraw its controls with the defaults."""
    _all().pop(scope_name, None)
    renew(scope_name)


def read_address(page: str, readers: Mapping[str, Callable[[str], None]]) -> None:
    """Read the choices from the URL, once per page and session.

    ``readers`` maps a parameter to a function that takes its text; if it raises :class:`BadInput`, the
    default stays, and :func:`address_problem` returns the message. Settings fixed by a teacher are read at
    every draw, as another page may have changed a shared choice.
    """
    read: set[str] = st.session_state.setdefault(_READ, set())
    texts = dict(fixed_on(page))
    unread = page not in read
    if unread:
        texts = st.query_params.to_dict() | texts
    problems: dict[str, str] = st.session_state.setdefault(_PROBLEMS, {})
    for name, take in readers.items():
        if name in texts:
            try:
                take(texts[name])
            except BadInput as error:
                problems[f"{page}.{name}"] = str(error)
    if unread:
        # Not earlier: a second press may end this run at any step above, and the next run then has to read the address.
        read.add(page)


def address_problem(page: str, name: str) -> str | None:
    """Return why a value in the URL could not be used, until some control changes: a page that waits for an
    answer redraws itself before anyone could have read it."""
    problems: dict[str, str] = st.session_state.setdefault(_PROBLEMS, {})
    reported: dict[str, dict[str, Any]] = st.session_state.setdefault(_REPORTED, {})
    key = f"{page}.{name}"
    if key not in problems:
        return None
    now = {str(at): value for at, value in st.session_state.items() if _CONTROL.match(str(at))}
    if any(at in now and now[at] != value for at, value in reported.get(key, {}).items()):
        del problems[key], reported[key]
        return None
    reported[key] = now
    return problems[key]


def write_address(choices: Mapping[str, tuple[Any, Any]]) -> None:
    """Write every ``name: (value, default)`` that is not the default, and the page's frame, into the URL."""
    st.session_state[_COMPLETE] = {name: as_text(value) for name, (value, _) in choices.items()}
    own = {name: as_text(value) for name, (value, default) in choices.items() if value != default}
    st.session_state[_DIFFERS] = own
    fixed = fixed_on(current_page())
    marker = {"fixed": ",".join(fixed)} if fixed else {}
    _show_address(own | fixed | marker | carried())


def _show_address(wanted: dict[str, str]) -> None:
    if st.session_state.pop(_UNSAID, False) or st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


# -- what surrounds a page ---------------------------------------------------------------------------------------------


def enter(page: str) -> None:
    """Set the page that is about to be drawn."""
    st.session_state[_PAGE] = page
    st.session_state[_COMPLETE] = {}
    st.session_state[_DIFFERS] = {}


def current_page() -> str:
    return str(st.session_state.get(_PAGE, ""))


def begin_afresh(page: str, keep: Sequence[str] = ()) -> None:
    """Forget the page's choices, so that its URL is read as if it were opened for the first time."""
    kept = {name: scope(page)[name] for name in keep if name in scope(page)}
    _all()[page] = kept  # in one assignment: if this run ended in between, nothing would be kept
    renew(page)
    forget("shared")
    st.session_state.setdefault(_READ, set()).discard(page)
    # A link from a page to itself changes what the server knows of the address, not what the browser shows.
    st.session_state[_UNSAID] = True


def complete_address() -> dict[str, str]:
    """Return all choices of the page just drawn as text, including defaults; empty if it has none."""
    return dict(st.session_state.get(_COMPLETE, {}))


def own_address() -> dict[str, str]:
    """Return the choices of :func:`complete_address` that differ from their defaults."""
    return dict(st.session_state.get(_DIFFERS, {}))


def carry(name: str, text: str) -> None:
    """Add ``name=text`` to every page's URL from now on; empty text removes it."""
    all_carried: dict[str, str] = st.session_state.setdefault(_CARRIED, {})
    all_carried.pop(name, None)
    if text:
        all_carried[name] = text


def carried() -> dict[str, str]:
    return dict(st.session_state.get(_CARRIED, {}))


def finish_address() -> None:
    """Write the frame's parameters into the URL of a page without any of its own."""
    if not complete_address():
        own = {name: text for name, text in st.query_params.to_dict().items() if name not in _AROUND}
        _show_address(own | carried())


def fix(page: str, values: Mapping[str, str]) -> None:
    """Fix these settings of the page, given as URL parameters; an empty mapping unlocks all."""
    all_fixed: dict[str, dict[str, str]] = st.session_state.setdefault(_FIXED, {})
    all_fixed[page] = dict(values)


def fixed_on(page: str) -> dict[str, str]:
    """Return the page's settings fixed by a teacher, as URL parameters."""
    found: dict[str, str] = st.session_state.get(_FIXED, {}).get(page, {})
    return found


def is_fixed(name: str) -> bool:
    """Return whether the current page's control of that name is locked."""
    return name in fixed_on(current_page())


def whole_number(text: str, name: str) -> int:
    """Return the whole number in a URL's text for the control ``name``. Raises BadInput if it is not a whole number,
    or too large for a control."""
    said = echoed(text, 21)
    digits = text.strip()
    if not _WHOLE.fullmatch(digits):
        raise BadInput(f"'{said}' is not a whole number.", name)
    value = int(digits[:40])  # Python refuses to read more than a few thousand digits
    if len(digits) > 40 or abs(value) > LARGEST:
        raise BadInput(f"'{said}' is out of range: too far from 0.", name)
    return value
