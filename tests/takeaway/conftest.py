"""Two models of a few thousand parameters, and runs of them that take a second."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peft_lab.core import machine
from peft_lab.methods import get_method
from peft_lab.models.catalogue import resolve
from peft_lab.models.images import size_of
from peft_lab.models.meta import head_apart
from peft_lab.runs import child, course, store, training
from peft_lab.runs.spec import RunRequest
from peft_lab.runs.store import Run

Train = Callable[..., Run]
Plain = Callable[[str, str], Run]
KINDS = ("encoder", "causal-lm", "seq2seq")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a BERT, a Llama and a T5 with random weights and a byte-level tokenizer, by model kind."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import (
        BertConfig,
        BertModel,
        LlamaConfig,
        LlamaForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("tiny")
    size: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
    }
    models = {
        "encoder": BertModel(BertConfig(vocab_size=300, max_position_embeddings=160, **size)),
        "causal-lm": LlamaForCausalLM(
            LlamaConfig(
                vocab_size=300,
                max_position_embeddings=256,
                num_key_value_heads=2,
                tie_word_embeddings=True,
                **size,
            )
        ),
        # as FLAN-T5: heads that together are narrower than the model, and an output head of its own
        "seq2seq": T5ForConditionalGeneration(
            T5Config(
                vocab_size=300,
                d_model=64,
                d_kv=8,
                num_heads=4,
                d_ff=96,
                num_layers=2,
                feed_forward_proj="gated-gelu",
                **dict[str, Any](tie_word_embeddings=False, decoder_start_token_id=0),
            )
        ),
    }
    head_apart(models["seq2seq"], models["seq2seq"].config)
    torch.nn.init.normal_(models["seq2seq"].lm_head.weight, std=0.1)
    for kind, model in models.items():
        model.save_pretrained(folder / kind)
        tokenizer = byte_tokenizer()
        if kind == "encoder":  # as BERT's, whose texts end with a token of their own
            ends = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
            tokenizer.backend_tokenizer.post_processor = ends
        if kind == "causal-lm":
            tokenizer.chat_template = (
                "{% for turn in messages %}[{{ turn.role }}]{{ turn.content }}{% endfor %}>"
            )
        tokenizer.save_pretrained(folder / kind)
    return {kind: str(folder / kind) for kind in models}


def byte_tokenizer() -> Any:
    """A byte a token; the first two are the padding and the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(
        models.BPE({letter: number for number, letter in enumerate(letters)}, [], unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=160
    )


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A learner's file whose texts hold what could break a script: quotes, backslashes, line breaks, other scripts."""
    odd = (
        'it\'s "so" good',
        "back\\slash \\n",
        "two\nlines",
        "'''triple'''",
        "Ωmega \u2028 sep",
        '"""x""" #| y',
        "\u00e9t\u00e9",
    )
    path = tmp_path_factory.mktemp("reviews") / "reviews.jsonl"
    rows = [
        {
            "text": f"{odd[number % len(odd)]} {number} " + "very " * (number % 5),
            "label": ("bad", "good")[number % 2],
        }
        for number in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT_LAB_HOME that these tests share, so that a run can serve several of them."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture
def train(lab: Path, tiny: dict[str, str], reviews: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Carry out a short run in this process: ``train("encoder", "lora", {"r": 4}, steps=2)``."""
    import torch

    monkeypatch.setenv("PEFT_LAB_HOME", str(lab))
    # Whatever this processor would choose: the mixed precision is what scripts have to get right.
    monkeypatch.setattr(machine, "compute_dtype", lambda: torch.bfloat16)

    def carry_out(kind: str, method: str, values: dict[str, Any] | None = None, **settings: Any) -> Run:
        written = {"causal-lm": {"task": "json"}, "seq2seq": {"task": "fields"}}
        chosen = written.get(kind, {"task": "own", "own_data": str(reviews)})
        small = {"steps": 3, "batch": 4, "eval_rows": 5, "seed": 1}
        return finish(RunRequest(tiny[kind], method, **{**chosen, **small, **settings}, values=values or {}))

    return carry_out


def finish(spec: RunRequest) -> Run:
    """Check a spec, carry the run out in this process and keep its record."""
    run = store.create(spec.complete())
    run.log.emit("queued", owner={})
    child.end_run(run, *training.train(run))
    return run


@pytest.fixture(scope="session")
def plain_runs() -> dict[tuple[str, str], Run]:
    return {}


@pytest.fixture
def plain(train: Train, plain_runs: dict[tuple[str, str], Run], tiny: dict[str, str]) -> Plain:
    """A run of a method at its defaults, carried out once for all tests; skips where the method does not run."""

    def get(kind: str, slug: str) -> Run:
        if not runs_on(tiny[kind], slug):
            pytest.skip(f"{slug} does not run on this model")
        if (kind, slug) not in plain_runs:
            # Far above its usual rate a model that trains as a whole runs away, and rounding with it.
            plain_runs[kind, slug] = train(kind, slug, learning_rate=1e-3 if slug == "full" else 0.02)
        return plain_runs[kind, slug]

    return get


def runs_on(model: str, slug: str) -> bool:
    problems = get_method(slug).problems(resolve(model).shape, {})
    return not any(problem.level == "error" for problem in problems)


def assert_loads(run: Run, card: str, adapter: Path) -> None:
    """The card's code, carried out in the adapter's folder, makes the model that the lab's own loader makes of it.

    A base without a public name lies where the card says: a folder of that name beside.
    """
    import torch

    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found
    spec = run.spec
    beside = adapter.resolve() / Path(spec.model).name
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(adapter)
        beside.symlink_to(spec.model, target_is_directory=True)
        try:
            exec(found[1], names)
        finally:
            beside.unlink()
    base = course.fresh_base(spec, spec.task_object())
    # A short run trains with plain attention; the card loads the model as transformers does by default.
    model: Any = base.model
    model.set_attn_implementation("sdpa")
    wanted = get_method(spec.method).load(base.model, adapter).eval()
    if base.entry.kind == "vision":
        inputs = {"pixel_values": torch.rand(2, *size_of(base.entry.config))}
    else:
        ids = base.tokenizer(["one more row", "and one"], return_tensors="pt", padding=True)
        inputs = {name: ids[name] for name in ("input_ids", "attention_mask")}
    if base.entry.kind == "seq2seq":
        inputs["decoder_input_ids"] = ids["input_ids"].clone()
    with torch.no_grad():
        mine, its = names["model"](**inputs).logits, wanted(**inputs).logits
    torch.testing.assert_close(mine, its, atol=1e-6, rtol=0)
