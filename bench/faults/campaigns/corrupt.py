"""Files of every kind with anything in them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bench.faults.children import invoke
from bench.faults.rows import LIMIT, Place, Row
from bench.faults.watching import QUICK, VICTIM, finished
from peft_lab import takeaway
from peft_lab.interview.learners.schedule import Learners
from peft_lab.models.assets import store as assets
from peft_lab.runs import kept, respond, store, waiting
from peft_lab.runs.queue import get_queue
from peft_lab.runs.store import Run
from peft_lab.runs.view import DAMAGED
from peft_lab.studies import serving
from peft_lab.studies.compare import store as plans
from peft_lab.ui import pages

ROOT = Path(__file__).parents[3]
#: How many kinds of damage each file gets.
TIMES = 10
#: Contents for any file, by what they are.
GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "noise": lambda data: random.Random(0).randbytes(max(16, min(len(data), 4096))),
    "null": lambda _: b"null\n",
    "a list": lambda _: b"[]\n",
    "a number": lambda _: b"7\n",
    "nested": lambda _: b"[" * 100_000,
    "an empty object": lambda _: b"{}\n",
    "a flipped byte": lambda data: _flipped(data),
}
RUN_FILES = (
    store.STARTER_FILE,
    "spec.json",
    "events.jsonl",
    kept.RECORD,
    kept.INSIGHT,
    kept.ARRAYS,
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)
LAB_FILES = (
    "data/sentences/provenance.json",
    "models/minilm-l6/provenance.json",
    "learners.db",
    "serving.json",
)


def _flipped(data: bytes) -> bytes:
    made = bytearray(data)
    if made:
        made[len(made) // 2] ^= 0x20
    return bytes(made)


def run(place: Place, times: int) -> Iterator[Row]:
    """A row for each kind of file, then one for owners of runs."""
    home = place.home("home")
    _own_lists(home, place.weights)
    made, other = finished(replace(VICTIM, steps=8, eval_rows=16), QUICK)
    forms = dict(list(GARBAGE.items())[:times])
    for name in RUN_FILES:
        yield _row(
            f"a run's {name}", made.folder / name, forms, lambda row, label: _use(row, label, made, other)
        )
    comparison = plans.keep(_plan())
    comparison.folder.joinpath("owner.json").write_text(
        json.dumps({"pid": 1, "started": 1.0, "at_work": True})
    )
    comparison.folder.joinpath("machines.json").write_text("[]")
    for name in ("plan.json", "owner.json", "machines.json"):
        yield _row(
            f"a comparison's {name}",
            comparison.folder / name,
            forms,
            lambda row, label: _use_comparison(row, label, comparison.id),
        )
    Learners().create("Ada")
    for name in LAB_FILES:
        path = home / name
        if path.suffix == ".db":
            path = Learners().path
        if path.exists() or name == "serving.json":
            yield _row(path.name if path.parent == home else name, path, forms, _use_lab)
    yield _owners(made)


def _own_lists(home: Path, weights: Path) -> None:
    """A folder of links for each asset, so that its list of files is this campaign's own."""
    for asset in assets.ASSETS.values():
        link = home / asset.folder
        for part in ("models", "data"):
            if (home / part).is_symlink():
                (home / part).unlink()
        link.mkdir(parents=True, exist_ok=True)
        for path in (weights / asset.folder).iterdir():
            if path.name == assets.PROVENANCE:
                shutil.copy2(path, link / path.name)
            else:
                (link / path.name).symlink_to(path)


def _row(
    what: str, path: Path, forms: dict[str, Callable[[bytes], bytes]], use: Callable[[Row, str], None]
) -> Row:
    row = Row(what)
    original = path.read_bytes() if path.exists() else None
    for name, form in forms.items():
        row.tried += 1
        path.write_bytes(form(original or b"{}"))
        use(row, f"{what} {name}")
        if original is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(original)
    row.notes = "told in a sentence; everything else works"
    return row


