"""Write a run's script and notebook, and prepare an adapter's folder for sharing: card, licences, public name of its
base."""

from __future__ import annotations

import io
import json
import tempfile
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft_lab.core import disk
from peft_lab.core.asking import in_person
from peft_lab.core.errors import BadInput
from peft_lab.methods.shared import adapters_library
from peft_lab.methods.shared.peft_backed import CONFIG_FILE, WEIGHTS_FILE, read_any_config
from peft_lab.models import images
from peft_lab.models.assets import dequantise, fetching, onnx_vision, onnx_weights
from peft_lab.models.assets.fetching import Asset
from peft_lab.models.assets.store import ASSETS
from peft_lab.models.catalogue import resolve
from peft_lab.models.loading import decoder_start, weights_of
from peft_lab.models.own import finder
from peft_lab.runs import kept, store
from peft_lab.runs.kept import START
from peft_lab.runs.record import inputs_of
from peft_lab.runs.store import Run
from peft_lab.takeaway import card
from peft_lab.takeaway.applied import Applied, applied
from peft_lab.takeaway.facts import RunFacts, RunOutcome, gather, outcome
from peft_lab.takeaway.generator import ROW_MARK, WIDTH, as_notebook, as_script, fill, literal, row_lines
from peft_lab.training.evaluation import ROWS_AT_ONCE
from peft_lab.training.tasks import made, orders
from peft_lab.training.tasks.own import OwnTask

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip file: equal runs make equal files
_PATHS = ("base_model_name_or_path", "tokenizer_name_or_path")


def write_papers(run: Run) -> None:
    """Write model card and licences into a run's adapter folder, and the base's public name into its config.

    Called by the process that trained, which has the model's shape and torch. Skips a run without adapter.
    Raises what :func:`~peft_lab.takeaway.facts.outcome` raises.
    """
    if _has_adapter(run):
        for name, text in _papers(outcome(run, resolve(run.spec.model))).items():
            with disk.replacing(run.adapter / name) as scratch:
                scratch.write_text(text, "utf-8")


def adapter_zip(run: Run) -> bytes:
    """Return the adapter's folder with model card and licences as a zip file, also for a run of an older version.
    Raises BadInput if the run saved no adapter; RunError if the adapter is damaged."""
    facts = gather(run)
    folder = run.adapter
    if not _has_adapter(run):
        raise BadInput(f"'{facts.run.id}' saved no adapter, so there is none to export.", "run")
    kept.kept_adapter(folder.parent)
    texts = _papers(facts)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if name not in texts:
                # Weights do not compress.
                _add(archive, f"{facts.run.id}/{name}", path.read_bytes(), zipfile.ZIP_STORED)
        for name, text in texts.items():
            _add(archive, f"{facts.run.id}/{name}", text.encode(), zipfile.ZIP_DEFLATED)
        if facts.spec.start is not None:  # from which the run's script starts
            _add(archive, f"{facts.run.id}/{START}", Path(facts.spec.start).read_bytes(), zipfile.ZIP_STORED)
    return made.getvalue()


def _has_adapter(run: Run) -> bool:
    return all((run.adapter / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE))


def _papers(known: RunOutcome) -> Mapping[str, str]:
    """Return the names and texts of the files that go with the weights."""
    return {
        "README.md": card.model_card(known),
        "LICENSES.md": f"# Licences\n\n{card.licences(known)}",
        CONFIG_FILE: _config(known.run.adapter, known.hub_id),
    }


def _config(folder: Path, hub_id: str) -> str:
    """Return the adapter's config with the base's public name: a local folder means nothing elsewhere."""
    config = read_any_config(folder)
    for name in _PATHS:
        if config.get(name):
            config[name] = hub_id
    return json.dumps(config, indent=2) + "\n"


