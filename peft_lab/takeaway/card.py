"""Write single documents of a run: its model card, the living block as one HTML file, and a page's settings as code."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from peft_lab.core import palette, units
from peft_lab.core.errors import BadInput
from peft_lab.core.field import read
from peft_lab.drawing import living
from peft_lab.drawing.block import draw_block
from peft_lab.drawing.living import sent
from peft_lab.drawing.trajectory.format import Trajectory
from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.methods.ptuning.spec import DEEP_TYPE
from peft_lab.methods.shared.peft_backed import PeftMethod, read_any_config
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.heads import AUTO_CLASSES, task_type
from peft_lab.models.images import words
from peft_lab.models.shapes import CLASSIFIERS, ModelEntry, ModelShape
from peft_lab.runs.spec import entry_of
from peft_lab.runs.store import Run
from peft_lab.takeaway.applied import Applied, applied, peft_call, way_of
from peft_lab.takeaway.facts import RunOutcome
from peft_lab.takeaway.generator import fill, with_imports
from peft_lab.training.tasks.base import Task


def loading_code(known: RunOutcome) -> tuple[str, bool]:
    """Return Python text that leaves the tuned model in ``model``, and whether PEFT itself reads the adapter. Raises
    BadInput for a run without adapter."""
    deep = read_any_config(known.run.adapter).get("peft_type") == DEEP_TYPE
    is_peft = isinstance(known.method, PeftMethod) and not deep
    way = "peft" if is_peft else "deep" if deep else way_of(known.method)
    how = Applied(way, known.method, known.entry, known.values, None, known.task_type)
    return with_imports(fill("loading.py.j2", run=known, how=how)), is_peft


def model_card(known: RunOutcome) -> str:
    memory = known.record.get("memory") or {}
    settings = read(known.method.knobs, known.values)
    code, is_peft = loading_code(known)
    return fill(
        "card.md.j2",
        run=known,
        spec=known.spec,
        task=known.task,
        entry=known.entry,
        record=known.record,
        units=units,
        words=words,
        is_peft=is_peft,
        loading_code=code,
        licences=licences(known),
        knobs=[
            (knob, _shown(settings[knob.name]))
            for knob in known.method.knobs
            if knob.name in settings and settings[knob.name] != ()
        ],
        memory=memory if "peak_bytes" in memory else None,
    )


def licences(known: RunOutcome) -> str:
    """Return the sources of the adapter with their licences."""
    return fill("licences.md.j2", run=known, task=known.task, entry=known.entry)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value)
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def config_code(
    method: MethodSpec, entry: ModelEntry, values: Mapping[str, Any], task: Task | None = None
) -> str:
    """Return Python text that loads the model and applies the method, with the definitions of exported files. Without a
    ``task``, encoders and models of images get a head that gives each row one of two labels. Raises BadInput for
    settings that cannot work, with the reason; ``field`` names the knob; RunError if the process that makes PEFT's
    config died."""
    full = method.require(entry.shape, values)
    kind = task_type(entry.kind, entry.kind in CLASSIFIERS) if task is None else task.task_type(entry.kind)
    how = applied(method, entry, full, peft_call(entry, method, full, kind), kind)
    context = {
        "auto": AUTO_CLASSES[kind],
        "labels": 2 if task is None else len(task.labels),
        "hub_id": hub_id(entry),
        "rate": method.learning_rate(entry.kind, full),
    }
    return with_imports(fill("settings.py.j2", how=how, **context))


def hub_id(entry: ModelEntry) -> str:
    """Return the Hugging Face id of a model, or the learner's own name for it."""
    asset = ASSETS.get(entry.name)
    return asset.hub_id if asset and asset.hub_id else entry.source


_EXPORTED = "export default function"
#: The variables that Streamlit sets for its components.
_THEME = palette.variables(
    st_text_color=palette.INK, st_background_color=palette.PAGE, st_secondary_background_color=palette.PANEL,
    st_border_color=palette.FRAME, st_primary_color=palette.ACCENT,
)  # fmt: skip


def living_html(run: Run) -> str:
    """Return the page of a run. Raises BadInput if the run has no recording; RunError if a folder cannot be read."""
    trajectory = run.trajectory()
    if trajectory is None:
        raise BadInput(
            f"'{run.id}' recorded no steps: it made none, or an older version trained it. Train it again.",
            "run",
        )
    return living_page(trajectory, entry_of(run.spec.model).shape)


def living_page(trajectory: Trajectory, shape: ModelShape) -> str:
    """Return the page of any trajectory, on a model of this shape."""
    spec = get_method(trajectory.method)
    title = f"{spec.title} on {shape.title}"
    script = _script()
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    versions = ", ".join(f"{name} {version}" for name, version in trajectory.versions.items())
    settings = json.dumps(trajectory.spec, ensure_ascii=False)
    run = f"run {trajectory.run}, {trajectory.label}, with {versions}"
    return fill(
        "living.html.j2",
        title=title,
        script=script,
        allowed=allowed,
        theme=_THEME,
        css=living.LIVING_CSS,
        body=living.LIVING_HTML,
        about=f"Measured in {run}. Its settings: {settings}",
        data=json.dumps(_data(trajectory, shape), ensure_ascii=False).replace("<", "\\u003c"),
    )


def _script() -> str:
    """Return the component's JavaScript module, with code that mounts it on the page."""
    module = living.living_module()
    if _EXPORTED not in module or "</script" in module:
        raise AssertionError("the drawing's module cannot be put into a page")
    return (
        module.replace(_EXPORTED, "const mount = function", 1)
        + '\nconst data = JSON.parse(document.getElementById("data").textContent);\n'
        + "mount({ data: [data], parentElement: document, setTriggerValue: () => {} });\n"
    )


def _data(trajectory: Trajectory, shape: ModelShape) -> Mapping[str, Any]:
    spec = get_method(trajectory.method)
    stated = trajectory.spec.get("values", {}).items()
    values = spec.complete(
        shape, {name: tuple(value) if isinstance(value, list) else value for name, value in stated}
    )
    parts, stored = spec.parts(shape, values), spec.quantization(values)
    wide = draw_block(shape, parts, quantized=stored)
    narrow = draw_block(shape, parts, quantized=stored, layout="narrow")
    return {
        "wide": wide.svg,
        "narrow": narrow.svg,
        "words": wide.description,
        "selected": None,
        "details": {part.at: {"title": part.at, "note": "", "rows": []} for part in parts},
        "header": [],
        "run": sent(trajectory),
        "title": "Recorded run",
        "playing": False,
        "size": "full",
        "show": ["phases", "layers", "numbers", "curve", "answers"],
        "handles": [],
    }
