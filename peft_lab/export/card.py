"""The model card of an adapter: README.md with the front matter that Hugging Face reads, every figure from the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from peft_lab import units
from peft_lab.export.calls import after_loading, literal, quantisation_source
from peft_lab.export.facts import Facts
from peft_lab.export.layout import import_lines
from peft_lab.export.method_code import bridge_code
from peft_lab.export.prompt_code import DEEP_IMPORTS, deep_define, is_deep_encoder
from peft_lab.methods.bitfit import BitFit
from peft_lab.methods.full import FullFineTuning
from peft_lab.methods.knobs import read


def model_card(facts: Facts) -> str:
    parts = [_front(facts), _about(facts), _results(facts), _method(facts), _training(facts), _memory(facts)]
    parts += [_loading(facts), _licences(facts), _versions(facts)]
    return "\n".join(part for part in parts if part)


def _front(facts: Facts) -> str:
    fields: dict[str, Any] = {
        "base_model": facts.hub_id,
        "library_name": "transformers" if facts.call is None else "peft",
        "pipeline_tag": "text-classification" if facts.classifies else "text-generation",
        "tags": [facts.method.slug, "peft-lab"],
    }
    return "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items()) + "---\n"


def _about(facts: Facts) -> str:
    task, entry = facts.task, facts.entry
    note = f" {facts.asset.note}" if facts.asset else ""
    noun = "A fine-tuned copy" if isinstance(facts.method, FullFineTuning) else "An adapter"
    return (
        f"# {facts.method.title} on {entry.title}: {task.title}\n\n"
        f"{noun} trained by one short run in PEFT Lab, a place to learn how such methods work. "
        f"It is an example, tested on nothing but the rows below.\n\n"
        f"- Base model: {entry.title} ({entry.source}).{note}\n"
        f"- Method: {facts.method.title}. {facts.method.summary} {facts.method.paper}.\n"
        f"- Task: {task.title}. {task.description}\n"
        f"- Run: `{facts.run.id}`\n"
    )


def _results(facts: Facts) -> str:
    if not facts.scored:
        return "## Result\n\nThe run was not scored on held-out rows.\n"
    before, after = facts.record["evaluation"]["before"], facts.record["evaluation"]["after"]
    names = [
        facts.task.metric,
        *(name for name in before if name not in (facts.task.metric, "rows", "seconds")),
    ]
    rows = [(name.replace("_", " "), f"{before[name]:.4f}", f"{after[name]:.4f}") for name in names]
    untrained = (
        " The base's classification head is untrained, so its figures are those of guessing."
        if facts.classifies
        else ""
    )
    return (
        f"## Result (measured)\n\n{_table(('', 'base', 'tuned'), rows)}\n"
        f"On {after['rows']:,} held-out rows. {facts.task.metric_help}{untrained}\n"
    )


def _method(facts: Facts) -> str:
    head = facts.record["head"]
    beside = f" and {units.count(head)} in the classification head" if head else ""
    said = read(facts.method.knobs, facts.values)
    rows = [
        (knob.label, f"`{knob.name}`", _shown(said[knob.name]))
        for knob in facts.method.knobs
        if knob.name in said and said[knob.name] != ()
    ]
    table = f"\n{_table(('setting', 'name', 'value'), rows)}" if rows else ""
    return (
        "## Settings of the method\n\n"
        f"{units.count(facts.record['trainable'])} trained parameters (counted){beside}, of "
        f"{units.count(facts.entry.parameters)} in the base.\n{table}"
    )


def _training(facts: Facts) -> str:
    spec, record = facts.spec, facts.record
    stopped = f"{facts.made} of {spec.steps} (stopped)" if facts.made < spec.steps else str(spec.steps)
    rows = [
        ("steps", stopped),
        ("rows a step", spec.batch),
        ("seed", spec.seed),
        ("learning rate", f"{spec.learning_rate:g}, {spec.schedule} after {spec.warmup:.0%} of warm-up"),
        *([("learning rate of the head", f"{spec.head_learning_rate:g}")] if spec.head_learning_rate else []),
        ("optimizer", f"AdamW, weight decay {spec.weight_decay:g}, gradients clipped at {spec.clip:g}" if spec.clip
            else f"AdamW, weight decay {spec.weight_decay:g}, gradients not clipped"),
        ("longest row", f"{spec.max_length} tokens"),
        ("precision", f"{facts.dtype} on {record['device']}{', trained parameters kept in float32' * facts.mixed}"),
        ("loss, first and last step", f"{record['loss'][0]:.4f} and {record['loss'][-1]:.4f}"),
        ("time", f"{units.seconds(record['seconds'])} of steps"),
    ]  # fmt: skip
    return f"## Training\n\n{_table(('', ''), rows)}"


def _memory(facts: Facts) -> str:
    memory = facts.record.get("memory") or {}
    if "peak_bytes" not in memory:
        return ""
    parts = ", ".join(f"{name} {units.size(size)}" for name, size in memory["parts"].items())
    peak = units.size(memory["peak_bytes"])
    return f"## Memory (measured)\n\nTensors of one training step at their peak: {peak} ({parts}).\n"


def _loading(facts: Facts) -> str:
    note = ""
    if facts.asset and facts.asset.gguf:
        note = (
            "\nThe weights under this name were never in 4 bits, unlike those of the run, so answers differ a little. "
            f"The exact ones: `python -m peft_lab fetch {facts.asset.name}`, then that folder in place of the name.\n"
        )
    return f"## Loading\n\n```python\n{loading_code(facts)}```\n{note}"


def loading_code(facts: Facts) -> str:
    """Python text that leaves the tuned model in ``model``; the adapter is in a folder named after the run."""
    kind = "SequenceClassification" if facts.classifies else "CausalLM"
    imports = ["torch", f"transformers:AutoModelFor{kind}", "transformers:AutoTokenizer"]
    options = f", num_labels={len(facts.task.labels)}" if facts.classifies else ""
    how = facts.method.quantization(facts.values)
    before = settle = ""
    if how is not None:
        settle, needed = after_loading(how)
        imports += ["transformers:BitsAndBytesConfig", *needed]
        before, options = f"stored = {quantisation_source(how)}\n", f"{options}, quantization_config=stored"
    name, folder = literal(facts.hub_id), literal(facts.run.id)
    load = f"model = AutoModelFor{kind}.from_pretrained({name}{options}, dtype=torch.{facts.dtype})\n"
    bridge = attach = ""
    deep = is_deep_encoder(facts.method, facts.call, facts.values)
    if facts.call is not None:
        imports.append("peft:PeftModel")
        attach = f"model = PeftModel.from_pretrained(model, {folder})\n"
        if facts.call.virtual_tokens and not facts.classifies:
            imports.append("typing:Any")
            bridge = f"\n{bridge_code()}\n\n"
            attach += "bridge_cache_names(model)\n"
    elif isinstance(facts.method, FullFineTuning | BitFit) or deep:
        imports += ["pathlib:Path", "safetensors.torch:load_file"]
        if deep:
            imports += DEEP_IMPORTS
            bridge = f"\n{deep_define()}\n\n"
            attach = f'add_prompts(model, {facts.values["num_virtual_tokens"]}, "zero")\n'
        attach += (
            f'state = load_file(Path({folder}) / "adapter_model.safetensors")\n'
            "unknown = model.load_state_dict(state, strict=False).unexpected_keys\nassert not unknown\n"
        )
    else:
        imports += ["pathlib:Path", "peft_lab.methods:get_method"]
        loader = f"get_method({literal(facts.method.slug)}).load"
        attach = f"model = {loader}(model, Path({folder}))  # PEFT Lab's own loader\n"
    labels = f"labels = {literal(facts.task.labels)}\n" if facts.classifies else ""
    tokenizer = f"tokenizer = AutoTokenizer.from_pretrained({name})\n"
    return (
        f"{import_lines(imports)}\n\n{bridge}{before}{load}{settle}{attach}model.eval()\n{tokenizer}{labels}"
    )


def _licences(facts: Facts) -> str:
    return f"## Data and licences\n\n{licences(facts)}"


def licences(facts: Facts) -> str:
    """What the adapter was made from, and under which terms those are."""
    return (
        f"- Base model {facts.entry.title}: {facts.entry.license}. {facts.entry.source}.\n"
        f"- Data '{facts.task.title}': {facts.task.license}. {facts.task.source}\n"
        f"- {facts.method.title}: {facts.method.paper}.\n"
        "- The trained parameters are yours, within the terms of the base model and the data.\n"
    )


def _versions(facts: Facts) -> str:
    rows = [(name, version) for name, version in facts.record["packages"].items()]
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
