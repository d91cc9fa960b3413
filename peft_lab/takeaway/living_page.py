"""Write the living block with one run as one HTML file that opens without a server and makes no requests."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from peft_lab.core import palette
from peft_lab.core.errors import BadInput
from peft_lab.drawing import living
from peft_lab.drawing.block import draw_block
from peft_lab.drawing.living import sent
from peft_lab.drawing.trajectory.format import Trajectory
from peft_lab.methods import get_method
from peft_lab.models.shapes import ModelShape
from peft_lab.runs.spec import entry_of
from peft_lab.runs.store import Run
from peft_lab.takeaway.generator import fill

_EXPORTED = "export default function"
#: The variables that Streamlit sets for its components.
_THEME = palette.variables(
    st_text_color=palette.INK, st_background_color=palette.PAGE, st_secondary_background_color=palette.PANEL,
    st_border_color=palette.FRAME, st_primary_color=palette.ACCENT,
)  # fmt: skip


def living_html(run: Run) -> str:
    """Return the page of a run.

    Raises:
        BadInput: the run has no recording. RunError: a folder cannot be read.
    """
    trajectory = run.trajectory()
    if trajectory is None:
        raise BadInput(
            f"'{run.id}' recorded nothing of its steps: it made none, or an older version trained it. Train it again.",
            "run",
        )
    return page(trajectory, entry_of(run.spec.model).shape)


def page(trajectory: Trajectory, shape: ModelShape) -> str:
    """Return the page of any trajectory, on a model of this shape."""
    spec = get_method(trajectory.method)
    title = f"{spec.title} on {shape.title}"
    script = _script()
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return fill(
        "living.html.j2",
        title=title,
        script=script,
        allowed=allowed,
        theme=_THEME,
        css=living.LIVING_CSS,
        body=living.LIVING_HTML,
        about=_about(trajectory),
        data=json.dumps(_data(trajectory, shape), ensure_ascii=False).replace("<", "\\u003c"),
    )


def _script() -> str:
    """Return the component's module with code that mounts it on the page."""
    module = living.living_module()
    if _EXPORTED not in module or "</script" in module:
        raise AssertionError("the living block's module cannot stand in a page")
    return (
        module.replace(_EXPORTED, "const mount = function", 1)
        + '\nconst data = JSON.parse(document.getElementById("data").textContent);\n'
        + "mount({ data: [data], parentElement: document, setTriggerValue: () => {} });\n"
    )


def _data(trajectory: Trajectory, shape: ModelShape) -> Mapping[str, Any]:
    spec = get_method(trajectory.method)
    values = spec.complete(shape, _values(trajectory))
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


def _values(trajectory: Trajectory) -> dict[str, Any]:
    found = trajectory.spec.get("values", {})
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _about(trajectory: Trajectory) -> str:
    """Return the run, the machine, the versions and the settings: all that is needed to repeat it."""
    versions = ", ".join(f"{name} {version}" for name, version in trajectory.versions.items())
    spec = json.dumps(trajectory.spec, ensure_ascii=False)
    return f"Measured in run {trajectory.run}, {trajectory.label}, with {versions}. Its settings: {spec}"
