"""A run as it was meant: its model, its adapter, its rows, as a script of one's own would have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from peft_lab.interview.clinic.faults import Moment
from peft_lab.models import loading
from peft_lab.models.catalogue import resolve
from peft_lab.runs.course import seed_everything
from peft_lab.training import batches
from peft_lab.training.batches import IGNORED, Encoded
from peft_lab.training.tasks import get_task

ENCODER, WRITER = "minilm-l6", "smollm2-135m"
#: A Llama of two layers, trained for a moment on the same rows: quick enough for hundreds of runs. It reads SmolLM2's
#: tokens, folded into a small vocabulary.
TINY, VOCABULARY = "tiny-llama", 512
TARGETS = {
    ENCODER: ("query", "key", "value", "attention.output.dense", "intermediate.dense"),
    WRITER: ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    TINY: ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
IA3 = {ENCODER: (["key", "value", "intermediate.dense"], ["intermediate.dense"]),
       WRITER: (["k_proj", "v_proj", "down_proj"], ["down_proj"]),
       TINY: (["k_proj", "v_proj", "down_proj"], ["down_proj"])}  # fmt: skip


@dataclass
class Setup:
    """A run as it was meant, and what is done to it.

    Attributes:
        method: full, lora, adalora, ia3, prefix or prompt. rate: peak learning rate. accumulate: passes of a step.
        mask: which labels are kept: "answer", "everything" (the prompt, too), "padding" (all but the pad token, by its
            id), "nothing".
        config: fields of the adapter's config that are set otherwise. told: training arguments that are written down.
        before: told the model before it is wrapped, after: the wrapped one; save: in place of ``save_pretrained``.
        planned: updates that the schedule is planned for; ``None``: those that are made. resumed: an adapter that was
            saved before. handed: what is made of the model before it is saved. tokens: added to the tokenizer, each in
            some rows. template: of chats, in which prompts are written. named: the base, in the adapter's config.
        mend: lines that mend it, by :data:`peft_lab.interview.clinic.faults.MOMENTS`.
    """

    model: str = ENCODER
    method: str = "lora"
    task: str = "sentiment"
    rate: float = 1e-3
    steps: int = 30
    batch: int = 8
    accumulate: int = 1
    seed: int = 0
    rank: int = 8
    targets: tuple[str, ...] = ("query", "value")
    dtype: str = "float32"
    layers: int = 0
    schedule: str = "linear"
    warmup: int = 0
    mask: str = "answer"
    evaluate: bool = False
    dropout: float = 0.0
    summed: bool = False
    early_optimizer: bool = False
    optim: str = "adamw_torch_fused"
    config: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    before: Callable[[Any], None] | None = None
    after: Callable[[Any], Any] | None = None
    save: Callable[[Any, Path], None] | None = None
    planned: int | None = None
    resumed: Path | None = None
    handed: Callable[[Any], Any] | None = None
    tokens: tuple[str, ...] = ()
    template: str = ""
    named: str = ""
    mend: Mapping[Moment, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "classification" if self.model == ENCODER else "generation"


def base_of(setup: Setup) -> loading.Base:
    """A fresh base, its random head included."""
    import torch

    seed_everything(setup.seed)
    if setup.model == TINY:
        return fitted(setup, tiny(setup.dtype))
    labels = 2 if setup.kind == "classification" else None
    base = loading.load_base(setup.model, labels, dtype=getattr(torch, setup.dtype), attention="eager")
    model: Any = base.model
    model.config.name_or_path = model.name_or_path = setup.model
    model.config.use_cache = False
    if setup.layers:  # the first layers of the real model: enough to learn from, and quick
        model.bert.encoder.layer = model.bert.encoder.layer[: setup.layers]
        model.config.num_hidden_layers = setup.layers
    return fitted(setup, base)


def fitted(setup: Setup, base: loading.Base) -> loading.Base:
    """The same base, its tokenizer with what the setup adds to it."""
    if setup.named:
        model: Any = base.model
        model.config.name_or_path = model.name_or_path = setup.named
    base.tokenizer.chat_template = setup.template or base.tokenizer.chat_template
    if setup.tokens:
        base.tokenizer.add_tokens(list(setup.tokens))
    return base


def mended(setup: Setup, moment: Moment, **names: Any) -> dict[str, Any] | None:
    """Run the lines that mend this moment, which find ``names``, and give all names after it; ``None`` without any."""
    if moment not in setup.mend:
        return None
    exec(compile(setup.mend[moment], f"<fix: {moment}>", "exec"), names)
    return names


def tiny(dtype: str) -> loading.Base:
    """The small writer, ready to be fine-tuned."""
    import torch
    from transformers import LlamaForCausalLM

    writer = resolve(WRITER)
    model = LlamaForCausalLM(_tiny_config())
    model.load_state_dict(_tiny_weights())
    model.to(getattr(torch, dtype))
    model.config.name_or_path = model.name_or_path = TINY
    return loading.Base(model, deepcopy(_writers_tokenizer()), writer, model.dtype, "cpu")


@cache
def _writers_tokenizer() -> Any:
    return loading.load_tokenizer(loading.weights_of(WRITER))


@cache
def splits_of(task: str) -> Any:
    return get_task(task).load()


def _tiny_config() -> Any:
    from transformers import LlamaConfig

    made: Any = LlamaConfig
    return made(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, attn_implementation="eager", use_cache=False,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip


@cache
def _tiny_weights() -> dict[str, Any]:
    """Of the same model after 150 steps of full training on rows of another task."""
    import torch
    from transformers import LlamaForCausalLM

    seed_everything(0)
    model = LlamaForCausalLM(_tiny_config())
    setup = Setup(model=TINY, task="style", mask="everything", steps=150, batch=4)
    base = loading.Base(model, _writers_tokenizer(), resolve(WRITER), model.dtype, "cpu")
    rows, collate = rows_of(setup, base), collator(setup, base)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(setup.steps):
        optimizer.zero_grad()
        picked = [rows[(step * setup.batch + number) % len(rows)] for number in range(setup.batch)]
        model(**collate(picked)).loss.backward()
        optimizer.step()
    return dict(model.state_dict())


def config_of(setup: Setup) -> Any:
    """The adapter's config; ``None`` for full fine-tuning."""
    import peft

    given: dict[str, Any] = {"task_type": "SEQ_CLS" if setup.kind == "classification" else "CAUSAL_LM"}
    if setup.method in ("lora", "adalora"):
        given |= {
            "target_modules": list(setup.targets),
            "lora_alpha": 2 * setup.rank,
            "lora_dropout": setup.dropout,
        }
    if setup.method == "lora":
        return peft.LoraConfig(**{**given, "r": setup.rank, **setup.config})
    if setup.method == "adalora":
        steps = {"tinit": 2, "tfinal": 5, "deltaT": 2, "total_step": setup.steps}
        ranks = {"init_r": setup.rank, "target_r": max(1, setup.rank // 2)}
        return peft.AdaLoraConfig(**{**given, **steps, **ranks, **setup.config})
    if setup.method == "ia3":
        targets, forward = IA3[setup.model]
        return peft.IA3Config(
            **{**given, "target_modules": targets, "feedforward_modules": forward, **setup.config}
        )
    if setup.method == "prefix":
        return peft.PrefixTuningConfig(**{**given, "num_virtual_tokens": 10, **setup.config})
    if setup.method == "prompt":
        return peft.PromptTuningConfig(**{**given, "num_virtual_tokens": 10, **setup.config})
    return None


def rows_of(setup: Setup, base: loading.Base, held_out: bool = False) -> list[dict[str, Any]]:
    """Encoded rows with their labels, masked as the setup has it."""
    task = get_task(setup.task)
    split = splits_of(setup.task)
    wanted = split.test[:16] if held_out else split.train[: setup.steps * setup.batch * setup.accumulate]
    length = 32 if setup.kind == "classification" else min(96, task.max_length)
    encoded = batches.encode(task, wanted, base.tokenizer, length)
    if setup.model == TINY:
        encoded = [
            replace(row, ids=tuple(fold(each, base.tokenizer.eos_token_id) for each in row.ids))
            for row in encoded
        ]
    if setup.tokens:  # behind [CLS], one a row
        new: Any = base.tokenizer.convert_tokens_to_ids(list(setup.tokens))
        encoded = [
            replace(row, ids=(row.ids[0], new[number % len(new)], *row.ids[1:]))
            for number, row in enumerate(encoded)
        ]
    return [{"row": row} for row in encoded]


def fold(token: int, end: int | None) -> int:
    """A token of SmolLM2's in the small vocabulary; its end token is 2."""
    return 2 if token == end else 3 + token % (VOCABULARY - 3)


def collator(setup: Setup, base: loading.Base) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Rows as a padded batch."""
    import torch

    pad = loading.pad_token(base.tokenizer)
    pad = fold(pad, pad) if setup.model == TINY else pad

    def collate(given: list[dict[str, Any]]) -> dict[str, Any]:
        rows: list[Encoded] = [each["row"] for each in given]
        longest = max(map(len, rows))
        ids = torch.tensor([[*row.ids, *[pad] * (longest - len(row))] for row in rows])
        attention = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        if setup.kind == "classification":
            return {
                "input_ids": ids,
                "attention_mask": attention,
                "labels": torch.tensor([row.label for row in rows]),
            }
        labels = ids.clone()
        labels[attention == 0] = IGNORED
        if setup.mask != "everything":
            for number, row in enumerate(rows):
                labels[number, : row.prompt] = IGNORED
        if setup.mask == "padding":
            labels[labels == pad] = IGNORED
        if setup.mask == "nothing":
            labels[:] = IGNORED
        batch = {"input_ids": ids, "attention_mask": attention, "labels": labels}
        mended(setup, "batch", batch=batch, prompt_lengths=[row.prompt for row in rows])
        return batch

    return collate
