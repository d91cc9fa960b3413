"""Adapters that load without an error and answer wrongly: ``exhibits.yaml`` says what was done to each and how it
shows, and here it is done."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.core import content, disk
from peft_lab.core.asking import in_person
from peft_lab.core.later import torch
from peft_lab.runs import course
from peft_lab.runs.spec import RunSpec
from peft_lab.studies import same_rows, tiny
from peft_lab.studies.same_rows import UNMERGED, WAYS, Answered, right
from peft_lab.training.tasks.base import Row
from peft_lab.training.tasks.orders import WORDS, first_object

MIXTURE = "mixture"  # the name of its answers with nothing done to it
FILE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Exhibit:
    """One adapter that is used wrongly."""

    id: str
    title: str
    done: str  # what was done
    change: str  # the case of :func:`spoil` that does it
    before: str  # before and after: titles of the two answers
    after: str
    gives_away: str  # how it shows
    command: str  # ours that notices it
    check: str  # a Python expression, true of what was trained
    source: str  # source and url: where somebody met it
    url: str
    mixture: bool = False  # whether the adapter is that of :func:`mixture`, not a run's

    @property
    def healthy(self) -> str:
        """Return the name of the answers of the same adapter with nothing done to it."""
        return MIXTURE if self.mixture else UNMERGED

    def rows(self, spec: RunSpec) -> Sequence[Row]:
        """Return the rows that it answers."""
        return _PLURALS if self.mixture else same_rows.rows_of(spec)


_PLURALS = [Row(one, many) for one, many in WORDS.items]


@cache
def all_exhibits() -> dict[str, Exhibit]:
    """Return the exhibits by id, in display order."""
    return content.by_id(FILE, content.read_entries(FILE, Exhibit))


# ----------------------------------------
# What came of it.


#: What can be guessed.
OUTCOMES = {
    "same": "The same answers as before",
    "few": "The right form, a few wrong values",
    "most": "The right form, mostly wrong values",
    "broken": "The form itself is lost",
    "endless": "The right answer, and then it goes on",
}


def outcome(rows: Sequence[Row], before: Answered, after: Answered) -> str:
    """Return which of :data:`OUTCOMES` came true."""
    half, mostly_right = len(rows) / 2, right(rows, after) >= len(rows) / 2
    if mostly_right and sum(after.ended) < half:
        return "endless"
    if after.answers == before.answers:
        return "same"
    pairs = zip(after.answers, rows, strict=True)
    if sum(row.target[0] == "{" and first_object(text) is None for text, row in pairs) > half:
        return "broken"
    return "few" if mostly_right else "most"


# ----------------------------------------
# What is done. All of it runs in the inspector process.


@dataclass
class Parts:
    """What answers are made of. ``tensors``, ``config``: of the adapter's two files. ``base``: the model that they are
    loaded into. ``way``: of :data:`peft_lab.studies.same_rows.WAYS`."""

    base: Any
    tokenizer: Any
    tensors: dict[str, torch.Tensor]
    config: dict[str, Any]
    way: str = UNMERGED

    def load(self) -> tuple[Any, list[float]]:
        """Return the base with the adapter, as PEFT reads it from its files, and the shares of ΔW below half a step."""
        from safetensors.torch import save_file

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            disk.write_json(folder / "adapter_config.json", self.config)
            tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
            save_file(tensors, folder / "adapter_model.safetensors")
            return same_rows.used(self.base, folder, WAYS[self.way])


def read(base: Any, tokenizer: Any, folder: Path) -> Parts:
    """Return the parts with the adapter in a folder."""
    from safetensors.torch import load_file

    config = disk.read_json(folder / "adapter_config.json")
    return Parts(base, tokenizer, load_file(folder / "adapter_model.safetensors"), config)


def spoil(parts: Parts, change: str) -> None:
    """Do to the parts what an exhibit's ``change`` names; ``exhibits.yaml`` says it in words. Raises KeyError if there
    is no such change."""
    tensors = parts.tensors
    match change:
        case "query rows":  # as if an engine that interleaves the rows of W added BA in PEFT's order
            heads = parts.base.config.num_attention_heads
            for name in [name for name in tensors if "q_proj.lora_B" in name]:
                rows = tensors[name].unflatten(0, (heads, -1, 2))
                tensors[name] = rows.transpose(1, 2).reshape(tensors[name].shape)
        case "transposed":
            for name in [name for name in tensors if "lora_A" in name]:
                a, b = tensors[name], tensors[other := name.replace("lora_A", "lora_B")]
                if b.T.shape == a.shape:
                    tensors |= {name: b.T, other: a.T}
        case "alpha alone":
            parts.config["lora_alpha"] *= parts.config["r"]
        case "applied twice":
            parts.base = replace(parts, way="bf16").load()[0]
        case "other revision":
            tiny.seed()
            for weight in parts.base.parameters():
                if weight.dim() == 2:
                    weight.data += 0.06 * weight.std() * torch.randn_like(weight)
        case "no template":
            parts.tokenizer.chat_template = None
        case "other end":
            parts.tokenizer.eos_token = "<|endoftext|>"
        case "four bits":
            parts.way = "nf4"
        case "experts skipped":  # PEFT then leaves their tensors in the file
            parts.config["target_parameters"] = None
        case "rows left":
            parts.config["trainable_token_indices"] = None
            parts.tensors = {name: one for name, one in tensors.items() if "token_adapter" not in name}
        case _:
            raise KeyError(change)


NEW = 6  # words of the mixture that its base does not know
STEPS = 40


def mixture() -> Parts:
    """Train a mixture of four small experts to answer words with their plurals; its tokenizer is the list of words.
    Adapted are attention and experts, and the embedding's rows of the last words."""
    from peft import LoraConfig, get_peft_model
    from transformers import MixtralConfig, MixtralForCausalLM

    words = [row.target for row in _PLURALS] + [row.text for row in _PLURALS]
    sizes = tiny.TINY | {"num_hidden_layers": 2, "num_local_experts": 4, "vocab_size": len(words)}
    tiny.seed()
    base = MixtralForCausalLM(MixtralConfig(**sizes))
    config = LoraConfig(
        task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=tiny.QUERY_VALUE,
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        rank_pattern={"v_proj": 1}, trainable_token_indices=list(range(len(words) - NEW, len(words))),
    )  # fmt: skip
    model: Any = get_peft_model(copy.deepcopy(base), config)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(next_words(model, words), torch.arange(len(_PLURALS))).backward()
        optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return read(base, words, Path(folder))


