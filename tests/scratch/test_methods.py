"""Each method from scratch beside the lab's own: the same start, batches, rate and optimizer give the same losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from peft_lab.methods import get_method
from peft_lab.methods.base import MethodSpec
from peft_lab.models import meta, quantise
from peft_lab.models.heads import TaskType
from peft_lab.models.shapes import ModelKind, ModelShape
from peft_lab.scratch import adapters, bitfit, ia3, lora, prefix, prompt, ptuning, qlora
from peft_lab.training.batches import loss_of
from peft_lab.training.step import Masters, train_step

pytestmark = pytest.mark.usefixtures("one_thread")
VOCAB, STEPS, N, RATE = 50, 5, 6, 1e-2
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
#: As wide as a block of NF4, which bitsandbytes' CPU kernels need.
MODELS: dict[str, tuple[ModelKind, dict[str, Any]]] = {
    "llama": (
        "causal-lm",
        {
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 64,
        },
    ),
    "bert": (
        "encoder",
        {
            "model_type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": VOCAB, "max_position_embeddings": 64, "num_labels": 2,
        },
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A method, its settings in the lab, the same thing from scratch, and what reads a saved one.

    ``stored``: how many numbers are saved, if not those that are trained.
    """

    slug: str
    mine: Any
    wrap: Callable[[Any], Any]
    values: dict[str, Any] = field(default_factory=dict)
    model: str = "llama"
    stored: int | None = None


def wrapped(module: Any, *args: Any, **options: Any) -> Callable[[Any], Any]:
    """What wraps a model in place, or gives a new one."""
    return lambda model: module.wrap(model, *args, **options) or model


TOKENS = {"num_virtual_tokens": N}
IDS = torch.arange(3, 3 + N)
CASES = {
    "lora": Case(
        "lora", lora, wrapped(lora, ("q_proj", "v_proj"), r=4, alpha=8),
        {"r": 4, "lora_alpha": 8, "target_modules": ("q_proj", "v_proj")},
    ),
    "qlora": Case(
        "qlora", qlora, wrapped(qlora, LINEAR, r=4, alpha=8),
        {"r": 4, "lora_alpha": 8, "bnb_4bit_use_double_quant": False, "bnb_4bit_compute_dtype": "float32"},
    ),
    "prefix": Case("prefix", prefix, wrapped(prefix, IDS), {**TOKENS, "init_weights": "random"}),
    "prefix-mlp": Case(
        "prefix", prefix, lambda model: prefix.wrap_with_mlp(model, N, width=16),
        {**TOKENS, "init_weights": "random", "prefix_projection": True, "encoder_hidden_size": 16},
        stored=N * 2 * 2 * 32,
    ),
    "prompt": Case("prompt", prompt, wrapped(prompt, IDS), {**TOKENS, "prompt_tuning_init": "RANDOM"}),
    "ptuning": Case(
        "ptuning", ptuning, wrapped(ptuning, N, h=16),
        {**TOKENS, "encoder_hidden_size": 16, "init_weights": "random"}, stored=N * 64,
    ),
    "adapters": Case("adapters", adapters, wrapped(adapters, ("o_proj", "down_proj"), m=8), {"bottleneck": 8}),
    "ia3": Case("ia3", ia3, wrapped(ia3, outputs=("k_proj", "v_proj"), inputs=("down_proj",))),
    "bitfit": Case("bitfit", bitfit, wrapped(bitfit, head=("classifier",)), model="bert"),
}  # fmt: skip


def shape_of(name: str) -> ModelShape:
    kind, values = MODELS[name]
    config = meta.make_config(values)
    return meta.read_shape(meta.build(config, kind), config, kind, name, name)


def fresh(name: str) -> Any:
    """The same random weights at each call."""
    kind, values = MODELS[name]
    auto: Any = transformers.AutoModelForCausalLM
    if kind == "encoder":
        auto = transformers.AutoModelForSequenceClassification
    torch.manual_seed(0)
    model = auto.from_config(meta.make_config(values), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def in_lab(case: Case) -> tuple[Any, MethodSpec, dict[str, Any]]:
    spec, shape, model = get_method(case.slug), shape_of(case.model), fresh(case.model)
    values = spec.require(shape, case.values)
    how = spec.quantization(values)
    if how is not None:
        quantise.quantise(model, how)
    task: TaskType = "CAUSAL_LM" if case.model == "llama" else "SEQ_CLS"
    return spec.apply(model, shape, values, task), spec, values


def batches(name: str) -> list[dict[str, torch.Tensor]]:
    """Rows with padding, a prompt that is not in the loss, and other tokens in each."""
    random = torch.Generator().manual_seed(1)
    made = []
    for _ in range(STEPS):
        ids = torch.randint(3, VOCAB, (3, 9), generator=random)
        mask = torch.ones_like(ids)
        mask[1, 6:] = 0
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, :3] = -100
        if name == "bert":
            labels = ids[:, 0] % 2
        made.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return made


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def copy_start(theirs: nn.Module, mine: nn.Module) -> None:
    """Both have their trained parameters in the order of the model's modules."""
    for lab, own in zip(trained(theirs).values(), trained(mine).values(), strict=True):
        own.data.copy_(lab.detach().view_as(own))


