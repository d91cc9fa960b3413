"""Memory: every method's training step on one model, against the memory of a real device."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import streamlit as st

from peft_lab import inspector, units
from peft_lab.errors import BadInput, PeftLabError
from peft_lab.memory import ask, fits
from peft_lab.memory.devices import Device, devices
from peft_lab.memory.optimizers import OPTIMIZER_TITLES
from peft_lab.memory.result import Simulation
from peft_lab.methods import all_methods
from peft_lab.models import catalogue, get_model
from peft_lab.ui import charts, figures, shell, state
from peft_lab.ui.waiting import come_back

SCOPE = "memory"
WORKERS = 2  # processes that simulate side by side
LENGTHS = (128, 256, 512, 1024, 2048)
DEFAULTS: dict[str, Any] = {
    "model": "llama-3.2-3b",
    "device": "rtx-4090",
    "batch": 4,
    "seq": 768,
    "dtype": "bfloat16",
    "optimizer": "adamw",
    "checkpointing": False,
    "method": "lora",
}
DTYPES = ("bfloat16", "float16", "float32")


def memory_page() -> None:
    shell.open_page()
    state.read_address(SCOPE, {name: _reader(name) for name in DEFAULTS})
    st.title("Memory")
    st.markdown(
        "What a training step needs, before anything is downloaded: the real step is run on tensors that have shapes "
        f"but no data, and every byte is added up. {figures.badge('simulated')}"
    )
    chosen = _controls()
    device = devices()[chosen["device"]]
    refused = _refused(chosen["model"])
    asked = _ask_all(chosen, device, refused)
    found, failed = _answers(asked)
    refused |= failed
    waiting = [future for future in asked.values() if not future.done()]
    st.markdown(f"#### One training step of {get_model(chosen['model']).title}")
    if waiting:
        st.progress(
            1 - len(waiting) / len(asked), text=f"Simulating: {len(waiting)} of {len(asked)} methods to go"
        )
    if found:
        _bars(found, device)
        _table(found, refused, device)
    come_back(list(asked.values()))
    if found:
        _one_method(chosen, device, found)
    state.write_address({name: (chosen[name], default) for name, default in DEFAULTS.items()})


def _reader(name: str) -> Any:
    def read(text: str) -> None:
        default = DEFAULTS[name]
        known = _options(name)
        value: Any = text
        if isinstance(default, bool):
            value = text == "true"
        elif isinstance(default, int):
            if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= fits.LARGEST[name]:
                raise BadInput(
                    f"The address says {name}={text[:20]}; it goes from 1 to {fits.LARGEST[name]:,}.", name
                )
            value = int(text)
        elif text not in known:
            raise BadInput(f"The address says {name}={text[:40]}, which is none of {', '.join(known)}.", name)
        state.remember(SCOPE, name, value)

    return read


def _options(name: str) -> list[str]:
    lists: dict[str, list[str]] = {
        "model": list(catalogue()),
        "device": list(devices()),
        "dtype": list(DTYPES),
        "optimizer": list(OPTIMIZER_TITLES),
        "method": list(all_methods()),
    }
    return lists.get(name, [])


def _controls() -> dict[str, Any]:
    titles: dict[str, dict[str, str]] = {
        "model": {name: entry.title for name, entry in catalogue().items()},
        "device": {name: device.title for name, device in devices().items()},
        "dtype": {name: name for name in DTYPES},
        "optimizer": OPTIMIZER_TITLES,
    }
    chosen: dict[str, Any] = {"method": state.remembered(SCOPE, "method", DEFAULTS["method"])}
    top, bottom = st.columns([3, 3, 2, 2]), st.columns([3, 3, 4], vertical_alignment="bottom")
    for cell, (name, label) in zip(
        (top[0], top[1], bottom[0], bottom[1]),
        (
            ("model", "Model"),
            ("device", "Device"),
            ("dtype", "Precision of the base"),
            ("optimizer", "Optimizer"),
        ),
        strict=True,
    ):
        options = _options(name)
        index = state.one_of(SCOPE, name, options, DEFAULTS[name])
        key = state.widget_key(SCOPE, name)
        with cell:
            chosen[name] = st.selectbox(label, options, index, key=key, format_func=titles[name].__getitem__)
            _address_problem(name)
    for cell, name, label in ((top[2], "batch", "Batch, rows"), (top[3], "seq", "Tokens per row")):
        start = int(state.remembered(SCOPE, name, DEFAULTS[name]))
        with cell:
            key = state.widget_key(SCOPE, name)
            chosen[name] = int(st.number_input(label, 1, fits.LARGEST[name], value=start, step=1, key=key))
            _address_problem(name)
    chosen["checkpointing"] = bottom[2].toggle(
        "Gradient checkpointing",
        value=bool(state.remembered(SCOPE, "checkpointing", False)),
        key=state.widget_key(SCOPE, "checkpointing"),
        help="Keeps only every layer's input and computes the rest again in the backward pass: less memory, more time.",
    )
    for name, value in chosen.items():
        state.remember(SCOPE, name, value)
    return chosen


def _address_problem(name: str) -> None:
    problem = state.address_problem(SCOPE, name)
    if problem:
        st.markdown(f":red[:material/link_off: {problem} The default is used.]")


def _setting(chosen: dict[str, Any], device: Device) -> dict[str, Any]:
    return {
        "batch": chosen["batch"],
        "seq": chosen["seq"],
        "optimizer": chosen["optimizer"],
        "device": device.kind,
        "capability": list(device.capability) if device.kind == "cuda" else [8, 9],
    }


def _worker(number: int) -> inspector.Inspector:
    return inspector.get_inspector(f"memory-{number % WORKERS}")


def _refused(model: str) -> dict[str, str]:
    """Methods that cannot run on the model, with their reason; found without simulating anything."""
    shape, found = get_model(model).shape, {}
    for slug, method in all_methods().items():
        errors = [problem.message for problem in method.problems(shape, {}) if problem.level == "error"]
        if errors:
            found[slug] = errors[0]
    return found


def _ask_all(chosen: dict[str, Any], device: Device, refused: Iterable[str]) -> dict[str, Future[Simulation]]:
    """Every method that applies, at its defaults. Answers are kept, and shared between all who ask the same."""
    setting, model, left_out = _setting(chosen, device), chosen["model"], set(refused)
    return {
        slug: _worker(number).submit(
            ask.step, model, slug, {}, setting, chosen["dtype"], chosen["checkpointing"]
        )
        for number, slug in enumerate(all_methods())
        if slug not in left_out
    }


def _answers(asked: dict[str, Future[Simulation]]) -> tuple[dict[str, Simulation], dict[str, str]]:
    found, refused = {}, {}
    for slug, future in asked.items():
        if not future.done():
            continue
        try:
            found[slug] = future.result()
        except PeftLabError as error:
            refused[slug] = str(error)
    return found, refused


def _bars(found: dict[str, Simulation], device: Device) -> None:
    rows = {all_methods()[slug].title: one.parts for slug, one in found.items()}
    figure = charts.memory_bars(rows, device.memory, device.title)
    st.plotly_chart(figure, key="memory-bars", config=charts.CONFIG)


def _table(found: dict[str, Simulation], refused: dict[str, str], device: Device) -> None:
    rows = []
    for slug, one in found.items():
        need = fits.needed(one)
        verdict = "fits" if need <= device.memory else f"{units.size(need - device.memory)} too much"
        rows.append((all_methods()[slug].title, units.size(one.peak_bytes), units.size(need), verdict))
    rows += [(all_methods()[slug].title, "–", "–", reason) for slug, reason in refused.items()]
    figures.table(("Method", "Tensors alive", "Device must have", "On the device"), rows, numeric=(1, 2))
    own = (
        ""
        if device.kind == "cpu"
        else " What the driver and CUDA's context take, some hundred MB, comes on top."
    )
    st.caption(
        "Tensors alive: exact. Device must have: what PyTorch's caching allocator would reserve for them, by its "
        f"documented rules.{own} Memory of the device: {device.source}."
    )


def _one_method(chosen: dict[str, Any], device: Device, found: dict[str, Simulation]) -> None:
    st.markdown("#### One method's step from beginning to end")
    slugs = list(found)
    index = state.one_of(SCOPE, "method", slugs, slugs[0])
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    slug = left.selectbox(
        "Method",
        slugs,
        index,
        key=state.widget_key(SCOPE, "method"),
        format_func=lambda name: all_methods()[name].title,
    )
    state.remember(SCOPE, "method", slug)
    chosen["method"] = slug
    points = [(point.phase, point.layer, point.parts) for point in found[slug].points]
    st.plotly_chart(charts.memory_timeline(points), key="memory-timeline", config=charts.CONFIG)
    with right:
        _largest(chosen, device, slug)
    st.markdown(f"#### What length costs {figures.badge('simulated')}")
    _lengths(chosen, device, slug)


def _largest(chosen: dict[str, Any], device: Device, slug: str) -> None:
    """The search runs on request only: it is about ten simulations."""
    wanted = (slug, *(chosen[name] for name in DEFAULTS if name != "method"))
    key = "memory-search"
    batch, seq = st.columns(2)
    if batch.button("Largest batch that fits", key="find-batch", width="stretch"):
        st.session_state[key] = ("batch", wanted)
    if seq.button("Longest rows that fit", key="find-seq", width="stretch"):
        st.session_state[key] = ("seq", wanted)
    what, for_which = st.session_state.get(key, (None, None))
    if what is None or for_which != wanted:
        return
    rest: tuple[Any, ...] = (
        chosen["model"],
        slug,
        {},
        _setting(chosen, device),
        chosen["dtype"],
        chosen["checkpointing"],
    )
    limit = get_model(chosen["model"]).shape.max_positions if what == "seq" else None
    future = inspector.get_inspector("memory-search").submit(fits.question, what, device.name, *rest, limit)
    if not future.done():
        st.markdown("Searching: about ten simulations…")
        come_back([future])
        return
    try:
        size = future.result()
    except PeftLabError as error:
        st.markdown(f":red[:material/error: {error}]")
        return
    unit = "rows" if what == "batch" else "tokens per row"
    said = f"**{size:,} {unit}**" if size else f"Not even one {'row' if what == 'batch' else 'token'} fits."
    st.markdown(f"{said} on {device.title} {figures.badge('simulated')}")


def _lengths(chosen: dict[str, Any], device: Device, slug: str) -> None:
    limit = get_model(chosen["model"]).shape.max_positions or LENGTHS[-1]
    lengths = [length for length in LENGTHS if length <= limit]
    asked = {}
    for number, length in enumerate(lengths):
        setting = {**_setting(chosen, device), "seq": length}
        rest: tuple[Any, ...] = (chosen["model"], slug, {}, setting, chosen["dtype"], chosen["checkpointing"])
        asked[length] = _worker(number).submit(ask.step, *rest)
    done = {
        length: future.result()
        for length, future in asked.items()
        if future.done() and not future.exception()
    }
    come_back(list(asked.values()))
    to_go = sum(not future.done() for future in asked.values())
    if to_go:
        st.markdown(f"Simulating: {to_go} of {len(asked)} lengths to go")
    if not done:
        return
    xs = list(done)
    series = {"tensors alive": (xs, [one.peak_bytes / 1e9 for one in done.values()])}
    if device.kind == "cuda":
        series["device must have"] = (xs, [fits.needed(one) / 1e9 for one in done.values()])
    figure = charts.curves(series, "tokens per row", "GB", height=280)
    st.plotly_chart(figure, key="memory-lengths", config=charts.CONFIG)