def _add(archive: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = method
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


# ----------------------------------------
# A run's adapter as a folder that the adapters library loads: ``model.load_adapter(folder)``.


FILE = "adapters-library.zip"


def require_adapters_library(run: Run) -> RunOutcome:
    """Return the facts of a run whose adapter the library supports; reads no tensors. Raises BadInput if it has no
    adapter, or one of a method or at a place that the library does not support."""
    known = outcome(run)
    if known.method.slug != "adapters":
        raise BadInput(
            f"'{run.id}' trained {known.method.title}. Only bottleneck adapters can be exported to the adapters "
            "library.",
            "run",
        )
    if not _has_adapter(run):
        raise BadInput(f"'{run.id}' saved no adapter, so there is none to export.", "run")
    adapters_library.content_of(known.entry.shape, known.values, known.spec.task, "", "")
    kept.kept_adapter(run.folder)
    return known


def write_library_folder(run: Run, folder: Path) -> None:
    """Write the folder. Raises what :func:`require_adapters_library` raises, and OSError."""
    known = require_adapters_library(run)
    labels = known.task.labels if known.classifies else ()
    shape, name = known.entry.shape, known.spec.task
    adapters_library.write_files(
        folder, run.adapter, shape, known.values, name, known.hub_id, tuple(labels), known.task.per_token
    )


@in_person
def zipped_library_folder(identity: str) -> str:
    """Make the folder as a zip file in the run's folder, once; return its path. For a worker: it needs torch.

    Raises what :func:`write_library_folder` raises.
    """
    run = store.get(identity)
    path = run.folder / FILE
    if not path.is_file():
        with tempfile.TemporaryDirectory(dir=run.folder, prefix=".library-") as scratch:
            write_library_folder(run, Path(scratch) / identity)
            made = Path(scratch) / FILE
            with zipfile.ZipFile(made, "w") as archive:
                for file in sorted((Path(scratch) / identity).iterdir()):
                    archive.write(file, f"{identity}/{file.name}")
            made.replace(path)
    return str(path)


def library_zip(run: Run) -> bytes:
    """Return the folder as a zip file, made in a worker. Raises what :func:`write_library_folder` raises."""
    from peft_lab.core import inspector

    require_adapters_library(run)
    path = Path(inspector.get_inspector(inspector.Worker.ANSWERS).ask(zipped_library_folder, run.id))
    return path.read_bytes()


def script(run: Run) -> str:
    """Return a Python file that repeats an ended run, including its rows, without this package. Raises BadInput if the
    run has no result, or the plain libraries cannot repeat it, with the reason; RunError if a folder cannot be read;
    AssetError if data must be downloaded again."""
    facts = gather(run)
    return as_script(fill("run.py.j2", notebook=False, **_context(facts)), (*facts.train, *facts.test))


def notebook(run: Run) -> str:
    """Return the same as the JSON text of a Jupyter notebook. Raises what :func:`script` raises."""
    return as_notebook(fill("run.py.j2", notebook=True, **_context(gather(run))), run.id)


def model_card(run: Run) -> str:
    """Return the README.md of the run's adapter folder, in Hugging Face's format. Raises BadInput if settings are no
    longer valid; RunError if a folder cannot be read."""
    return card.model_card(outcome(run))


def _context(facts: RunFacts) -> dict[str, Any]:
    how = applied(facts.method, facts.entry, facts.values, facts.call, facts.task_type)
    return {
        "run": facts,
        "spec": facts.spec,
        "task": facts.task,
        "entry": facts.entry,
        "how": how,
        "start": start_of(facts),
        "requirements": requirements(facts, how),
        "rows_at_once": ROWS_AT_ONCE[facts.task.kind],
        # In a raw string between ''': JSON has another way to write that quote.
        "row_lines": "\n".join(row_lines((*facts.train, *facts.test))).replace("'''", r"\u0027\u0027\u0027"),
        "ROW_MARK": ROW_MARK,
        # of a learner's own folder, by name
        "same_files": (inputs_of(facts.run.events()) or {}).get(facts.spec.model, {})
        if facts.unnamed
        else {},
        "decoder_start": decoder_start(facts.entry),
        "judge": _judge(facts) if facts.scored else None,
        **asset_context(facts.asset),
        **_images(facts),
        **_figures(facts),
    }


def requirements(facts: RunFacts, how: Applied) -> list[str]:
    """Return the packages to install by pip, at the run's versions if known."""
    names = ["torch", "transformers", *how.libraries]
    if how.quantization:
        names += ["bitsandbytes", "accelerate"]
    if facts.task.images:
        names.append("pillow")
    if facts.asset and facts.asset.gguf:
        names.append("gguf")
    # A version such as 2.13.0+cpu names a build in one index; every index has the number before the plus.
    known = {name: str(version).partition("+")[0] for name, version in facts.record["packages"].items()}
    return [f"{name}=={known[name]}" if name in known else name for name in dict.fromkeys(names)]


def _figures(facts: RunFacts) -> dict[str, Any]:
    losses = textwrap.fill(", ".join(f"{loss:.6f}" for loss in facts.record["loss"]), WIDTH - 4)
    scored = facts.record["evaluation"]
    metric = facts.task.metric
    scores = [
        f"({scored[which][metric]:.6f}, {scored[which]['loss']:.6f})"
        for which in ("before", "after")
        if facts.scored
    ]
    return {"run_losses": textwrap.indent(losses, "    "), "run_scores": scores}


def _judge(facts: RunFacts) -> str:
    """Return how an answer is judged, as in the name of a template. Raises BadInput for other tasks."""
    task = facts.task
    if task.per_token:
        return "spans"
    if facts.classifies:
        if task.metric != "accuracy":
            metric = task.metric.replace("_", " ")
            raise BadInput(f"A script cannot score '{task.name}' by {metric}.", "task")
        return "classes"
    kinds = ((orders.Orders, "json"), (orders.Fields, "fields"), (made.ShipsLog, "style"))
    judge = next((judge for kind, judge in kinds if isinstance(task, kind)), None)
    if judge is None and isinstance(task, OwnTask):
        judge = "chat" if facts.chats else "own"
    if judge is None:
        raise BadInput(f"A script cannot score the answers of '{task.name}'.", "task")
    return judge


# ----------------------------------------
# Weights and images that are downloaded.


#: The functions that convert an asset's weights, by converter; the last one is the entry point.
_CONVERTERS: dict[str, tuple[Any, ...]] = {
    "dequantise": (dequantise.dequantise,),
    "onnx_weights": onnx_weights.PARTS,
    "onnx_vision": onnx_vision.PARTS,
}


def asset_context(asset: Asset | None) -> dict[str, Any]:
    """Return what ``asset.py.j2`` reads."""
    context: dict[str, Any] = {"asset": asset, "default_home": default_home(), "packaged": False}
    if asset is None or not (asset.gguf or asset.onnx):
        return context
    wanted = asset.onnx or (str(asset.gguf),)
    members = [next(name for name, target in asset.members.items() if target == file) for file in wanted]
    pinned = {"package": f"{asset.package}=={asset.version}", "members": members}
    return {**context, "packaged": True, "pinned": pinned, "converters": _CONVERTERS[asset.converter]}


def default_home() -> str:
    """Return the default of PEFT_LAB_HOME relative to the home folder, so that the file contains no user name."""
    from platformdirs import user_data_path

    path = user_data_path("peft-lab", appauthor=False)
    return path.relative_to(Path.home()).as_posix() if path.is_relative_to(Path.home()) else path.as_posix()


def _images(facts: RunFacts) -> dict[str, Any]:
    """Return what ``images.py.j2`` reads. Raises BadInput if the images cannot be got."""
    task = facts.task
    if not task.images:
        return {"images_at": ""}
    eye = images.eye_of(
        images.size_of(facts.entry.config), finder(weights_of(facts.spec.model))(images.PROCESSOR)
    )
    if isinstance(task, OwnTask):
        source: dict[str, Any] = {"zip": task.place, "digest": task.sha256}
        return {"images_at": "in the zip that the run saved", "eye": eye, "images": source}
    if not isinstance(task, made.Digits):
        raise BadInput(f"A script cannot get the images of '{task.name}'.", "task")
    asset = ASSETS[task.asset]
    source = {
        "zip": None,
        "package": f"{asset.package}=={asset.version}",
        "package_digest": asset.sha256,
        "member": next(name for name, target in asset.members.items() if target == made.DIGITS_FILE),
        "digest": task.inputs()[asset.name][made.DIGITS_FILE],
        "folder": asset.folder,
        "file": made.DIGITS_FILE,
    }
    place = f"in the package {asset.package}, which is fetched if they are not on this machine"
    return {"images_at": place, "eye": eye, "images": source}


# ----------------------------------------
# A run that trained on from an adapter of the adapters library.


def start_of(facts: RunFacts) -> dict[str, Any] | None:
    """Return what ``start.py.j2`` reads; ``None`` if the run did not start from an adapter. Raises BadInput if the
    run's copy is missing, or differs from the one that was trained on."""
    if facts.spec.start is None:
        return None
    place = Path(facts.spec.start)
    content, held = adapters_library.read_content(place), adapters_library.held_files(place)
    digest = fetching.soundness_digest(place)
    noted = (inputs_of(facts.run.events()) or {}).get("start", {}).get(place.name, digest)
    if noted != digest:
        raise BadInput(
            f"{place.name} of '{facts.run.id}' has changed since the run started from it.", "start"
        )
    adapter, reader = _reading(held, adapters_library.WEIGHTS)
    head, other = _reading(held, adapters_library.HEAD) if facts.classifies else ("{}", reader)
    return {
        "path": str(place),
        "digest": digest,
        "name": str(content.get("name")),
        "adapter": adapter,
        "head": head,
        "imports": sorted({reader, other}),
    }


def _reading(held: frozenset[str], names: tuple[str, str]) -> tuple[str, str]:
    """Return the expression that reads the first existing file of two, and its import."""
    safe, pickled = names
    if safe in held:
        return f"load(packed.read({literal(safe)}))", "from safetensors.torch import load"
    return f"torch.load(io.BytesIO(packed.read({literal(pickled)})), weights_only=True)", "import io"
