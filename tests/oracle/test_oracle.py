"""The lab's counts against PEFT itself: random tiny models of many architectures, really built, under random settings.

    PEFT_LAB_EXAMPLES=3000 PEFT_LAB_SEED=7 pytest tests/oracle -m slow

What is held equal: trained parameters, all parameters, stored parameters; and the closed formula, or the count says why
not. What PEFT refuses the lab refuses; what only the lab refuses has one of the reasons named here.
"""

from __future__ import annotations

import json
import os
import re
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from peft_lab.core.errors import PeftLabError
from peft_lab.methods import get_method
from peft_lab.methods.counting.count import CountReport, count, count_config
from peft_lab.models.catalogue import REFUSALS, resolve
from peft_lab.models.heads import task_type
from peft_lab.models.shapes import ModelEntry, in_head
from tests.oracle import cases

EXAMPLES = int(os.environ.get("PEFT_LAB_EXAMPLES", "300"))
SEED = int(os.environ.get("PEFT_LAB_SEED", "20261"))
LABELS = 3
# Why the lab refuses what PEFT builds: it would not run, or not mean what is asked for.
OWN_REASONS = {
    "runs nowhere": r"key/value cache|token embeddings of width|which does not fit|carries a state",
    "nothing to train": r"has no biases|has no bias at either",
    "no place": r"output maps of .* are not known|Deep prompts go into",
    "names": r"is an? (Conv1d|Embedding), not a linear map|fits no adapted matrix|has no effect",
    "PiSSA's rank": r"singular vectors",
    "ranks": r"is named as feed-forward but is not among the targets",
}


@dataclass(frozen=True)
class Real:
    """What PEFT built: trained parameters without a head, the head's, all of them, and the saved ones."""

    trainable: int
    head: int
    total: int
    stored: int


def build(entry: ModelEntry, labels: int | None) -> Any:
    """The model with real weights."""
    import transformers

    from peft_lab.models import meta

    config = meta.make_config(entry.config)
    factory: Any = {
        "causal-lm": transformers.AutoModelForCausalLM,
        "encoder": transformers.AutoModel,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
    }[entry.kind]
    if labels is not None:
        config.num_labels = labels
        factory = transformers.AutoModelForSequenceClassification
    torch.manual_seed(0)
    model = factory.from_config(config, dtype=torch.float32)
    if entry.kind == "seq2seq":  # transformers ties every T5 that has no weights yet
        meta.head_apart(model, config)
        torch.nn.init.normal_(model.lm_head.weight)
    return model


def measure(model: Any, state: dict[str, Any]) -> Real:
    head = total = trainable = 0
    for name, parameter in model.named_parameters():
        if in_head(name):
            head += parameter.numel() if parameter.requires_grad else 0
            continue
        total += parameter.numel()
        trainable += parameter.numel() if parameter.requires_grad else 0
    return Real(trainable, head, total, sum(tensor.numel() for tensor in state.values()))


def by_peft(model: Any, config: Any) -> Real:
    from peft import get_peft_model, get_peft_model_state_dict

    adapted: Any = get_peft_model(model, config)
    return measure(adapted, dict(get_peft_model_state_dict(adapted, save_embedding_layers=False)))


def by_the_method(entry: ModelEntry, slug: str, values: dict[str, Any], labels: int | None) -> Real:
    """For methods that PEFT does not have: the method itself on real weights."""
    spec, model = get_method(slug), build(entry, labels)
    task = "SEQ_CLS" if labels is not None else task_type(entry.kind)
    adapted = spec.apply(model, entry.shape, spec.require(entry.shape, values), task)
    return measure(adapted, spec.state(adapted))


def attempt(errors: Any, function: Any, *args: Any) -> tuple[Any, str | None]:
    """The result, or the refusal as text; any error that is none of ``errors`` goes up."""
    try:
        return function(*args), None
    except errors as error:
        return None, f"{type(error).__name__}: {error}"


LAB = (PeftLabError,)
PEFT = (*REFUSALS, PeftLabError, NotImplementedError, AssertionError)


