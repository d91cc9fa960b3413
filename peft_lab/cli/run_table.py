"""A run's record as the command line shows it, for whatever command reports one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peft_lab import units
from peft_lab.cli import output
from peft_lab.runs import said
from peft_lab.tasks import pictures
from peft_lab.tasks.titles import each_of


def result_lines(result: Mapping[str, Any]) -> list[Any]:
    """A run's record for a person, ended or not."""
    spec, metric, memory, loss = result["spec"], result["metric"], result["memory"] or {}, result["loss"]
    each = "image" if str(spec["own_data"]).endswith(pictures.ZIP) else each_of(spec["task"])
    rows: list[tuple[str, str, str]] = []
    if result["trainable"] is not None:
        rows.append(("trainable parameters", units.count(result["trainable"]), "counted"))
        if result["head"]:
            rows.append(("and of the task's head", units.count(result["head"]), "counted"))
    rows.append(("steps", f"{result['steps']:,} of {spec['steps']:,}", ""))
    if loss:
        rows.append(("loss, first to last step", f"{loss[0]:.3f} to {loss[-1]:.3f}", "measured"))
    for which in ("before", "after"):
        if metric[which] is not None:
            label = f"{metric['name'].replace('_', ' ')} {which}, {metric['rows']:,} held-out {each}s"
            rows.append((label, f"{metric[which]:.3f}", "measured"))
    rows.append(("training time", units.seconds(result["seconds"]), "measured"))
    for key, unit in (("steps_per_second", "steps/s"), ("tokens_per_second", "tokens/s")):
        if result[key] is not None:
            rows.append(("speed", f"{result[key]:,.4g} {unit}", "measured"))
    if "peak_bytes" in memory:
        rows.append(("peak of one step's tensors", units.size(memory["peak_bytes"]), "measured"))
    title = f"{spec['method']} on {spec['model']}, task {spec['task']}: {result['status']}"
    if result.get("simulated_peak_bytes"):
        rows.append(("the same step", units.size(result["simulated_peak_bytes"]), "simulated"))
    figures = output.table(title, {"": "left", "figure": "right", "source": "left"}, rows)
    expected = result.get("expected")
    took = [] if expected is None else [said.beside(expected["seconds"], expected["took"])]
    lines = [*took, f"run: {result['run_id']}", f"adapter: {result['adapter_dir'] or 'none saved'}"]
    return [figures, *_answers(result["probes"]), *filter(None, lines)]


def _answers(probes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the models said to the texts of ``--probe``, measured as all that a run found; an answer may be long."""
    return [
        f"Asked: {' '.join(each['text'].split())}\n  base:  {_said(each['before'])}\n  tuned: {_said(each['after'])}"
        for each in probes
    ]


def _said(answer: Mapping[str, Any] | None) -> str:
    """In one line, with its probability where it is one of some labels."""
    if answer is None:
        return "not asked yet"
    words, scores = " ".join(answer["answer"].split()), answer["scores"]
    return f"{words} ({scores[answer['answer']]:.1%})" if scores else words