def _page(name: str, **address: str) -> None:
    """Open a page of the app; what it shows as an exception is raised."""
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    st.cache_data.clear()  # as a server that has just started
    st.cache_resource.clear()
    pages._navigated = False  # by way of the app, as a server opens every page
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=LIMIT)
    for key, value in address.items():
        opened.query_params[key] = value
    opened.switch_page(f"pages/{name}.py")
    opened.run()
    if opened.exception:
        raise RuntimeError(f"{opened.exception[0].message}: {opened.exception[0].stack_trace[-3:]}")


def _use(row: Row, label: str, made: Run, other: Run) -> None:
    """All that reads a run."""

    def listed() -> None:
        lines = {line.id: line for line in store.summaries()}
        if lines[other.id].status != "done":
            row.loss(f"{label}: another run is {lines[other.id].status}")
        if lines[made.id].status == DAMAGED and not lines[made.id].problem:
            row.loss(f"{label}: damaged without a reason")

    row.guarded(f"{label}: list", listed)
    row.guarded(
        f"{label}: queue", lambda: (waiting.mark_lost(), waiting.runs_before(other), waiting.unfinished())
    )
    row.guarded(f"{label}: runs", lambda: invoke("runs"))
    row.guarded(f"{label}: runs ID", lambda: invoke("runs", made.id))
    row.guarded(f"{label}: view", made.view)
    row.guarded(f"{label}: record", made.record)
    row.guarded(f"{label}: started by", lambda: store.started_by(made))
    row.guarded(f"{label}: insight", made.insight)
    row.guarded(f"{label}: arrays", made.arrays)
    row.guarded(f"{label}: script", lambda: takeaway.script(made))
    row.guarded(f"{label}: adapter", lambda: takeaway.adapter_zip(made))
    row.guarded(f"{label}: its page", lambda: _page("lora", tab="inside", run=made.id))
    if "adapter" in label:
        row.guarded(f"{label}: ask", lambda: respond.ask(made.id, [label]))


def _plan() -> plans.ComparisonPlan:
    request = plans.ComparisonRequest(
        model="minilm-l6", task="sentiment", methods=("lora", "ia3"), steps=2, seeds=(0,)
    )
    return plans.make_plan(request)


def _use_comparison(row: Row, label: str, identity: str) -> None:
    def read() -> None:
        for each in plans.comparisons():
            each.standing()

    row.guarded(f"{label}: list", read)
    row.guarded(f"{label}: its page", lambda: _page("compare", comparison=identity))


def _use_lab(row: Row, label: str) -> None:
    row.guarded(f"{label}: status", assets.status)
    row.guarded(f"{label}: check", QUICK.complete)
    row.guarded(f"{label}: learners", lambda: Learners().names())
    row.guarded(f"{label}: serving", lambda: serving.kept({}))
    row.guarded(f"{label}: runs", lambda: invoke("runs"))


def _owners(made: Run) -> Row:
    """An unfinished run whose owner is anything."""
    row = Row("an unfinished run's owner")
    forms = (
        "null", "[]", "{}", "7", '"x"', "true", '{"pid": null}', '{"pid": "1", "started": 1}',
        '{"pid": 1e999, "started": 1.0}', '{"pid": -1, "started": 1.0}',
        '{"pid": 1180591620717411303424000, "started": 1.0}',
        '{"pid": 1, "started": 1.0, "host": 3}', '{"pid": 1, "started": {}}',
    )  # fmt: skip
    path = made.folder / "events.jsonl"
    original = path.read_bytes()
    for form in forms:
        row.tried += 1
        path.write_text(f'{{"time": 1.0, "type": "queued", "owner": {form}}}\n')
        row.guarded(f"owner {form}: list", store.summaries)
        row.guarded(f"owner {form}: queue", lambda: (waiting.mark_lost(), waiting.unfinished()))
        row.guarded(f"owner {form}: runs", lambda: invoke("runs"))
        following = row.guarded(f"owner {form}: train", lambda: get_queue().submit(QUICK))
        if isinstance(following, str):
            if get_queue().wait(following, 120) != "done":
                row.hang(f"owner {form}: the next run was not done")
        else:
            row.hang(f"owner {form}: {following}")
    path.write_bytes(original)
    row.notes = "listed as damaged or lost; the next run was done each time"
    return row