def compare(
    report: CountReport | None, refusal: str | None, real: Real | None, peft: str | None
) -> tuple[str, str | None]:
    """How it ended, and what is wrong with that or ``None``.

    Args:
        report, refusal: the lab's answer. real, peft: PEFT's.
    """
    if report is None:
        assert refusal is not None
        if real is None:
            return "refused by both", None
        if any(re.search(reason, refusal) for reason in OWN_REASONS.values()):
            return "refused by the lab", None
        return "wrong", f"the lab refuses what PEFT builds ({real}): {refusal}"
    if real is None:
        return "wrong", f"the lab counts {report.trainable}, PEFT refuses: {peft}"
    counted = Real(report.trainable, report.head, report.total, report.stored_parameters)
    if counted != real:
        return "wrong", f"counted {counted}, real {real}"
    if report.formula in (None, report.trainable):
        return "counted", None
    return "wrong", report.difference or f"the formula says {report.formula}, the count {report.trainable}"


def one(random: Random, folder: Path, types: list[str]) -> tuple[str, str, str | None]:
    """One example: what was asked, how it ended, and what is wrong with that."""
    from transformers.pytorch_utils import Conv1D

    config = cases.architecture(random)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    name = str(folder)
    entry = resolve(name)
    if random.random() < 0.3:
        content = cases.adapter_config(random, entry.shape, types)
        asked = f"{json.dumps(config)} {json.dumps(content)}"
        report, refusal = attempt(LAB, count_config, name, content)

        def config_on_real() -> Real:
            from peft import PeftConfig

            task = content.get("task_type", task_type(entry.kind))
            return by_peft(build(entry, None), PeftConfig.from_peft_type(**{**content, "task_type": task}))

        real, peft = attempt(PEFT, config_on_real)
        return asked, *compare(report, refusal, real, peft)
    slug = random.choice(cases.METHODS)
    values = cases.settings(random, slug, entry.shape)
    labels = LABELS if entry.kind == "encoder" and random.random() < 0.5 else None
    asked = f"{json.dumps(config)} {slug} {values} labels={labels}"
    report, refusal = attempt(LAB, count, name, slug, values, labels)

    def method_on_real() -> Real:
        model = build(entry, labels)
        conv = any(isinstance(module, Conv1D) for module in model.modules())
        task = "SEQ_CLS" if labels is not None else task_type(entry.kind)
        config = cases.peft_config(slug, values, entry.shape, task, conv)
        return by_the_method(entry, slug, values, labels) if config is None else by_peft(model, config)

    if slug == "adapters" and report is not None:
        by_hand = cases.library_parameters(config, values)
        if by_hand not in (None, report.trainable):
            return asked, "wrong", f"counted {report.trainable}, by hand {by_hand}"

    real, peft = attempt(PEFT, method_on_real)
    return asked, *compare(report, refusal, real, peft)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_counts_are_pefts(tmp_path: Path, one_thread: None) -> None:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    print(f"seed {SEED}, {EXAMPLES} examples")
    types = sorted(str(getattr(kind, "value", kind)) for kind in PEFT_TYPE_TO_CONFIG_MAPPING)
    types = [kind for kind in types if kind not in cases.LEFT_OUT]
    wrong = []
    seen: Counter[str] = Counter()
    for number in range(EXAMPLES):
        random = Random(f"{SEED}-{number}")
        asked = "?"
        try:
            asked, ended, trouble = one(random, tmp_path / str(number), types)
        except Exception:  # noqa: BLE001 every other exception is a finding too
            ended, trouble = "wrong", traceback.format_exc()
        seen[ended] += 1
        if trouble:
            wrong.append(f"example {number}: {asked}\n    {trouble}")
    print(dict(seen))
    assert not wrong, f"{len(wrong)} of {EXAMPLES} (seed {SEED}):\n" + "\n".join(wrong)
    # Most random settings are to be counted: what is refused proves little.
    assert seen["counted"] > EXAMPLES / 2, dict(seen)
