"""Write a run's script and notebook from the same sections."""

from __future__ import annotations

import textwrap

from peft_lab.takeaway import base_code, image_code, loop_code, task_code
from peft_lab.takeaway.base_code import start_code
from peft_lab.takeaway.facts import Facts
from peft_lab.takeaway.layout import WIDTH, Section, as_notebook, as_script
from peft_lab.takeaway.method_code import Applied, applied

_INDENT = 8


def script(facts: Facts) -> str:
    how = applied(facts)
    return as_script(_header(facts, how, "script"), _sections(facts, how), (*facts.train, *facts.test))


def notebook(facts: Facts) -> str:
    how = applied(facts)
    return as_notebook(_header(facts, how, "notebook"), _sections(facts, how), facts.run.id)


def _sections(facts: Facts, how: Applied) -> list[Section]:
    sections = [base_code.settings(facts), base_code.data(facts), base_code.base(facts), _method(facts, how)]
    sections += [loop_code.precision(facts), task_code.batches(facts), loop_code.order(facts)]
    sections += [loop_code.loop(facts), loop_code.saving(facts, how.save, how.save_imports)]
    if facts.scored:
        sections.append(task_code.scoring(facts))
    return [*sections, loop_code.comparing(facts)]


def _method(facts: Facts, how: Applied) -> Section:
    method = facts.method
    head = " The classification head is trained as well." if facts.classifies else ""
    define = f"{how.define.strip()}\n\n\n" if how.define else ""
    code = f"{define}model = load_base()\nset_seed(SEED)  # of the method's own start\n{how.code}"
    prose = f"{method.summary}{head} {method.paper}."
    started = start_code(facts)
    if started is None:
        return Section(method.title, prose, code, how.imports)
    code = f"{started.define.strip()}\n\n\n{code}{started.put}"
    return Section(
        method.title,
        f"{prose} It is trained on from an adapter that the adapters library saved: ADAPTER names the run's copy of "
        "it, a zip. Elsewhere set it to yours, or give a script the path when you start it.",
        f"{started.find}\n\n{code}",
        (*how.imports, *started.imports),
        notebook_code=f"{started.notebook_find}\n\n{code}",
    )


def requirements(facts: Facts, how: Applied) -> list[str]:
    """Return the packages to install by pip, at the run's versions if known."""
    names = ["torch", "transformers", *how.libraries]
    if facts.method.quantization(facts.values):
        names += ["bitsandbytes", "accelerate"]
    if facts.task.images:
        names.append("pillow")
    if facts.asset and facts.asset.gguf:
        names.append("gguf")
    versions = facts.record["packages"]
    # A version such as 2.13.0+cpu names a build in one index; every index has the number before the plus.
    known = {name: str(version).partition("+")[0] for name, version in versions.items()}
    return [f"{name}=={known[name]}" if name in known else name for name in dict.fromkeys(names)]


def _header(facts: Facts, how: Applied, what: str) -> str:
    spec, task = facts.spec, facts.task
    stopped = f", stopped after {facts.made}" if facts.made < spec.steps else ""
    scores = ", scores base and tuned model" if facts.scored else ""
    ours = " and PEFT Lab itself: run it in its folder, or put that on PYTHONPATH" if how.ours else ""
    size = f"{spec.steps} steps of {spec.batch} rows{stopped}, seed {spec.seed}"
    lines = {
        "Run": f"{facts.run.id}: task '{spec.task}' ({task.title}), {size}, {facts.dtype} on {facts.record['device']}.",
        "Does": "What the run did, step by step: loads the base model, applies the method, trains, saves the result "
        f"in a folder named after the run{scores} and compares with the figures of the run.",
        "Rows": f"{len(facts.train):,} to learn from, {len(facts.test):,} held out, {_where(facts, what)}. "
        f"{task.source.rstrip('.')}. License: {task.license}.",
        "Base": f"{facts.entry.title}, {facts.entry.source}. License: {facts.entry.license}.",
        "Needs": f"Python 3.11 or newer{ours}, and",
    }
    filled = [_line(label, text) for label, text in lines.items()]
    # On one line, however long, so that it can be copied.
    install = f"{' ' * _INDENT}pip install {' '.join(requirements(facts, how))}"
    return "\n".join(
        [f"{facts.method.title} on {facts.entry.title}: a PEFT Lab run, repeated", "", *filled, install]
    )


def _where(facts: Facts, what: str) -> str:
    return image_code.where_images_are(facts) if facts.task.images else f"inside this {what}"


def _line(label: str, text: str) -> str:
    filled = textwrap.wrap(text, WIDTH - _INDENT, break_on_hyphens=False, break_long_words=False)
    return "\n".join(f"{label if not number else '':{_INDENT}}{line}" for number, line in enumerate(filled))
