"""Write an adapter's model card: README.md with Hugging Face's front matter, every figure from the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from peft_lab.ask.field import read
from peft_lab.core import units
from peft_lab.methods.adapters.spec import Adapters
from peft_lab.methods.bitfit.spec import BitFit
from peft_lab.methods.full.spec import FullFineTuning
from peft_lab.methods.ptuning.spec import DEEP_TYPE
from peft_lab.methods.shared.peft_backed import WEIGHTS_FILE, PeftMethod, read_any_config
from peft_lab.models.images import words
from peft_lab.takeaway.calls import after_loading, literal, quantisation_source
from peft_lab.takeaway.facts import RunOutcome
from peft_lab.takeaway.layout import import_lines
from peft_lab.takeaway.method_code import DEEP_IMPORTS, adapters_code, bridge_code, deep_define

# ----------------------------------------
# The code of a model card: it loads an adapter with the plain libraries and runs in the adapter's folder.


@dataclass(frozen=True)
class _Attached:
    """Code that loads the saved tensors into ``model``, its imports, and the definitions that it uses."""

    code: str
    imports: tuple[str, ...]
    define: str = ""


def is_peft(known: RunOutcome) -> bool:
    """Return whether PEFT itself reads the adapter. Raises BadInput if there is none."""
    return isinstance(known.method, PeftMethod) and _saved_type(known) != DEEP_TYPE


def loading_code(known: RunOutcome) -> str:
    """Return Python text that leaves the tuned model in ``model``. Raises BadInput for a run without adapter."""
    kind = known.loader
    reader = "" if known.task.images else "tokenizer = AutoTokenizer.from_pretrained(BASE)\n"
    imports = ["torch", f"transformers:AutoModelFor{kind}"]
    options = f", num_labels={len(known.task.labels)}" if known.classifies else ""
    if known.task.images or (
        known.classifies and not known.entry.live
    ):  # a head for other classes is replaced
        options += ", ignore_mismatched_sizes=True"
    if not known.task.images:
        imports.append("transformers:AutoTokenizer")
    how = known.method.quantization(known.values)
    before = settle = ""
    if how is not None:
        settle, needed = after_loading(how)
        imports += ["transformers:BitsAndBytesConfig", *needed]
        before, options = f"stored = {quantisation_source(how)}\n", f"{options}, quantization_config=stored"
    attached = _attached(known)
    define = f"\n\n{attached.define.strip()}\n\n" if attached.define else ""
    labels = f"labels = {literal(known.task.labels)}\n" if known.classifies else ""
    return (
        f"{import_lines([*imports, *attached.imports])}\n\n"
        f"BASE = {literal(known.hub_id)}\n"
        f'ADAPTER = "."  # the folder that this file is in\n{define}\n'
        f"{before}model = AutoModelFor{kind}.from_pretrained(BASE{options}, dtype=torch.{known.dtype})\n"
        f"{settle}{attached.code}model.eval()\n{reader}{labels}"
    )


def _saved_type(known: RunOutcome) -> str:
    return str(read_any_config(known.run.adapter).get("peft_type"))


def _attached(known: RunOutcome) -> _Attached:
    method, values = known.method, known.values
    if is_peft(known):
        code, imports = "model = PeftModel.from_pretrained(model, ADAPTER)\n", ("peft:PeftModel",)
        if "num_virtual_tokens" not in values or known.classifies:
            return _Attached(code, imports)
        return _Attached(f"{code}bridge_cache_names(model)\n", (*imports, "typing:Any"), bridge_code())
    if isinstance(method, FullFineTuning | BitFit):
        return _Attached(_READ + _FILL, _READS)
    if _saved_type(known) == DEEP_TYPE:
        code = f'add_prompts(model, {values["num_virtual_tokens"]}, "zero")\n'
        return _Attached(code + _READ + _FILL, (*_READS, *DEEP_IMPORTS), deep_define())
    if isinstance(method, Adapters):
        define, places = adapters_code(method, known.entry.shape, values)
        return _Attached(f"DEVICE = model.device\n{places}{_READ}{_RENAME}{_FILL}", (*_READS, "re"), define)
    return _Attached(
        f"model = get_method({literal(method.slug)}).load(model, Path(ADAPTER))  # PEFT Lab has to be installed\n",
        ("pathlib:Path", "peft_lab.methods:get_method"),
    )


_READS = ("pathlib:Path", "safetensors.torch:load_file")
_READ = f"state = load_file(Path(ADAPTER) / {literal(WEIGHTS_FILE)})\n"
_RENAME = """\
# In PEFT Lab a host holds several adapters by name; here it holds one.
state = {name.replace(".adapters.default.", "."): tensor for name, tensor in state.items()}
"""
_FILL = "unknown = model.load_state_dict(state, strict=False).unexpected_keys\nassert not unknown\n"


def model_card(known: RunOutcome) -> str:
    parts = [_front(known), _about(known), _results(known), _method(known), _training(known), _memory(known)]
    parts += [_loading(known), _licences(known), _versions(known)]
    return "\n".join(part for part in parts if part)


def _front(known: RunOutcome) -> str:
    # The Hub accepts no card whose base is a folder.
    fields: dict[str, Any] = {} if known.unnamed else {"base_model": known.hub_id}
    fields |= {
        "library_name": "peft" if is_peft(known) else "transformers",
        "pipeline_tag": "image-classification"
        if known.task.images
        else "text-classification"
        if known.classifies
        else "text2text-generation"
        if known.apart
        else "text-generation",
        "tags": [known.method.slug, "peft-lab"],
    }
    return "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items()) + "---\n"


def _about(known: RunOutcome) -> str:
    task, entry = known.task, known.entry
    note = f" {known.asset.note}" if known.asset else ""
    noun = "A fine-tuned copy" if isinstance(known.method, FullFineTuning) else "An adapter"
    return (
        f"# {known.method.title} on {entry.title}: {task.title}\n\n"
        f"{noun} trained by one short run in PEFT Lab, a place to learn how such methods work. "
        f"It is an example, tested on nothing but the rows below.\n\n"
        f"- Base model: {entry.title} ({_where(known)}).{note}\n"
        f"- Method: {known.method.title}. {known.method.summary} {known.method.paper}.\n"
        f"- Task: {task.title}. {task.description}\n"
        f"- Run: `{known.run.id}`\n"
    )


def _where(known: RunOutcome) -> str:
    return "a folder of whoever trained it" if known.unnamed else known.entry.source


def _results(known: RunOutcome) -> str:
    if not known.scored:
        return "## Result\n\nThe run was not scored on held-out rows.\n"
    before, after = known.record["evaluation"]["before"], known.record["evaluation"]["after"]
    names = [
        known.task.metric,
        *(name for name in before if name not in (known.task.metric, "rows", "seconds")),
    ]
    rows = [(name.replace("_", " "), f"{before[name]:.4f}", f"{after[name]:.4f}") for name in names]
    untrained = (
        " The base's classification head is untrained, so its figures are those of guessing."
        if known.classifies
        else ""
    )
    return (
        f"## Result (measured)\n\n{_table(('', 'base', 'tuned'), rows)}\n"
        f"On {after['rows']:,} held-out {known.task.each}s. {known.task.metric_help}{untrained}\n"
    )


def _method(known: RunOutcome) -> str:
    head = known.record["head"]
    beside = f" and {units.count(head)} in the classification head" if head else ""
    settings = read(known.method.knobs, known.values)
    rows = [
        (knob.label, f"`{knob.name}`", _shown(settings[knob.name]))
        for knob in known.method.knobs
        if knob.name in settings and settings[knob.name] != ()
    ]
    table = f"\n{_table(('setting', 'name', 'value'), rows)}" if rows else ""
    return (
        "## Settings of the method\n\n"
        f"{units.count(known.record['trainable'])} trained parameters (counted){beside}, of "
        f"{units.count(known.entry.parameters)} in the base.\n{table}"
    )


_CONVERSATIONS = (
    "written by the tokenizer's chat template (without one: `User: …`, `Assistant: …` in lines, the end token after an "
    "answer); the loss is on the answers"
)


def _training(known: RunOutcome) -> str:
    spec, record = known.spec, known.record
    stopped = f"{known.made} of {spec.steps} (stopped)" if known.made < spec.steps else str(spec.steps)
    rows = [
        *([("trained on from", "an adapter that the adapters library saved")] if spec.start else []),
        ("steps", stopped),
        ("batch size", spec.batch),
        ("seed", spec.seed),
        ("learning rate", f"{spec.learning_rate:g}, {spec.schedule} after {spec.warmup:.0%} of warm-up"),
        *([("learning rate of the head", f"{spec.head_learning_rate:g}")] if spec.head_learning_rate else []),
        ("optimizer", f"AdamW, weight decay {spec.weight_decay:g}, gradients clipped at {spec.clip:g}" if spec.clip
            else f"AdamW, weight decay {spec.weight_decay:g}, gradients not clipped"),
        *([("conversations", _CONVERSATIONS)] if known.task.kind == "chat" else []),
        ("image", words(known.entry.config)) if known.task.images else ("longest row", f"{spec.max_length} tokens"),
        ("precision", f"{known.dtype} on {record['device']}{', trained parameters kept in float32' * known.mixed}"),
        ("loss, first and last step", " and ".join(f"{record['loss'][at]:.4f}" for at in (0, -1) if record["loss"])),
        ("time", f"{units.seconds(record['seconds'])} of steps"),
    ]  # fmt: skip
    return f"## Training\n\n{_table(('', ''), rows)}"


def _memory(known: RunOutcome) -> str:
    memory = known.record.get("memory") or {}
    if "peak_bytes" not in memory:
        return ""
    parts = ", ".join(f"{name} {units.size(size)}" for name, size in memory["parts"].items())
    peak = units.size(memory["peak_bytes"])
    return f"## Memory (measured)\n\nTensors of one training step at their peak: {peak} ({parts}).\n"


def _loading(known: RunOutcome) -> str:
    notes = []
    if known.unnamed:
        notes.append(
            f"The base model was read from a folder called `{known.hub_id}` and has no public name: put the path of "
            "your copy in place of it.\n"
        )
    if known.asset and known.asset.gguf:
        notes.append(
            "The weights under this name were never in 4 bits, unlike those of the run, so answers differ a little. "
            f"The exact ones: `python -m peft_lab fetch {known.asset.name}`, then that folder in place of the name.\n"
        )
    if known.asset and known.asset.onnx:
        notes.append(
            "The weights under this name are those from before the tuning and the rounding named above, so answers "
            "differ. "
            f"The exact ones: `python -m peft_lab fetch {known.asset.name}`, then that folder in place of the name.\n"
        )
    return "\n".join([f"## Loading\n\n```python\n{loading_code(known)}```\n", *notes])


def _licences(known: RunOutcome) -> str:
    return f"## Data and licences\n\n{licences(known)}"


def licences(known: RunOutcome) -> str:
    """Return the sources of the adapter with their licences."""
    return (
        f"- Base model {known.entry.title}: {known.entry.license}. {_where(known)}.\n"
        f"- Data '{known.task.title}': {known.task.license}. {known.task.source}\n"
        f"- {known.method.title}: {known.method.paper}.\n"
        "- The trained parameters are yours, within the terms of the base model and the data.\n"
    )


def _versions(known: RunOutcome) -> str:
    rows = [(name, version) for name, version in known.record["packages"].items()]
    return f"## Versions\n\n{_table(('package', 'version'), rows)}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", r"\|")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value)
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