def lab_losses(model: Any, rows: list[dict[str, torch.Tensor]]) -> Iterator[float]:
    """As a run makes its steps (``runs.course``), at a constant rate and without clipping."""
    masters = Masters(model.train())
    optimizer = torch.optim.AdamW(masters.groups(RATE, None), lr=RATE, weight_decay=0.0, fused=True)
    for batch in rows:
        yield float(train_step(model, batch, loss_of, masters, optimizer)[0])


def logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch).logits


@pytest.mark.parametrize("name", CASES)
def test_losses_and_counts_are_those_of_the_lab(name: str) -> None:
    case = CASES[name]
    theirs, spec, values = in_lab(case)
    mine = case.wrap(fresh(case.model))
    copy_start(theirs, mine)
    head = sum(p.numel() for path, p in trained(mine).items() if path.startswith("classifier"))
    own = sum(parameter.numel() for parameter in trained(mine).values()) - head
    assert own == spec.formula(shape_of(case.model), values).trainable
    rows = batches(case.model)
    losses = case.mine.train(mine, rows, lr=RATE)
    assert losses == pytest.approx(list(lab_losses(theirs, rows)), abs=1e-5)
    assert losses[0] != pytest.approx(losses[-1], abs=1e-3)
    torch.testing.assert_close(logits(mine, rows[0]), logits(theirs, rows[0]), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_what_is_saved_is_what_was_trained_and_gives_the_same_answers(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = case.wrap(fresh(case.model))
    rows = batches(case.model)
    case.mine.train(model, rows, lr=RATE)
    file = str(tmp_path / "trained.pt")
    case.mine.save(model, file)
    saved = torch.load(file)
    tensors = [saved] if isinstance(saved, torch.Tensor) else list(saved.values())
    stored = case.stored or sum(parameter.numel() for parameter in trained(model).values())
    assert sum(tensor.numel() for tensor in tensors) == stored
    again = fresh(case.model)
    torch.manual_seed(7)  # another start, which must not matter
    if case.mine in (prefix, prompt, ptuning):
        again = case.mine.load(again, file)
    else:
        again = case.wrap(again)
        case.mine.load(again, file)
    torch.testing.assert_close(logits(again, rows[0]), logits(model, rows[0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_merging_keeps_the_answers_and_leaves_the_model_as_it_was_built(name: str) -> None:
    case = CASES[name]
    model = case.wrap(fresh(case.model))
    rows = batches(case.model)
    case.mine.train(model, rows, lr=RATE)
    before, start = logits(model, rows[0]), logits(fresh(case.model), rows[0])
    case.mine.merge(model)
    assert [path for path, _ in model.named_modules()] == [
        path for path, _ in fresh(case.model).named_modules()
    ]
    torch.testing.assert_close(logits(model, rows[0]), before, atol=1e-5, rtol=0)
    assert (before - start).abs().max() > 1e-2


def test_a_factor_on_an_output_scales_its_bias_too() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    ia3.wrap(model, outputs=("0",), inputs=("none",))
    x = torch.randn(4, 3)
    next(iter(ia3.trained(model).values())).data.copy_(torch.tensor([2.0, 0.5]))
    before = model(x)
    ia3.merge(model)
    torch.testing.assert_close(model(x), before)


def test_a_prefix_that_starts_from_a_text_is_that_text_read_before() -> None:
    batch = batches("llama")[0]
    model = fresh("llama").eval()
    length = batch["input_ids"].shape[1]
    whole = torch.cat([IDS.expand(3, -1), batch["input_ids"]], dim=1)
    mask = torch.cat([torch.ones(3, N, dtype=torch.long), batch["attention_mask"]], dim=1)
    expected = logits(model, {"input_ids": whole, "attention_mask": mask})[:, -length:]
    found = logits(prefix.wrap(model, IDS), batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=0)


def test_a_prompt_says_the_words_that_it_starts_from() -> None:
    assert torch.equal(prompt.nearest_tokens(prompt.wrap(fresh("llama"), IDS)), IDS)


def test_a_model_without_biases_has_nothing_for_bitfit() -> None:
    with pytest.raises(AssertionError, match="biases"):
        bitfit.wrap(fresh("llama"))


def test_the_frozen_base_is_not_kept_between_the_passes() -> None:
    """Autograd keeps bytes of 4-bit weights and activations, but no whole matrix."""
    model = CASES["qlora"].wrap(fresh("llama"))
    kept: list[tuple[int, ...]] = []
    row = batches("llama")[0]

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(**row).loss.backward()
    matrices = {(64, 64), (32, 64), (128, 64), (64, 128)}
    assert not matrices & set(kept) and not matrices & {shape[::-1] for shape in kept}