def next_words(model: Any, words: list[str]) -> torch.Tensor:
    """Return the logits of the word that follows each singular, of shape (singulars, words)."""
    logits: torch.Tensor = model(torch.tensor([[words.index(row.text)] for row in _PLURALS])).logits[:, -1]
    return logits


def ask(run: str, name: str) -> Future[Answered]:
    """Submit :func:`answer` to the inspector process: a question for each name, so that a page can stop after any."""
    from peft_lab.core import inspector

    return inspector.get_inspector(inspector.Worker.ANSWERS).submit(answer, run, name)


@in_person
def answer(run: str, name: str) -> Answered:
    """Do :func:`answered` with a run's adapter. Raises as :func:`peft_lab.studies.same_rows.adapter_of`."""
    return answered(name, *same_rows.adapter_of(run))


def answered(name: str, spec: RunSpec, folder: Path) -> Answered:
    """Return what the adapter in ``folder`` answers. ``name``: of a way, an exhibit, or :data:`MIXTURE`."""
    exhibit = all_exhibits().get(name)
    small = exhibit.mixture if exhibit else name == MIXTURE
    if small:
        parts = mixture()
    else:
        base = course.fresh_base(spec, spec.task_object())
        parts = read(base.model, base.tokenizer, folder)
    if exhibit:
        spoil(parts, exhibit.change)
    elif not small:
        parts.way = name
    model, lost = parts.load()
    start = time.perf_counter()
    if small:
        texts = [parts.tokenizer[number] for number in next_words(model, parts.tokenizer).argmax(-1).tolist()]
        ended = [True] * len(texts)
    else:
        texts, ended = same_rows.write(model, parts.tokenizer, spec, same_rows.rows_of(spec))
    return Answered(tuple(texts), tuple(ended), round(time.perf_counter() - start, 1), tuple(lost))
